import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { createProgress } from '../../src/cli/progress.ts';
import { ensureWebPackages } from './python-clients.ts';
import type { TestImageFile } from './test-image.ts';
import type { CurledAnswer } from './url-curl.ts';

/** Folder of a FastAPI application, and of what makes a function of it. */
export const webFunctionSource = join(import.meta.dirname, 'web-function');

/**
 * The files of the application with its packages, for an image of the Python base; its handler is `handler.handler`.
 */
export async function webFunctionFiles(): Promise<readonly TestImageFile[]> {
  const folder = await ensureWebPackages(createProgress({ write: () => undefined }));
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const packages = entries
    .filter((entry) => entry.isFile())
    .map(async (entry): Promise<TestImageFile> => {
      const file = join(entry.parentPath, entry.name);
      return { path: `/var/task/${relative(folder, file)}`, content: await readFile(file) };
    });
  const own = ['app.py', 'handler.py'].map(
    async (name): Promise<TestImageFile> => ({
      path: `/var/task/${name}`,
      content: await readFile(join(webFunctionSource, name)),
    }),
  );
  return await Promise.all([...packages, ...own]);
}

/** Calls the application in the ways that its clients do. Throws an AssertionError for an answer that is not its own. */
export async function checkWebFunction(
  curl: (path: string, args?: readonly string[]) => Promise<CurledAnswer>,
): Promise<void> {
  const got = await curl('/items/a%20b?tags=x&tags=y%2Bz', ['--user-agent', 'curious']);
  const { agent, client, item, tags } = JSON.parse(got.body) as Record<string, string>;
  assert.deepEqual([item, tags, agent, client], ['a b', 'y+z', 'curious', '127.0.0.1']);

  const made = await curl('/items', ['--json', '{"name":"värde"}', '--cookie', 'one=1; two=2']);
  assert.deepEqual([made.status, made.body], [201, '{"made":{"name":"värde"}}']);
  const cookies = made.headers.filter((field) => field.startsWith('set-cookie'));
  assert.deepEqual(
    cookies.map((field) => field.split(';')[0]),
    ['set-cookie: one=1', 'set-cookie: two=2'],
  );

  const type = ['--header', 'content-type: application/x-own'];
  const turned = await curl('/bytes', ['--request', 'PUT', ...type, '--data-binary', 'abc']);
  assert.deepEqual([turned.status, turned.body], [200, 'cba']);

  const old = await curl('/old');
  assert.deepEqual([old.status, old.headers.includes('location: /items/new')], [307, true]);
  assert.equal((await curl('/nothing')).status, 404);
  const head = await curl('/items/1', ['--head']);
  assert.deepEqual([head.status, head.body], [405, '']);
  assert.equal((await curl('/drips')).body, 'one two');
  // Last: the server closes the connection after that, which an adapter may be about to use again.
  assert.equal((await curl('/broken')).status, 500);
}
