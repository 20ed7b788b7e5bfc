/**
 * A function for Node.js that streams: `{"bytes": N}` in pieces of 64 KiB, after a first byte alone; `{"hold": true}`
 * does not end. Speaks the Runtime API by itself, as AWS's client does it: chunks over `node:http`.
 */
export const streamFunction = `
const http = require('http');
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const agent = new http.Agent({ keepAlive: true });
const piece = Buffer.alloc(65536, 'x');
const ask = (method, path, headers, take) =>
  http.request({ host, port, agent, method, headers, path: '/2018-06-01/runtime/invocation/' + path }, take);
const next = () => ask('GET', 'next', {}, (answer) => {
  const chunks = [];
  answer.on('data', (chunk) => chunks.push(chunk));
  answer.on('end', () => {
    const event = JSON.parse(Buffer.concat(chunks).toString());
    const out = ask('POST', answer.headers['lambda-runtime-aws-request-id'] + '/response', {
      'Lambda-Runtime-Function-Response-Mode': 'streaming',
      'Content-Type': 'application/octet-stream',
      'Transfer-Encoding': 'chunked',
    }, (told) => { told.resume(); told.on('end', next); });
    out.on('error', () => process.exit(1));
    out.write('x');
    let left = (event.bytes || 0) / 65536;
    const more = () => {
      while (left > 0) {
        left -= 1;
        if (!out.write(piece)) { out.once('drain', more); return; }
      }
      if (!event.hold) out.end();
    };
    more();
  });
}).end();
next();
`;

/** A plain HTTP server that writes the same; prints its port. */
export const plainStreamServer = `
const http = require('http');
const piece = Buffer.alloc(65536, 'x');
const server = http.createServer((request, out) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    out.write('x');
    let left = (JSON.parse(Buffer.concat(chunks).toString()).bytes || 0) / 65536;
    const more = () => {
      while (left > 0) {
        left -= 1;
        if (!out.write(piece)) { out.once('drain', more); return; }
      }
      out.end();
    };
    more();
  });
});
server.keepAliveTimeout = 0;
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
`;
