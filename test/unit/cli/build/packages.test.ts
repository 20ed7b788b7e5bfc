import { mkdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { repositoryRoot } from '../../../../local/common/repository.ts';
import { buildGoProgram } from '../../../../src/cli/build/go-program.ts';
import { hasNodePackages, installNodePackages, installOptions } from '../../../../src/cli/build/node-packages.ts';
import {
  installPythonPackages,
  namesPackages,
  pythonVersionOf,
  readRequirements,
  wheelOptions,
} from '../../../../src/cli/build/python-packages.ts';
import { runTool } from '../../../../src/cli/build/tool.ts';
import { hasCode } from '../../../../src/common/errors.ts';
import type { CommandRequest, CommandRunner } from '../../../../src/common/exec/command-runner.ts';

async function folderWith(files: Readonly<Record<string, string>>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-packages-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    await writeFile(join(folder, name), text);
  }
  return folder;
}

/** Programs that answer as `answer` says; undefined for one that is not installed. */
function programs(answer: (request: CommandRequest) => { code: number; stderr?: string } | undefined) {
  const runs: string[] = [];
  const runner: CommandRunner = {
    run(request) {
      runs.push([request.program, ...request.args].join(' '));
      const found = answer(request);
      return found === undefined
        ? Promise.reject(Object.assign(new Error('spawn'), { code: 'ENOENT' }))
        : Promise.resolve({ stdout: '', stderr: '', ...found });
    },
  };
  return { runs, runner };
}

describe('packages in Python', () => {
  it.each([
    ['# nothing\n\n', false],
    ['# something\nrequests==2.32.5\n', true],
  ])('are named by %j: %s', (text, expected) => {
    expect(namesPackages(text)).toBe(expected);
  });

  it('are asked for only where a file names some', async () => {
    expect(await readRequirements(await folderWith({}))).toBeUndefined();
    expect(await readRequirements(await folderWith({ 'requirements.txt': '# none' }))).toBeUndefined();
    const folder = await folderWith({ 'requirements.txt': 'six' });
    expect(await readRequirements(folder)).toBe(join(folder, 'requirements.txt'));
  });

  it.each([
    ['base:1', ['PATH=/bin', 'PYTHON_VERSION=3.11.7'], undefined, '3.11'],
    ['registry.example:5000/lambda/python:3.13', [], undefined, '3.13'],
    ['python:3.13-slim', ['PYTHON_VERSION=3.14.1'], '3.12', '3.12'],
    ['registry.example/python@sha256:0', [], undefined, undefined],
    ['registry.example/base:3.13', [], undefined, undefined],
    ['registry.example/python-tools:1.2', [], undefined, undefined],
  ])('are those of the Python of %s %j %s: %s', (base, env, given, expected) => {
    expect(pythonVersionOf(base, env, given)).toBe(expected);
  });

  it.each(['3', '3.13.1', '313'])('are not those of a Python %s, which pip would not know', (given) => {
    expect(() => pythonVersionOf('base', [], given)).toThrow(`--python-version ${given} is not a version such as 3.13`);
  });

  it('are wheels for the platform of the base, and nothing that would be built here', () => {
    const options = wheelOptions({ version: '3.13', architecture: 'arm64' });
    expect(options).toContain('--only-binary=:all:');
    expect(options).toContain('--python-version=3.13');
    expect(options).toContain('--abi=cp313');
    expect(options).toContain('--platform=manylinux_2_17_aarch64');
    expect(options.filter((each) => each.includes('x86_64'))).toEqual([]);
  });

  it('are installed by the first pip that answers', async () => {
    const folder = await folderWith({ 'requirements.txt': 'six' });
    const { runner, runs } = programs(({ program }) => ({ code: program === 'python3' ? 1 : 0 }));
    const python = { version: '3.11', architecture: 'amd64' };
    await installPythonPackages(join(folder, 'requirements.txt'), folder, python, { runner });
    expect(runs[1]).toBe('/usr/bin/python3 -m pip --version');
    expect(runs[2]).toMatch(/^\/usr\/bin\/python3 -m pip install .*--target=\S+ --requirement .*requirements\.txt$/);
  });

  it.each([
    ['a short path', '#!/home/ada/.venv/bin/python3\n'],
    ['a long path', `#!/bin/sh\n'''exec' "/home/ada/with space/bin/python3.13" "$0" "$@"\n' '''\n`],
  ])('have no paths of this machine in what pip writes: %s', async (_, head) => {
    const folder = await folderWith({ 'requirements.txt': './demo.whl' });
    const { runner } = programs(({ args }) => {
      const target = args.find((each) => each.startsWith('--target='))?.slice('--target='.length);
      if (target !== undefined) {
        mkdirSync(join(target, 'bin'));
        writeFileSync(join(target, 'bin/demo'), `${head}# -*- coding: utf-8 -*-\nprint("\u00e9")\n`);
        writeFileSync(join(target, 'bin/native'), Buffer.from([0x7f, 0x45, 0xff]));
        writeFileSync(join(target, 'bin/tool'), '#!/bin/sh\necho python\n');
        mkdirSync(join(target, 'demo-1.0.dist-info'));
        writeFileSync(join(target, 'demo-1.0.dist-info/direct_url.json'), '{"url": "file:///home/ada/demo.whl"}');
        const record = [
          '../../bin/demo,sha256=abc,7',
          'demo.py,sha256=d,4',
          'demo-1.0.dist-info/direct_url.json,sha256=e,9',
        ];
        writeFileSync(join(target, 'demo-1.0.dist-info/RECORD'), `${record.join('\r\n')}\r\n`);
      }
      return { code: 0 };
    });
    const target = await folderWith({});
    const python = { version: '3.13', architecture: 'amd64' };
    await installPythonPackages(join(folder, 'requirements.txt'), target, python, { runner });
    const read = (name: string): Promise<Buffer> => readFile(join(target, name));
    expect(String(await read('bin/demo'))).toBe('#!/usr/bin/env python3\n# -*- coding: utf-8 -*-\nprint("\u00e9")\n');
    expect(await read('bin/native')).toEqual(Buffer.from([0x7f, 0x45, 0xff]));
    expect(String(await read('bin/tool'))).toBe('#!/bin/sh\necho python\n');
    expect(String(await read('demo-1.0.dist-info/RECORD'))).toBe('../../bin/demo,,\r\ndemo.py,sha256=d,4\r\n');
    expect(await readdir(join(target, 'demo-1.0.dist-info'))).toEqual(['RECORD']);
  });

  it('need a pip, and the error says so', async () => {
    const { runner } = programs(() => undefined);
    const target = { version: '3.11', architecture: 'amd64' };
    await expect(installPythonPackages('/requirements.txt', '/target', target, { runner })).rejects.toSatisfy(
      (error) => hasCode(error, 'ProgramMissing') && error.message.includes('install Python with pip'),
    );
  });

  it('that have no wheel are told of with the way out', async () => {
    const { runner } = programs(({ args }) =>
      args.includes('install') ? { code: 1, stderr: 'ERROR: No matching distribution found for uwsgi' } : { code: 0 },
    );
    const target = { version: '3.11', architecture: 'amd64' };
    await expect(installPythonPackages('/requirements.txt', '/target', target, { runner })).rejects.toThrow(
      /No matching distribution found for uwsgi\nOnly wheels for Python 3.11 on amd64/,
    );
  });
});

describe('packages in Node.js', () => {
  it('are asked for only where package.json names some', async () => {
    expect(await hasNodePackages(await folderWith({}), [])).toBe(false);
    expect(await hasNodePackages(await folderWith({ 'package.json': '{"devDependencies":{"a":"1"}}' }), [])).toBe(
      false,
    );
    const folder = await folderWith({ 'package.json': '{"dependencies":{"a":"1"}}' });
    expect(await hasNodePackages(folder, ['package.json', 'package-lock.json'])).toBe(true);
  });

  it('need a lock file, without which no two builds would be the same', async () => {
    const folder = await folderWith({ 'package.json': '{"dependencies":{"a":"1"}}' });
    await expect(hasNodePackages(folder, ['package.json'])).rejects.toThrow(/npm install --package-lock-only/);
    await expect(hasNodePackages(await folderWith({ 'package.json': '{' }), [])).rejects.toThrow(/is not JSON/);
  });

  it('are those of the platform of the image, and run no script that would make them for this one', () => {
    const own = { arch: 'x64', platform: 'linux' } as const;
    expect(installOptions('amd64', own)).toContain('--cpu=x64');
    expect(installOptions('amd64', own)).not.toContain('--ignore-scripts');
    expect(installOptions('arm64', own)).toEqual(expect.arrayContaining(['--cpu=arm64', '--ignore-scripts']));
    expect(installOptions('amd64', { ...own, platform: 'darwin' })).toContain('--ignore-scripts');
  });

  it('are installed without the scripts of the function, whose files and tools are not there', async () => {
    const target = await folderWith({});
    const folder = await folderWith({
      'package.json': JSON.stringify({ name: 'a', scripts: { prepare: 'husky' }, dependencies: { b: '1.0.0' } }),
      'package-lock.json': '{"lockfileVersion":3}',
      '.npmrc': 'registry=https://registry.example',
    });
    const { runner, runs } = programs(() => ({ code: 0 }));
    await installNodePackages(folder, target, 'arm64', { runner });
    expect(runs).toEqual([expect.stringMatching(/^npm ci --omit=dev /)]);
    const read = async (name: string) => readFile(join(target, name), 'utf8');
    expect(JSON.parse(await read('package.json'))).toEqual({ name: 'a', dependencies: { b: '1.0.0' } });
    expect(await read('package-lock.json')).toBe('{"lockfileVersion":3}');
    expect(await read('.npmrc')).toBe('registry=https://registry.example');
  });
});

describe('a program in Go', () => {
  const build = async (content: Buffer): Promise<void> => {
    const target = join(await folderWith({}), 'bootstrap');
    const { runner } = programs(() => {
      writeFileSync(target, content);
      return { code: 0 };
    });
    await buildGoProgram('/hello', target, 'amd64', { runner });
  };

  it('is what Go writes for a package main, and an archive for another one is refused', async () => {
    await build(Buffer.from('\x7fELF and the rest'));
    await expect(build(Buffer.from('!<arch>\n'))).rejects.toThrow('/hello has no package main');
    await expect(build(Buffer.from(''))).rejects.toThrow('/hello has no package main');
  });
});

describe('a program of the user', () => {
  it('that is missing is told of with the way out', async () => {
    const run = runTool({ program: 'no-such-program', args: [], cwd: '/', wayOut: 'install it' });
    await expect(run).rejects.toThrow('there is no program no-such-program: install it');
  });

  it('that fails is told of with its last words', async () => {
    const pip = runTool({ program: 'python3', args: ['-m', 'no-pip', 'install'], cwd: '/', wayOut: '' });
    await expect(pip).rejects.toThrow(/^python3 -m no-pip failed/);
    const run = runTool({ program: 'sh', args: ['-c', 'echo one >&2; echo two >&2; exit 3'], cwd: '/', wayOut: '' });
    await expect(run).rejects.toThrow(/sh -c failed \(exit code 3\):\none\ntwo$/);
  });

  it('is the one of the user, and not one that a clone of ours has', async () => {
    const shown = await runTool({ program: 'sh', args: ['-c', 'echo $PATH; pwd'], cwd: '/usr', wayOut: '' });
    const [path = '', folder] = shown.trimEnd().split('\n');
    expect(path.split(':')).not.toContain(join(repositoryRoot(), 'node_modules/.bin'));
    expect(path.split(':')).toContain('/usr/bin');
    expect(folder).toBe('/usr');
  });
});
