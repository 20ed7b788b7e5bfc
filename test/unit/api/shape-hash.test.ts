import { describe, expect, it } from 'vitest';
import type { LambdaWorkerSpec } from '../../../src/api/lambda-worker.ts';
import { shapeHashOf } from '../../../src/api/shape-hash.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

const hashOf = (spec: Partial<LambdaWorkerSpec> = {}) => shapeHashOf(workerFixture({ spec }));
const secret = (optional: boolean) => ({
  name: 'A',
  valueFrom: { secretKeyRef: { name: 's', key: 'k', optional } },
});

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
  });

  const changes: [string, Partial<LambdaWorkerSpec>][] = [
    ['image', { image: 'registry.example/hello:2' }],
    ['command', { command: ['/run'] }],
    ['args', { args: ['x'] }],
    ['handler', { handler: 'app.handler' }],
    ['env', { env: [{ name: 'A', value: '1' }] }],
    ['env from a Secret', { env: [secret(false)] }],
    ['memory', { resources: { limits: { memory: '256Mi' }, pids: 256 } }],
    ['cpu', { resources: { limits: { memory: '128Mi', cpu: 1 }, pids: 256 } }],
    ['pids', { resources: { limits: { memory: '128Mi' }, pids: 64 } }],
    ['ephemeralStorage', { ephemeralStorage: '1Gi' }],
    ['timeoutSeconds', { timeoutSeconds: 4 }],
    ['port', { port: 9000 }],
    ['network', { network: { mode: 'Host' } }],
    ['readOnlyRootFilesystem', { readOnlyRootFilesystem: false }],
    ['network.egress', { network: { mode: 'Bridge', egress: 'All' } }],
    ['runtimeInterface', { runtimeInterface: 'Emulator' }],
    ['concurrency.perWorker', { concurrency: { perWorker: 2, queueDepth: 100 } }],
    ['logging', { logging: { format: 'JSON' } }],
    ['imageLookup', { imageLookup: 'again' }],
  ];

  it.each(changes)('changes with %s', (_field, spec) => {
    expect(hashOf(spec)).not.toBe(hashOf());
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
