import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { systemCommandRunner } from '../../../../src/common/exec/command-runner.ts';
import { parseImageReference } from '../../../../src/oci/image-reference.ts';
import {
  parseCredentialProviderConfig,
  parseDuration,
} from '../../../../src/runtime/images/credential-provider-config.ts';
import { CredentialProviders } from '../../../../src/runtime/images/credential-providers.ts';
import { findCredentials } from '../../../../src/runtime/images/registry-credentials.ts';
import { type ManualClock, manualClock } from '../../../support/manual-clock.ts';
import { recordingLogger } from '../../../support/recording-logger.ts';

const API = 'credentialprovider.kubelet.k8s.io/v1';
const ECR = '123.dkr.ecr.eu-west-1.amazonaws.com';

let folder: string;
let clock: ManualClock;
beforeEach(async () => {
  clock = manualClock();
  folder = await mkdtemp(join(tmpdir(), 'esb-providers-'));
  onTestFinished(() => rm(folder, { recursive: true }));
});

const config = (...providers: readonly object[]): string =>
  JSON.stringify({ apiVersion: 'kubelet.config.k8s.io/v1', kind: 'CredentialProviderConfig', providers });
const provider = (change: object = {}): object => ({
  name: 'ecr',
  apiVersion: API,
  matchImages: ['*.dkr.ecr.*.amazonaws.com'],
  defaultCacheDuration: '12h',
  ...change,
});
const response = (change: object = {}): string =>
  JSON.stringify({
    apiVersion: API,
    kind: 'CredentialProviderResponse',
    cacheKeyType: 'Registry',
    auth: { '*.dkr.ecr.*.amazonaws.com': { username: 'AWS', password: 'a-secret' } },
    ...change,
  });

/** Writes a program that notes each request and then runs `script`. */
async function program(script: string, name = 'ecr'): Promise<void> {
  const path = join(folder, name);
  await writeFile(path, `#!/bin/sh\ncat >> ${folder}/requests; echo >> ${folder}/requests\n${script}\n`);
  await chmod(path, 0o755);
}
const answering = (text: string): string => `cat <<'END'\n${text}\nEND`;
const requests = async (): Promise<readonly string[]> =>
  (await readFile(join(folder, 'requests'), 'utf8').catch(() => '')).split('\n').filter((line) => line !== '');

/** Providers as configured now; `find` tells the password for an image. */
async function providers(text: string) {
  const configFile = join(folder, 'config.yaml');
  await writeFile(configFile, text);
  const { lines, logger } = recordingLogger();
  const found = new CredentialProviders({
    configFile,
    programFolder: folder,
    runner: systemCommandRunner,
    clock,
    logger,
  });
  return {
    configFile,
    lines,
    find: async (image: string) => {
      const reference = parseImageReference(image);
      const { configs, faults } = await found.find(reference, {});
      return { credentials: findCredentials(configs, reference.registry, reference.repository), faults };
    },
  };
}

describe('credential providers', () => {
  it('are asked in the words of the kubelet, with their arguments and variables', async () => {
    await program(`echo "$1 $AWS_PROFILE" > ${folder}/seen\n${answering(response())}`);
    const { find } = await providers(
      config(provider({ args: ['get-credentials'], env: [{ name: 'AWS_PROFILE', value: 'prod' }] })),
    );
    expect(await find(`${ECR}/team/hello:1`)).toEqual({
      credentials: { username: 'AWS', password: 'a-secret' },
      faults: [],
    });
    expect((await requests()).map((line) => JSON.parse(line) as object)).toEqual([
      { apiVersion: API, kind: 'CredentialProviderRequest', image: `${ECR}/team/hello` },
    ]);
    expect(await readFile(join(folder, 'seen'), 'utf8')).toBe('get-credentials prod\n');
  });

  it('are asked about matching images alone', async () => {
    await program(answering(response()));
    const { find } = await providers(config(provider()));
    expect(await find('registry.example/hello:1')).toEqual({ credentials: undefined, faults: [] });
    expect(await requests()).toEqual([]);
  });

  it.each([
    ['Image', [1, 1, 2, 3]],
    ['Registry', [1, 1, 1, 2]],
    ['Global', [1, 1, 1, 1]],
  ] as const)('give answers that are kept by %s', async (cacheKeyType, runs) => {
    await program(answering(response({ cacheKeyType })));
    const { find } = await providers(config(provider()));
    const counts: number[] = [];
    for (const image of [`${ECR}/a:1`, `${ECR}/a:2`, `${ECR}/b:1`, `456.dkr.ecr.eu-west-1.amazonaws.com/a:1`]) {
      await find(image);
      counts.push((await requests()).length);
    }
    expect(counts).toEqual(runs);
  });

  it.each([
    ['for as long as they say', { cacheDuration: '1h' }, 3_600_000],
    ['for the configured time where they say nothing', {}, 12 * 3_600_000],
  ])('give answers that are kept %s', async (_, change, keptMs) => {
    await program(answering(response(change)));
    const { find } = await providers(config(provider()));
    await find(`${ECR}/a:1`);
    await clock.advance(keptMs - 1);
    await find(`${ECR}/a:1`);
    expect(await requests()).toHaveLength(1);
    await clock.advance(1);
    await find(`${ECR}/a:1`);
    expect(await requests()).toHaveLength(2);
  });

  it('give answers that are not kept where they say so', async () => {
    await program(answering(response({ cacheDuration: '0s' })));
    const { find } = await providers(config(provider()));
    await find(`${ECR}/a:1`);
    await find(`${ECR}/a:1`);
    expect(await requests()).toHaveLength(2);
  });

  it('run once for all that ask at the same time', async () => {
    await program(`sleep 0.2\n${answering(response({ cacheDuration: '0s' }))}`);
    const { find } = await providers(config(provider()));
    await Promise.all(Array.from({ length: 10 }, () => find(`${ECR}/a:1`)));
    expect(await requests()).toHaveLength(1);
  });

  it('that come first go before others', async () => {
    await program(answering(response({ auth: { [ECR]: { username: 'first', password: 'x' } } })), 'first');
    await program(answering(response({ auth: { [ECR]: { username: 'second', password: 'x' } } })), 'second');
    const { find } = await providers(config(provider({ name: 'first' }), provider({ name: 'second' })));
    expect((await find(`${ECR}/a:1`)).credentials).toMatchObject({ username: 'first' });
  });

  it.each([
    ['fails', 'echo a-secret; echo "no role" >&2; exit 3', 'it ended with code 3'],
    ['says no JSON', 'echo a-secret', 'its answer is no JSON'],
    [
      'answers in another version',
      answering(response({ apiVersion: 'v9' })),
      'its answer is no CredentialProviderResponse',
    ],
    ['names no key', answering(response({ cacheKeyType: 'Moon' })), 'its answer has no cacheKeyType'],
    ['writes without end', 'yes a-secret | head -c 3000000', 'its answer is no JSON'],
  ])('of which one %s tell that, and never a secret', async (_, script, fault) => {
    await program(script);
    const { find, lines } = await providers(config(provider()));
    const { credentials, faults } = await find(`${ECR}/a:1`);
    expect(credentials).toBeUndefined();
    expect(faults).toEqual([expect.stringContaining(`credential provider ecr: ${fault}`)]);
    expect(JSON.stringify([lines, faults])).not.toContain('a-secret');
  });

  it('tell of a program that is missing', async () => {
    const { find } = await providers(config(provider()));
    expect((await find(`${ECR}/a:1`)).faults).toEqual([
      `credential provider ecr: there is no such program in ${folder}`,
    ]);
  });

  it('read their configuration for each pull, and one that is broken stops nothing', async () => {
    await program(answering(response()));
    const { configFile, find, lines } = await providers('{');
    expect((await find(`${ECR}/a:1`)).faults).toEqual([
      expect.stringMatching(/^configuration of credential providers/),
    ]);
    await find(`${ECR}/a:1`);
    expect(lines).toHaveLength(1);
    await writeFile(configFile, config(provider()));
    expect((await find(`${ECR}/a:1`)).credentials).toBeDefined();
  });
});

describe('the configuration of credential providers', () => {
  it.each([
    ['kind: CredentialProviderConfig\nproviders: [{name: ecr, env: [{name: KEY, value: "a-secret}]}]\n', ' at line 3'],
    ['kind: CredentialProviderConfig\nproviders:\n  - env:\n      - value: *a-secret\n', ''],
  ])('that is no YAML is told without its lines, which may hold secrets', (text, where) => {
    expect(parseCredentialProviderConfig(text)).toEqual({ providers: [], faults: [`it is no YAML${where}`] });
  });

  it('is that of the kubelet, in YAML as well', () => {
    const text = [
      'apiVersion: kubelet.config.k8s.io/v1',
      'kind: CredentialProviderConfig',
      'providers:',
      '  - name: ecr-credential-provider',
      '    matchImages: ["*.dkr.ecr.*.amazonaws.com", "public.ecr.aws"]',
      '    defaultCacheDuration: "12h0m30s"',
      `    apiVersion: ${API}`,
    ].join('\n');
    expect(parseCredentialProviderConfig(text)).toEqual({
      providers: [
        {
          name: 'ecr-credential-provider',
          matchImages: ['*.dkr.ecr.*.amazonaws.com', 'public.ecr.aws'],
          defaultCacheMs: 43_230_000,
          args: [],
          env: {},
        },
      ],
      faults: [],
    });
  });

  it.each([
    ['a path in the name', { name: '../sh' }],
    ['another version', { apiVersion: 'credentialprovider.kubelet.k8s.io/v1alpha1' }],
    ['no images', { matchImages: [] }],
    ['no duration', { defaultCacheDuration: 12 }],
    ['a token of a service account', { tokenAttributes: {} }],
    ['arguments that are none', { args: 'x' }],
    ['variables that are none', { env: [{ name: 'A' }] }],
  ])('leaves out a provider with %s, and takes the others', (_, change) => {
    const { faults, providers } = parseCredentialProviderConfig(config(provider(change), provider({ name: 'other' })));
    expect(faults).toHaveLength(1);
    expect(providers.map(({ name }) => name)).toEqual(['other']);
  });

  it.each([
    ['12h', 43_200_000],
    ['1h30m', 5_400_000],
    ['1.5s', 1_500],
    ['0', 0],
    ['0s', 0],
    ['', undefined],
    ['12', undefined],
    ['-1h', undefined],
    [12, undefined],
  ])('has %j as %s ms', (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds);
  });
});
