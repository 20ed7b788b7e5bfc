import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, it, onTestFinished } from 'vitest';

const bootstrap = resolve(import.meta.dirname, '../../../examples/nodejs-base/bootstrap.mjs');

interface Post {
  readonly path: string;
  /** Word by which the agent and Lambda tell of an error. */
  readonly errorType?: string | undefined;
  readonly body: string;
}

/**
 * First post of the client, for a function in these files: a Runtime API hands it one event, and no other.
 */
async function firstPost(files: Readonly<Record<string, string>>, handler: string): Promise<Post> {
  const folder = mkdtempSync(join(tmpdir(), 'esb-node-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(folder, name), content);
  }
  const posted = Promise.withResolvers<Post>();
  let handed = false;
  const server = createServer((request, response) => {
    if (request.method === 'POST') {
      void text(request).then((body) => {
        const errorType = request.headers['lambda-runtime-function-error-type'];
        posted.resolve({
          path: request.url ?? '',
          body,
          ...(errorType === undefined ? {} : { errorType: String(errorType) }),
        });
        response.end();
      });
    } else if (!handed) {
      handed = true;
      response.setHeader('lambda-runtime-aws-request-id', 'one');
      response.end('{"name":"Ada"}');
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const child = spawn(process.execPath, [bootstrap, handler], {
    stdio: 'ignore',
    env: { AWS_LAMBDA_RUNTIME_API: `127.0.0.1:${port}`, LAMBDA_TASK_ROOT: folder },
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
    server.closeAllConnections();
    server.close();
  });
  return await posted.promise;
}

const answered = { path: '/2018-06-01/runtime/invocation/one/response', body: '"Hello, Ada"' };
const module = "export const handler = async ({ name }) => 'Hello, ' + name;";
const common = "exports.handler = async ({ name }) => 'Hello, ' + name;";

describe('the client of the image nodejs-base', () => {
  it.each([
    ['an ES module', { 'index.mjs': module }],
    ['a CommonJS module', { 'index.cjs': common }],
    ['a .js, which is CommonJS by itself', { 'index.js': common }],
    ['a .js that package.json makes an ES module', { 'index.js': module, 'package.json': '{"type":"module"}' }],
    [
      'exports that are not seen by name',
      {
        'index.js': "const all = {}; all.handler = async ({ name }) => 'Hello, ' + name; module.exports = { ...all };",
      },
    ],
    [
      'a handler with a callback',
      { 'index.js': "exports.handler = (event, context, done) => done(null, 'Hello, ' + event.name);" },
    ],
  ])('calls the function of %s', async (_, files) => {
    expect(await firstPost(files, 'index.handler')).toEqual(answered);
  });

  it('names the files that a handler could be in', async () => {
    const { path, body } = await firstPost({ 'other.js': common }, 'index.handler');
    expect(path).toBe('/2018-06-01/runtime/init/error');
    expect(body).toMatch(/the handler \\"index.handler\\" needs a file .*index.js, .mjs or .cjs/);
  });

  it.each([
    ['no file', {}, 'Runtime.ImportModuleError'],
    ['a file without the function', { 'index.js': 'exports.other = 1;' }, 'Runtime.HandlerNotFound'],
    ['an import of what is not there', { 'index.mjs': "import 'not-there';" }, 'Runtime.ImportModuleError'],
    ['a require of what is not there', { 'index.js': "require('not-there');" }, 'Runtime.ImportModuleError'],
    ['a file that makes no sense', { 'index.mjs': 'export const (' }, 'Runtime.UserCodeSyntaxError'],
    ['a file that throws', { 'index.mjs': "throw new RangeError('far');" }, 'RangeError'],
  ])("tells of %s by AWS's name", async (_, files, name) => {
    const { path, body, errorType } = await firstPost(files, 'index.handler');
    expect(path).toBe('/2018-06-01/runtime/init/error');
    expect(JSON.parse(body)).toMatchObject({ errorType: name });
    expect(errorType).toBe(name);
  });

  it('says in which line a file makes no sense', async () => {
    const { body } = await firstPost({ 'index.mjs': 'export const handler = 1;\n\nfunction (' }, 'index.handler');
    expect((JSON.parse(body) as { errorMessage: string }).errorMessage).toMatch(
      /requires? a function name.*\/index.mjs:3\)$/,
    );
  });
});
