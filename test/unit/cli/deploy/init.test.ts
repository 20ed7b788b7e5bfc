import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { handlerOf, type Language, languageOf, languages } from '../../../../src/cli/build/language.ts';
import { runInit } from '../../../../src/cli/deploy/init.ts';
import { hasCode } from '../../../../src/common/errors.ts';

async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-init-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function init(folder: string, language: Language): Promise<string> {
  let shown = '';
  const write = (text: string): void => {
    shown += text;
  };
  await runInit({ folder, language }, { signal: new AbortController().signal, write });
  return shown;
}

it.each(languages)('a first function in %s is one that deploy knows as such', async (language) => {
  const folder = join(await temporaryFolder(), 'greeter');
  const shown = await init(folder, language);
  const names = await readdir(folder);
  expect(languageOf(folder, names)).toBe(language);
  const handlers = { python: 'app.handler', node: 'index.handler', go: undefined };
  expect(handlerOf(language, folder, undefined, (path) => names.includes(path))).toBe(handlers[language]);
  expect(shown).toContain(`deploy ${folder}`);
  for (const name of names) {
    expect(shown).toContain(join(folder, name));
  }
});

it('a first function in JavaScript greets, and knows whom it greeted before', async () => {
  const folder = join(await temporaryFolder(), 'greeter');
  await init(folder, 'node');
  const { handler } = (await import(join(folder, 'index.mjs'))) as { handler: (event: object) => Promise<object> };
  await handler({ name: 'Ada' });
  expect(await handler({ name: 'Grace' })).toEqual({ greeting: 'Hello, Grace!', 'before you': ['Ada'] });
  expect(await handler({})).toEqual({ greeting: 'Hello, world!', 'before you': ['Ada', 'Grace'] });
});

it('a first function in Python greets, and knows whom it greeted before', async () => {
  const folder = join(await temporaryFolder(), 'greeter');
  await init(folder, 'python');
  const program = 'import json, app; app.handler({"name": "Ada"}, None); print(json.dumps(app.handler({}, None)))';
  const { stdout } = await promisify(execFile)('python3', ['-B', '-c', program], { cwd: folder });
  expect(stdout.trimEnd().split('\n').at(-1)).toBe('{"greeting": "Hello, world!", "before you": ["Ada"]}');
});

it('no file is written over, and then none is written', async () => {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'requirements.txt'), 'mine');
  await expect(init(folder, 'python')).rejects.toSatisfy(
    (error) => hasCode(error, 'AlreadyExists') && error.message.includes('requirements.txt is there already'),
  );
  expect(await readdir(folder)).toEqual(['requirements.txt']);
  expect(await readFile(join(folder, 'requirements.txt'), 'utf8')).toBe('mine');
});

it('a folder that holds something else keeps it', async () => {
  const folder = join(await temporaryFolder(), 'work');
  await init(folder, 'go');
  await rm(join(folder, 'README.md'));
  await expect(init(folder, 'node')).resolves.toContain('index.mjs');
  expect((await readdir(folder)).toSorted()).toEqual([
    'README.md',
    'go.mod',
    'go.sum',
    'index.mjs',
    'main.go',
    'package.json',
  ]);
});
