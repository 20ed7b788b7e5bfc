import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { parseIpRange } from '../../../src/common/net/ip-range.ts';
import { DEFAULT_LIMIT_FLAGS, gatewayLimits } from '../../../src/gateway/admission/gateway-limits.ts';
import { createAccessLog } from '../../../src/gateway/telemetry/access-log.ts';
import { functionFixture } from '../../support/function-fixture.ts';
import { converse } from '../../support/raw-http.ts';
import { recordingLogger } from '../../support/recording-logger.ts';
import { eventsOf, HELLO, OPEN, urlLab } from '../../support/url-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const MIB = 2 ** 20;

describe('a function URL', () => {
  it('runs the function with the event of the request, and answers with what it returns', async () => {
    const lab = await urlLab();
    lab.agent.onInvoke((call) =>
      call.answer(
        JSON.stringify({
          statusCode: 201,
          headers: { 'X-Custom': 'value', 'Content-Type': 'text/plain' },
          cookies: ['a=1; Path=/', 'b=2'],
          body: 'made',
        }),
      ),
    );
    const reply = await lab.callUrl({
      method: 'POST',
      path: '/my/path?a=b',
      headers: { 'content-type': 'application/json', cookie: 'c=d' },
      body: '{"key":1}',
    });
    expect(reply).toMatchObject({
      status: 201,
      body: 'made',
      headers: {
        'x-custom': 'value',
        'content-type': 'text/plain',
        'content-length': '4',
        'set-cookie': ['a=1; Path=/', 'b=2'],
        'x-amzn-requestid': expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
        'x-amzn-trace-id': expect.stringContaining('Root=') as string,
      },
    });
    const [event] = eventsOf(lab);
    expect(event).toMatchObject({
      version: '2.0',
      rawPath: '/my/path',
      rawQueryString: 'a=b',
      cookies: ['c=d'],
      body: '{"key":1}',
      isBase64Encoded: false,
      requestContext: {
        accountId: 'anonymous',
        domainName: HELLO,
        requestId: reply.headers['x-amzn-requestid'],
        http: { method: 'POST', sourceIp: '127.0.0.1' },
      },
    });
    expect(lab.agent.calls[0]?.requestId).toBe(reply.headers['x-amzn-requestid']);
  });

  it('answers JSON without a status as the body, and tells nothing of workers', async () => {
    const lab = await urlLab();
    lab.agent.onInvoke((call) => call.answer('{"message": "Hello, world!"}'));
    const { body, headers, status } = await lab.callUrl();
    expect({ body, status }).toEqual({ status: 200, body: '{"message": "Hello, world!"}' });
    expect(headers['content-type']).toBe('application/json');
    expect(Object.keys(headers).filter((name) => name.startsWith('x-esb') || name === 'server-timing')).toEqual([]);
  });

  it('calls the function by the name of its resource, whatever callers of the Lambda API call it', async () => {
    const lab = await urlLab();
    await lab.addWorker('other-1', { functionName: 'Other_Name' });
    const { spec, ...rest } = functionFixture({ name: 'other', spec: { url: OPEN } });
    lab.functions.put({ ...rest, spec: { ...spec, functionName: 'Other_Name' } });
    expect((await lab.callUrl({ host: 'OTHER.default.fn.example.com:443' })).status).toBe(200);
  });

  it('has bytes in base64 in both directions', async () => {
    const lab = await urlLab();
    lab.agent.onInvoke((call) => call.answer('{"statusCode":200,"body":"//4=","isBase64Encoded":true}'));
    const sent = Buffer.from([0, 0xff, 1]);
    const reply = await lab.callUrl({ method: 'PUT', headers: { 'content-type': 'image/png' }, body: sent });
    expect(reply.body).toBe('\xff\xfe');
    expect(eventsOf(lab)).toMatchObject([{ body: sent.toString('base64'), isBase64Encoded: true }]);
  });

  it('sends no body with HEAD, nor with a status that has none', async () => {
    const lab = await urlLab();
    expect(await lab.callUrl({ method: 'HEAD' })).toMatchObject({
      status: 200,
      body: '',
      headers: { 'content-length': '2' },
    });
    lab.agent.onInvoke((call) => call.answer('{"statusCode":200,"headers":{"content-length":"7"},"body":""}'));
    const head = await lab.callUrl({ method: 'HEAD' });
    expect(head).toMatchObject({ status: 200, body: '' });
    expect(head.headers).not.toHaveProperty('content-length');
    lab.agent.onInvoke((call) => call.answer('{"statusCode":204}'));
    const none = await lab.callUrl({ method: 'DELETE' });
    expect(none).toMatchObject({ status: 204, body: '' });
    expect(none.headers).not.toHaveProperty('content-length');
  });

  it('is no door to the Lambda API, which is none to it', async () => {
    const lab = await urlLab();
    const path = '/2015-03-31/functions/hello/invocations';
    expect((await lab.callUrl({ method: 'POST', path, host: '127.0.0.1' })).status).toBe(403);
    await lab.callUrl({ method: 'POST', path, body: '{"a":1}' });
    expect(eventsOf(lab)).toMatchObject([{ version: '2.0', rawPath: path }]);
    const other = await fetch(`${lab.url}/`, { headers: { host: HELLO } });
    expect(other.status).toBe(404);
  });

  it('gives up a call with its client', async () => {
    const lab = await urlLab();
    const begun = Promise.withResolvers<Promise<void>>();
    lab.agent.onInvoke((call) => begun.resolve(call.cancelled));
    const hangUp = new AbortController();
    const reply = lab.callUrl({ signal: hangUp.signal });
    const cancelled = begun.promise.then((end) => end);
    await waitFor('the call', () => lab.agent.calls.length === 1, { everyMs: 5 });
    hangUp.abort();
    await expect(reply).rejects.toThrow();
    await cancelled;
  });

  it('takes no request with two hosts, of which a proxy may have gone by the other', async () => {
    const lab = await urlLab();
    const lines = [
      'GET / HTTP/1.1',
      `Host: ${HELLO}`,
      'Host: other.default.fn.example.com',
      'Connection: close',
      '',
      '',
    ];
    const socket = connect(lab.urlPort, '127.0.0.1');
    socket.write(lines.join('\r\n'));
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /);
    expect(lab.agent.calls).toEqual([]);
  });

  it.each([
    ['has letters that are not encoded', ['GET /ä HTTP/1.1', `Host: ${HELLO}`]],
    [
      'has a body in a coding that the function would not know of',
      ['POST / HTTP/1.1', `Host: ${HELLO}`, 'Transfer-Encoding: gzip, chunked', '', '0'],
    ],
    [
      'has two lengths',
      ['POST / HTTP/1.1', `Host: ${HELLO}`, 'Content-Length: 0', 'Transfer-Encoding: chunked', '', '0'],
    ],
    ['names the host in its target', [`GET http://${HELLO}/ HTTP/1.1`, `Host: ${HELLO}`]],
  ])('takes no request that %s', async (_what, lines) => {
    const lab = await urlLab();
    const pieces = [Buffer.from([...lines, '', ''].join('\r\n'))];
    const { answers } = await converse(
      lab.urlPort,
      { pieces, gapMs: 0, ending: 'Wait' },
      { answers: 1, quietMs: 10_000 },
    );
    expect(answers).toMatchObject([{ status: 400 }]);
    expect(lab.agent.calls).toEqual([]);
  });

  it('takes a request that would rather have another protocol, with its body, and the next one', async () => {
    const lab = await urlLab();
    const upgrade = ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAAA'];
    const pieces = [
      ['POST / HTTP/1.1', `Host: ${HELLO}`, ...upgrade, 'Content-Length: 4', '', 'body'],
      ['GET /next HTTP/1.1', `Host: ${HELLO}`, '', ''],
    ].map((lines) => Buffer.from(lines.join('\r\n')));
    const { answers } = await converse(
      lab.urlPort,
      { pieces, gapMs: 50, ending: 'Wait' },
      { answers: 2, quietMs: 10_000 },
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
    expect(eventsOf(lab)).toMatchObject([{ body: 'Ym9keQ==' }, { rawPath: '/next' }]);
    expect(eventsOf(lab)[0]?.headers).not.toHaveProperty('upgrade');
  });

  it('answers bytes that are no HTTP as it answers requests', async () => {
    const lab = await urlLab();
    const socket = connect(lab.urlPort, '127.0.0.1');
    socket.write('NONSENSE\r\n\r\n');
    const said = await text(socket);
    expect(said).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(said).toMatch(/\r\nx-amzn-requestid: [0-9a-f-]{36}\r\n/);
    expect(said).toMatch(/\r\n\r\n{"Message":"Bad Request"}$/);
    expect(said).not.toMatch(/errortype|__type/i);
    const long = connect(lab.urlPort, '127.0.0.1');
    long.write(`GET / HTTP/1.1\r\nHost: ${HELLO}\r\nX: ${'x'.repeat(40_000)}\r\n\r\n`);
    expect(await text(long)).toMatch(/^HTTP\/1\.1 431 .*{"Message":"Request Header Fields Too Large"}$/s);
  });

  it('gives the function the trace of the call, and not one that a stranger has named', async () => {
    const lab = await urlLab();
    const reply = await lab.callUrl({
      headers: { 'x-amzn-trace-id': 'Root=1-67891233-abcdef012345678912345678;Sampled=1' },
    });
    const [{ headers } = { headers: {} }] = eventsOf(lab) as { headers: Record<string, string> }[];
    expect(headers['x-amzn-trace-id']).toBe(lab.agent.calls[0]?.traceId);
    expect(headers['x-amzn-trace-id']).toBe(reply.headers['x-amzn-trace-id']);
    expect(headers['x-amzn-trace-id']).not.toContain('67891233');
  });

  it('cuts a request that shows a fault of the gateway, and goes on', async () => {
    let isFaulty = true;
    const isPublic = (): boolean => {
      if (isFaulty) {
        throw new Error('a fault');
      }
      return true;
    };
    const lab = await urlLab(OPEN, { urls: { isPublic } });
    await expect(lab.callUrl()).rejects.toThrow('socket hang up');
    isFaulty = false;
    expect(await lab.callUrl()).toMatchObject({ status: 200 });
    await waitFor('no request to be held', async () =>
      (await lab.gateway.metrics.page()).text.includes('esb_gateway_requests 0'),
    );
  });

  it('is counted and logged as an operation of its own', async () => {
    const lines: string[] = [];
    const lab = await urlLab(OPEN, {
      gateway: {
        observation: {
          listeners: [
            {
              answered: ({ info, functionName }, { result, status }) =>
                lines.push(`${info.operation} ${functionName} ${result} ${status}`),
            },
          ],
          tracing: undefined,
          maxFunctions: 10,
        },
      },
    });
    await lab.callUrl();
    await lab.callUrl({ host: 'nobody.default.fn.example.com' });
    expect(lines).toEqual(['InvokeFunctionUrl hello ok 200', 'InvokeFunctionUrl  AccessDeniedException 403']);
    const { text } = await lab.gateway.metrics.page();
    expect(text).toContain('esb_gateway_requests_total{operation="InvokeFunctionUrl",status="200"} 1');
    expect(text).toContain('esb_gateway_calls_total{function="hello",outcome="ok",start="warm"} 1');
  });
});

describe('the access log of URLs', () => {
  it('has the client that a proxy of the operator names, and no query, cookie or proof', async () => {
    const { logger, lines } = recordingLogger();
    const lab = await urlLab(OPEN, {
      urls: { proxies: [parseIpRange('127.0.0.0/8')] },
      gateway: { observation: { listeners: [createAccessLog(logger)], tracing: undefined, maxFunctions: 10 } },
    });
    await lab.callUrl({
      path: '/?q=sesame',
      headers: { 'x-forwarded-for': '203.0.113.9', cookie: 'a=sesame', authorization: 'Bearer sesame' },
    });
    const line = await waitFor('the line', () => lines.find(({ msg }) => msg === 'request'), { everyMs: 5 });
    expect(line).toMatchObject({ operation: 'InvokeFunctionUrl', address: '203.0.113.9', status: 200 });
    expect(JSON.stringify(line)).not.toContain('sesame');
  });
});

describe('the bounds of URLs', () => {
  it('hold the rate of each address, which no header changes', async () => {
    const lab = await urlLab(OPEN, { urls: { rate: { perSecond: 0.01, burst: 2 } } });
    const replies = [];
    for (const from of ['1.1.1.1', '2.2.2.2', '3.3.3.3']) {
      replies.push(await lab.callUrl({ headers: { 'x-forwarded-for': from } }));
    }
    expect(replies.map(({ status }) => status)).toEqual([200, 200, 429]);
    expect(replies[2]?.body).toBe('{"Reason":"CallerRateLimitExceeded","Message":"Rate Exceeded."}');
    expect(Number(replies[2]?.headers['retry-after'])).toBeGreaterThan(0);
    expect(lab.agent.calls.length).toBe(2);
  });

  it('hold the rate of each client of a proxy that the operator has named', async () => {
    const lab = await urlLab(OPEN, {
      urls: { rate: { perSecond: 0.01, burst: 1 }, proxies: [parseIpRange('127.0.0.0/8')] },
    });
    const from = (address: string) => lab.callUrl({ headers: { 'x-forwarded-for': address } });
    expect((await from('203.0.113.1')).status).toBe(200);
    expect((await from('203.0.113.1')).status).toBe(429);
    expect((await from('203.0.113.2')).status).toBe(200);
    expect((await from('6.6.6.6, 203.0.113.2')).status).toBe(429);
  });

  it('refuse a body over 6 MiB, and one whose event is', async () => {
    const lab = await urlLab();
    for (const size of [6 * MIB + 1, 5 * MIB]) {
      const reply = await lab.callUrl({ method: 'POST', body: Buffer.alloc(size) });
      expect(reply).toMatchObject({ status: 413, body: '{"Message":"Request Entity Too Large"}' });
    }
    expect(lab.agent.calls).toEqual([]);
    const text = { 'content-type': 'text/plain' };
    expect((await lab.callUrl({ method: 'POST', headers: text, body: Buffer.alloc(5 * MIB, 'x') })).status).toBe(200);
  });

  it('leave the Lambda API its room when URLs have used theirs', async () => {
    const limits = gatewayLimits({ ...DEFAULT_LIMIT_FLAGS, maxRequests: 12 });
    const lab = await urlLab(OPEN, { gateway: { limits } });
    const answers: (() => void)[] = [];
    lab.agent.onInvoke((call) => answers.push(() => call.answer('{}')));
    const held = [lab.callUrl(), lab.callUrl()];
    await waitFor('both calls', () => answers.length === 2, { everyMs: 5 });
    expect(await lab.callUrl()).toMatchObject({ status: 429 });
    lab.agent.onInvoke((call) => call.answer('"api"'));
    expect((await lab.invoke('hello')).StatusCode).toBe(200);
    for (const answer of answers) {
      answer();
    }
    expect((await Promise.all(held)).map(({ status }) => status)).toEqual([200, 200]);
    expect((await lab.callUrl()).status).toBe(200);
  });
});

describe('an answer without one of the function', () => {
  it.each([
    ['502 where the function fails', '{"errorType":"E","errorMessage":"secret"}', 502],
    ['502 where it returns what makes no response', '{"statusCode":"x"}', 502],
  ])('is %s', async (_what, payload, status) => {
    const lab = await urlLab();
    lab.agent.onInvoke((call) => call.answer(payload));
    expect(await lab.callUrl()).toMatchObject({ status, body: 'Internal Server Error' });
  });

  it('is 504 where the function takes too long', async () => {
    const lab = await urlLab();
    lab.agent.onInvoke((call) => call.timeOut());
    expect(await lab.callUrl()).toMatchObject({ status: 504, body: '{"Message":"Gateway Timeout"}' });
  });

  it('is 502 where the outcome is not known, and the call is not repeated', async () => {
    const lab = await urlLab();
    lab.agent.onInvoke((call) => call.unknown('ConnectionLost', 'node-1 is away'));
    expect(await lab.callUrl()).toMatchObject({ status: 502, body: 'Internal Server Error' });
    expect(lab.agent.calls.length).toBe(1);
  });

  it('is 503 where the function has no workers', async () => {
    const lab = await urlLab();
    lab.workers.remove({ namespace: 'default', name: 'hello' });
    expect(await lab.callUrl()).toMatchObject({ status: 503, body: '{"Message":"Service Unavailable"}' });
  });

  it('is 503 while nothing is known of functions', async () => {
    const lab = await urlLab();
    lab.workers.setSynced(false);
    const hosts = [HELLO, 'new.default.fn.example.com'];
    for (const host of hosts) {
      expect(await lab.callUrl({ host })).toMatchObject({ status: 503, headers: { 'retry-after': '1' } });
    }
  });

  it('is 503 while it is not known whether everybody may call', async () => {
    const lab = await urlLab(OPEN, { urls: { isPublic: () => undefined } });
    expect(await lab.callUrl()).toMatchObject({ status: 503, headers: { 'retry-after': '1' } });
    expect(lab.agent.calls).toEqual([]);
  });

  it('is 429 where the function is switched off', async () => {
    const lab = await urlLab();
    const worker = lab.workers.cache.get({ namespace: 'default', name: 'hello' });
    if (worker === undefined) {
      throw new Error('there is no worker');
    }
    lab.workers.put({ ...worker, spec: { ...worker.spec, concurrency: { reserved: 0 } } as typeof worker.spec });
    expect(await lab.callUrl()).toMatchObject({ status: 429 });
    expect(lab.agent.calls).toEqual([]);
  });

  it.each([['BREW'], ['PROPFIND']])('is none of the function for %s', async (method) => {
    const lab = await urlLab();
    const status = await lab.callUrl({ method }).then(
      (reply) => reply.status,
      () => 0,
    );
    expect(status).not.toBe(200);
    expect(lab.agent.calls).toEqual([]);
  });
});

describe('a URL with a configuration for pages of other origins', () => {
  const page = 'https://www.example.com';
  const url = { ...OPEN, cors: { allowOrigins: [page], allowMethods: ['PUT' as const], exposeHeaders: ['x-count'] } };
  const preflight = { method: 'OPTIONS', headers: { origin: page, 'access-control-request-method': 'PUT' } };

  it('answers a preflight without the function, and without a signature', async () => {
    const lab = await urlLab({ ...url, authType: 'AWS_IAM' });
    expect(await lab.callUrl(preflight)).toMatchObject({
      status: 200,
      body: '',
      headers: {
        'access-control-allow-origin': page,
        'access-control-allow-methods': 'PUT',
        'access-control-max-age': '5',
        vary: 'Origin',
      },
    });
    expect(lab.agent.calls).toEqual([]);
  });

  it('gives its headers to answers in place of those of the function, and to failures', async () => {
    const lab = await urlLab(url);
    lab.agent.onInvoke((call) =>
      call.answer('{"statusCode":200,"headers":{"access-control-allow-origin":"*","x-count":"1"}}'),
    );
    const mine = await lab.callUrl({ headers: { origin: page } });
    expect(mine.headers).toMatchObject({
      'access-control-allow-origin': page,
      'access-control-expose-headers': 'x-count',
      'x-count': '1',
    });
    const foreign = await lab.callUrl({ headers: { origin: 'https://evil.test' } });
    expect(foreign.headers).not.toHaveProperty('access-control-allow-origin');
    lab.agent.onInvoke((call) => call.timeOut());
    expect(await lab.callUrl({ headers: { origin: page } })).toMatchObject({
      status: 504,
      headers: { 'access-control-allow-origin': page },
    });
  });

  it('is asked by the function itself where there is none', async () => {
    const lab = await urlLab();
    lab.agent.onInvoke((call) => call.answer('{"statusCode":200,"headers":{"access-control-allow-origin":"*"}}'));
    expect((await lab.callUrl(preflight)).headers).toMatchObject({ 'access-control-allow-origin': '*' });
    expect(lab.agent.calls.length).toBe(1);
  });
});
