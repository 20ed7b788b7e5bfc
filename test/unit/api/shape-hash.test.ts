import { describe, expect, it } from 'vitest';
import type { LambdaWorkerSpec } from '../../../src/api/lambda-worker.ts';
import { shapeHashOf } from '../../../src/api/shape-hash.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

const hashOf = (spec: Partial<LambdaWorkerSpec> = {}) => shapeHashOf(workerFixture({ spec }));
const secret = (optional: boolean) => ({
  name: 'A',
  valueFrom: { secretKeyRef: { name: 's', key: 'k', optional } },
});

/** A value for each field that forms a container. */
const everything: Partial<LambdaWorkerSpec> = {
  image: 'registry.example/hello:2',
  imageLookup: 'again',
  version: 7,
  command: ['/run'],
  args: ['x', 'y'],
  handler: 'app.handler',
  env: [{ name: 'A', value: '1' }, { name: 'B' }, secret(true), secret(false)],
  resources: { limits: { memory: '1Gi', cpu: '500m' }, pids: 64 },
  ephemeralStorage: '1Gi',
  timeoutSeconds: 900,
  port: 9000,
  network: { mode: 'Bridge', egress: 'Internet' },
  readOnlyRootFilesystem: false,
  concurrency: { perWorker: 8, queueDepth: 100 },
  logging: { format: 'JSON', applicationLevel: 'DEBUG', systemLevel: 'WARN' },
  runtimeInterface: 'Lambda',
  startup: { timeoutSeconds: 300 },
  terminationGracePeriodSeconds: 1,
};

describe('shapeHashOf', () => {
  it('is the same in every version of the program, or each upgrade would restart every worker', {
    tags: ['P27'],
  }, () => {
    // The size of /tmp that resources were stored with while it was the default.
    const stored = { ephemeralStorage: '512Mi' };
    expect(hashOf(stored)).toBe('v1-b3d744174ef02520');
    expect(
      hashOf({
        ...stored,
        command: ['/usr/bin/run'],
        args: ['a', 'b'],
        handler: 'app.handler',
        env: [{ name: 'K', value: 'V' }, secret(false)],
        resources: { limits: { memory: '1Gi', cpu: '500m' }, pids: 64 },
      }),
    ).toBe('v1-a3289932c416be1b');
    expect(hashOf(everything)).toBe('v1-1602d5c2329695af');
    // Without the defaults of the schema.
    expect(hashOf()).toBe('v1-85aad3fd8d540b8d');
    expect(shapeHashOf({ ...workerFixture(), spec: { image: 'registry.example/hello:1' } as LambdaWorkerSpec })).toBe(
      hashOf(),
    );
  });

  const changes: [string, Partial<LambdaWorkerSpec>, recorded: string][] = [
    ['image', { image: 'registry.example/hello:2' }, 'v1-f2483cafdd363701'],
    ['command', { command: ['/run'] }, 'v1-e2349efa6bc5afa1'],
    ['args', { args: ['x'] }, 'v1-0a121da5c79912c0'],
    ['handler', { handler: 'app.handler' }, 'v1-161a7ae4af0320fb'],
    ['env', { env: [{ name: 'A', value: '1' }] }, 'v1-2d764d64f9cccb15'],
    ['env from a Secret', { env: [secret(false)] }, 'v1-f1ea86f7d7df0b17'],
    ['memory', { resources: { limits: { memory: '256Mi' }, pids: 256 } }, 'v1-4b628a6ed9c17ed6'],
    ['cpu', { resources: { limits: { memory: '128Mi', cpu: 1 }, pids: 256 } }, 'v1-7433639fb1c49ac2'],
    ['pids', { resources: { limits: { memory: '128Mi' }, pids: 64 } }, 'v1-6b3ddcb98896eaa0'],
    ['ephemeralStorage', { ephemeralStorage: '1Gi' }, 'v1-eed05ff3c3f56db2'],
    ['timeoutSeconds', { timeoutSeconds: 4 }, 'v1-7498e4b11d709e1b'],
    ['port', { port: 9000 }, 'v1-da289a7ed0371f01'],
    ['network', { network: { mode: 'Host' } }, 'v1-dfd70bba2629d7d0'],
    ['readOnlyRootFilesystem', { readOnlyRootFilesystem: false }, 'v1-43ec70ae16059da8'],
    ['network.egress', { network: { mode: 'Bridge', egress: 'All' } }, 'v1-7700c800b1e468ea'],
    ['runtimeInterface', { runtimeInterface: 'Emulator' }, 'v1-43cb9beec6880d3f'],
    ['concurrency.perWorker', { concurrency: { perWorker: 2, queueDepth: 100 } }, 'v1-93cd842eb29883b7'],
    ['logging', { logging: { format: 'JSON' } }, 'v1-e28efb5bdc4baa15'],
    ['imageLookup', { imageLookup: 'again' }, 'v1-67e144d5074714e0'],
    ['version', { version: 3 }, 'v1-073cea31659ac307'],
  ];

  it.each(changes)('changes with %s', (_field, spec, recorded) => {
    expect(hashOf(spec)).not.toBe(hashOf());
    expect(hashOf(spec)).toBe(recorded);
  });

  const others: [string, Partial<LambdaWorkerSpec>][] = [
    ['desiredState', { desiredState: 'Paused' }],
    ['idlePolicy', { idlePolicy: { pauseAfterSeconds: 1 } }],
    ['wakePolicy', { wakePolicy: 'Never' }],
    ['nodeSelector', { nodeSelector: { a: 'b' } }],
    ['nodeName', { nodeName: 'node-1' }],
    ['terminationGracePeriodSeconds', { terminationGracePeriodSeconds: 0 }],
    ['imagePullPolicy', { imagePullPolicy: 'Never' }],
    ['startup', { startup: { timeoutSeconds: 1 } }],
    ['asyncInvoke', { asyncInvoke: { maximumRetryAttempts: 0, maximumEventAgeSeconds: 60 } }],
    ['concurrency', { concurrency: { reserved: 0, queueDepth: 1, perWorker: 1 } }],
    ['a quantity written differently', { resources: { limits: { memory: 134_217_728 }, pids: 256 } }],
    ['an empty list instead of none', { command: [], env: [] }],
  ];

  it.each(others)('does not change with %s', (_field, spec) => {
    expect(hashOf(spec)).toBe(hashOf());
  });

  it('takes the levels of a log that nobody wrote for those of Lambda', () => {
    const written = { format: 'JSON', applicationLevel: 'INFO', systemLevel: 'INFO' } as const;
    expect(hashOf({ logging: written })).toBe(hashOf({ logging: { format: 'JSON' } }));
    expect(hashOf({ logging: { ...written, systemLevel: 'WARN' } })).not.toBe(hashOf({ logging: written }));
  });

  it('tells a value from a reference', () => {
    expect(hashOf({ env: [secret(true)] })).not.toBe(hashOf({ env: [secret(false)] }));
  });

  it('does not change with metadata or status', () => {
    const worker = workerFixture({
      name: 'other',
      metadata: { labels: { a: 'b' }, generation: 7 },
      status: { phase: 'Failed' },
    });
    expect(shapeHashOf(worker)).toBe(hashOf());
  });
});
