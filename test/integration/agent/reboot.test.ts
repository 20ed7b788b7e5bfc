import { readdir } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LambdaWorker, type LambdaWorkerSpec, lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { Limiter } from '../../../src/common/limiter.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { cutPower } from '../../support/power-cut.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Containers that the node had when its power was cut. `ESB_REBOOT_CONTAINERS=500` for the full size. */
const living = Number(process.env.ESB_REBOOT_CONTAINERS ?? 8);
const count = living + Math.ceil(living / 10);
const slots = 2;
const timeoutMs = 60_000 + count * 2_000;
const states = ['Running', 'Paused', 'Absent'] as const;
type State = (typeof states)[number];
const memory = '16Mi';

/** Half of them run, half are paused; of the rest there is only the resource. */
function stateOf(index: number): State {
  if (index >= living) {
    return 'Absent';
  }
  return index % 2 === 0 ? 'Running' : 'Paused';
}
const nameOf = (index: number): string => `worker-${index}`;
const indexes = Array.from({ length: count }, (_, index) => index);

describe(`a node with ${living} containers whose power is cut`, { timeout: timeoutMs * 3 }, () => {
  let lab: AgentLab;
  let client: KubeClient;
  const namespace = 'default';

  const create = async (index: number): Promise<void> => {
    const spec: Partial<LambdaWorkerSpec> = {
      image: lab.lab.image,
      imagePullPolicy: 'IfNotPresent',
      ephemeralStorage: '4Mi',
      terminationGracePeriodSeconds: 2,
      resources: { limits: { memory }, pids: 64 },
      desiredState: stateOf(index),
    };
    await client.create(lambdaWorkers, {
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaWorker',
      metadata: { name: nameOf(index), namespace, finalizers: ['esb.dev/worker'] },
      // The API server puts in the rest.
      spec: spec as LambdaWorkerSpec,
    });
    await client.patch(
      lambdaWorkers,
      { namespace, name: nameOf(index) },
      { kind: 'merge', body: { status: { assignment: { nodeName: lab.nodeName, epoch: 1 } } } },
      { subresource: 'status' },
    );
  };
  const all = async (): Promise<readonly LambdaWorker[]> => (await client.list(lambdaWorkers, { namespace })).items;
  const untilAtRest = async (isThisBoot: (worker: LambdaWorker) => boolean): Promise<readonly LambdaWorker[]> =>
    await waitFor(
      'every worker to be in its desired state',
      async () => {
        const workers = await all();
        const waiting = workers.filter(
          (worker) => worker.status?.phase !== worker.spec.desiredState || !isThisBoot(worker),
        );
        return waiting.length === 0 ? workers : undefined;
      },
      { timeoutMs, everyMs: 500 },
    );
  const tasks = async (): Promise<readonly string[]> =>
    (await lab.lab.ctr('tasks', 'list')).split('\n').filter((line) => /RUNNING|PAUSED/.test(line));
  const reservations = async (): Promise<string[]> =>
    (await readdir(join(lab.stateDir, 'cni/ipam/esb'))).filter((name) => isIP(name) !== 0);

  beforeAll(async () => {
    lab = await startAgentLab();
    client = createKubeClient({
      source: createKubeConnectionSource({ kubeconfig: lab.api.adminKubeconfig }),
    });
    await lab.startAgent(['--slots', String(slots), '--memory', '100000']);
    await lab.untilServing();
  });
  afterAll(async () => {
    await client?.close();
    await lab?.close();
  }, timeoutMs);

  it('has every worker back in its desired state, at an address of its own, and no reservation too many or too few', {
    tags: ['P19', 'M10'],
  }, async () => {
    const gate = new Limiter(16);
    const began = performance.now();
    await Promise.all(indexes.map((index) => gate.run(() => create(index))));
    const before = await untilAtRest(() => true);
    const madeMs = performance.now() - began;
    await waitFor('the slots', async () => (await reservations()).length === living + slots, { timeoutMs });
    const startedAt = new Map(before.map(({ metadata, status }) => [metadata.name, status?.startedAt]));

    await cutPower(lab);
    expect(await reservations()).toHaveLength(living + slots);
    const cut = performance.now();
    await lab.lab.startContainerd();
    await lab.startAgent(['--slots', String(slots), '--memory', '100000']);
    const after = await untilAtRest(
      ({ metadata, spec, status }) =>
        spec.desiredState === 'Absent' || status?.startedAt !== startedAt.get(metadata.name),
    );
    const backMs = performance.now() - cut;
    process.stdout.write(
      `${living} containers made in ${Math.round(madeMs)} ms, back ${Math.round(backMs)} ms after the power was\n`,
    );

    const addresses = after.flatMap(({ status }) => status?.address?.ip ?? []);
    expect(addresses).toHaveLength(living);
    expect(new Set(addresses).size).toBe(living);
    expect(await tasks()).toHaveLength(living);
    expect((await tasks()).filter((line) => line.includes('PAUSED'))).toHaveLength(
      indexes.filter((index) => stateOf(index) === 'Paused').length,
    );
    await waitFor('what was before to be cleared', async () => (await reservations()).length === living + slots, {
      timeoutMs,
    });
    expect(await reservations()).toEqual(expect.arrayContaining(addresses));
    for (const state of states) {
      const worker = after.find(({ spec }) => spec.desiredState === state);
      if (worker !== undefined) {
        expect(await lab.invoke(worker), state).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
      }
    }
  });
});
