import { describe, expect, it, onTestFinished } from 'vitest';
import { AssignmentWatch } from '../../../../src/agent/sync/assignment-watch.ts';
import { WorkerPolicy } from '../../../../src/agent/sync/worker-policy.ts';
import type { LambdaWorker, LambdaWorkerSpec } from '../../../../src/api/lambda-worker.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import type { ConfigMap } from '../../../../src/kube/api/resource-types.ts';
import { fakeInformer } from '../../../support/fake-informer.ts';
import { desiredFixture, FleetLab } from '../../../support/fleet-lab.ts';
import { settle } from '../../../support/manual-clock.ts';
import { type WorkerFixture, workerFixture } from '../../../support/worker-fixture.ts';

const label = 'esb.dev/privileged-workers';
const policyObject = (data: Record<string, string> = {}, creationTimestamp = '2026-11-02T00:00:00Z'): ConfigMap => ({
  metadata: { namespace: 'esb-system', name: 'esb-worker-policy', creationTimestamp },
  data: { maxEphemeralStorage: '10Gi', requireAlwaysPull: 'false', ...data },
});
const before = { creationTimestamp: '2026-11-01T23:59:59Z' };
const after = { creationTimestamp: '2026-11-02T00:00:00Z' };
const host = { network: { mode: 'Host' }, command: ['rie'] } as const;
const worker = (fixture: WorkerFixture): LambdaWorker =>
  workerFixture({ status: { assignment: { nodeName: 'node-1', epoch: 1 } }, ...fixture });

/** A fleet with its watch of workers and its policy, and an API server that is told what there is. */
async function world(options: { policy?: ConfigMap; labels?: Record<string, string> } = {}) {
  const lab = new FleetLab({ capacity: { memoryMiB: 100_000, workers: 100 } });
  await lab.fleet.adopt();
  const policies = fakeInformer<ConfigMap>(options.policy === undefined ? [] : [options.policy]);
  const workers = fakeInformer<LambdaWorker>();
  const api = { labels: options.labels, asked: 0, fault: undefined as Error | undefined };
  const { clock } = lab;
  const policy = new WorkerPolicy({
    informer: policies,
    client: {
      get: (_type, { name }) => {
        api.asked += 1;
        return api.fault === undefined
          ? (Promise.resolve({ metadata: { name, labels: api.labels } }) as never)
          : Promise.reject(api.fault);
      },
    },
    clock,
    logger: silentLogger(),
  });
  const stop = new AbortController();
  const running = policy.run(stop.signal).catch(() => undefined);
  const watch = new AssignmentWatch({
    informer: workers,
    client: {
      get: (_type, key) => Promise.resolve(workers.cache.get(key)) as never,
      list: () => Promise.resolve({ resourceVersion: '1', items: workers.cache.list() }) as never,
    },
    fleet: lab.fleet,
    policy,
    nodeName: 'node-1',
    fieldSelector: '',
    clock,
    logger: silentLogger(),
  });
  watch.start();
  onTestFinished(async () => {
    stop.abort();
    await Promise.all([running, watch.stop(), lab.fleet.stop(0)]);
  });
  const view = (name = 'hello') => lab.fleet.view(`uid-of-${name}`);
  return {
    lab,
    policies,
    workers,
    api,
    view,
    condition: (name?: string) => view(name)?.conditions.WithinPolicy,
    /** Until the agent has looked again. */
    later: async () => {
      await settle();
      await clock.advance(61_000);
      await settle();
    },
  };
}

describe('the policy of workers, at the agent', () => {
  it.each<[string, Partial<LambdaWorkerSpec>, Record<string, string>]>([
    ['the network of the node', host, {}],
    ['a writable root', { readOnlyRootFilesystem: false }, {}],
    ['too large a /tmp', { ephemeralStorage: '11Gi' }, {}],
    ['a class that is not listed', { network: { mode: 'Bridge', egress: 'All' } }, { egress: 'Internet None' }],
    ['an image that is not asked for', { imagePullPolicy: 'Never' }, { requireAlwaysPull: 'true' }],
  ])('lets no container be made of a worker with %s, and tells why', async (_what, spec, data) => {
    const { lab, workers, view, condition } = await world({ policy: policyObject(data) });
    workers.put(worker({ metadata: after, spec }));
    await settle();
    expect(lab.runtime.containers.size).toBe(0);
    expect(view()?.conditions.Ready).toMatchObject({ status: 'False', reason: 'PolicyRefused' });
    expect(condition()).toMatchObject({ status: 'False', reason: 'PolicyRefused' });
    expect(condition()?.message).toContain(`kubectl label namespace default ${label}=true`);
  });

  it('asks nothing of workers that abide, and tells nothing of them', async () => {
    const { workers, view, api, condition } = await world({ policy: policyObject() });
    workers.put(worker({ metadata: after, spec: { ephemeralStorage: '10Gi' } }));
    await settle();
    expect(view()?.phase).toBe('Running');
    expect(condition()).toBeUndefined();
    expect(api.asked).toBe(0);
  });

  it('runs on what is older than it, and tells of it', async () => {
    const { workers, view, condition } = await world({ policy: policyObject() });
    workers.put(worker({ metadata: before, spec: host }));
    await settle();
    expect(view()).toMatchObject({ phase: 'Running', conditions: { Ready: { status: 'True' } } });
    expect(condition()).toMatchObject({ status: 'False', reason: 'MadeBeforePolicy' });
    expect(condition()?.message).toContain('spec.network.mode is Host');
  });

  it('is nothing where it is not installed', async () => {
    const { workers, view, condition, api } = await world();
    workers.put(worker({ metadata: after, spec: host }));
    await settle();
    expect(view()?.phase).toBe('Running');
    expect(condition()).toBeUndefined();
    expect(api.asked).toBe(0);
  });

  it('touches no container that there is when it comes, and tells of its worker', async () => {
    const { workers, view, condition, policies, lab } = await world();
    workers.put(worker({ metadata: after, spec: host }));
    await settle();
    const { containerId } = view() ?? {};
    policies.put(policyObject({}, '2026-11-03T00:00:00Z'));
    await settle();
    expect(condition()).toMatchObject({ reason: 'MadeBeforePolicy' });
    policies.put(policyObject());
    await settle();
    expect(condition()).toMatchObject({ reason: 'PolicyRefused' });
    expect(view()).toMatchObject({ phase: 'Running', containerId });
    expect(lab.runtime.containers.size).toBe(1);
  });

  it('follows the label of the namespace within a minute', async () => {
    const { workers, view, condition, api, later } = await world({ policy: policyObject() });
    workers.put(worker({ metadata: after, spec: host }));
    await settle();
    expect(view()?.phase).toBe('Failed');
    api.labels = { [label]: 'true' };
    await later();
    await later();
    expect(view()?.phase).toBe('Running');
    expect(condition()).toBeUndefined();
    api.labels = { [label]: 'false' };
    await later();
    expect(condition()).toMatchObject({ reason: 'PolicyRefused' });
    expect(view()?.phase).toBe('Running');
  });

  it('makes nothing until the namespace has been read, and removes all the same', async () => {
    const { workers, view, api, lab } = await world({ policy: policyObject(), labels: { [label]: 'true' } });
    api.fault = new Error('away');
    workers.put(worker({ metadata: after, spec: host }));
    workers.put(worker({ name: 'plain', metadata: after }));
    await settle();
    expect(view()).toBeUndefined();
    expect(view('plain')?.phase).toBe('Running');
    api.fault = undefined;
    await lab.clock.advance(2_000);
    await settle();
    expect(view()?.phase).toBe('Running');
    api.fault = new Error('away');
    await lab.clock.advance(61_000);
    workers.put(worker({ metadata: { ...after, deletionTimestamp: '2026-11-02T00:01:00Z' }, spec: host }));
    await lab.clock.advance(20_000);
    await settle();
    expect(view()?.conditions.CleanedUp?.status).toBe('True');
  });

  it('is kept through a restart of the agent, with the API server away', async () => {
    const refused = { kind: 'Refused', message: 'spec.network.mode is Host' } as const;
    const lab = await FleetLab.with(desiredFixture({ networkMode: 'Host', permission: refused }));
    expect(lab.fleet.view('uid-of-hello')?.conditions.Ready.reason).toBe('PolicyRefused');
    await lab.recorded((record) => record.desired.permission?.kind === 'Refused');
    const again = await lab.restart();
    await again.clock.advance(120_000);
    await settle();
    expect(again.runtime.containers.size).toBe(0);
    expect(again.fleet.view('uid-of-hello')?.conditions.WithinPolicy).toMatchObject({ status: 'False' });
  });
});
