import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isTrue, nodeConditions } from '../../../src/api/condition.ts';
import { lambdaNodes } from '../../../src/api/lambda-node.ts';
import { lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { SYSTEM_NAMESPACE } from '../../../src/api/name.ts';
import { leases } from '../../../src/kube/api/resource-types.ts';
import { writesBetween } from '../../support/scale/api-requests.ts';
import { type Controller, restingState, ScaleCluster } from '../../support/scale/scale-cluster.ts';
import type { WorkerFollower } from '../../support/scale/worker-follower.ts';
import { waitFor } from '../../support/wait-for.ts';

/** `npm run bench -- scale` does it with 10,000 workers on 100 agents. */
const WORKERS = Number(process.env.ESB_SCALE_WORKERS ?? 200);
const AGENTS = 10;
/** Workers that a node may have: some more than its part of all. */
const MOST = Math.ceil((1.4 * WORKERS) / AGENTS);
/** Longer than the ten seconds between two reports of what a node has promised. */
const QUIET_MS = 15_000;
const waiting = { timeoutMs: 240_000, everyMs: 200 };

describe(`${WORKERS} workers on ${AGENTS} simulated agents and a real API server`, () => {
  let cluster: ScaleCluster;
  let follower: WorkerFollower;
  const controllers: Controller[] = [];

  beforeAll(async () => {
    cluster = await ScaleCluster.up({ agents: AGENTS, workersPerNode: MOST, agentsPerProcess: AGENTS });
    follower = await cluster.follow();
  });

  afterAll(() => cluster.down());

  it('find no node silent while agents are held, which write nothing but their Leases', async () => {
    cluster.holdAgents();
    try {
      const heldAt = Date.now();
      const before = await cluster.requests();
      const renewals = async (): Promise<number[]> =>
        (await cluster.admin.list(leases, { namespace: SYSTEM_NAMESPACE })).items
          .filter(({ metadata }) => metadata.name.startsWith('node-'))
          .map(({ spec }) => Date.parse(spec?.renewTime ?? ''));
      // The first is at most half of what is quiet away from the last one of the agent itself.
      for (const [fromMs, toMs] of [
        [0, 15_000],
        [9_000, 30_000],
      ] as const) {
        await waitFor(
          `Leases renewed ${fromMs} ms after agents were held`,
          async () => (await renewals()).every((renewed) => renewed >= heldAt + fromMs),
          { timeoutMs: heldAt + toMs - Date.now(), everyMs: 500 },
        );
      }
      expect([...writesBetween(before, await cluster.requests()).keys()]).toEqual(['leases']);
    } finally {
      await cluster.releaseAgents();
    }
  });

  it('come to rest with one write for the assignment and one for the status each, and then nothing is written', {
    timeout: 480_000,
  }, async () => {
    await cluster.createWorkers(0, WORKERS);
    const created = await cluster.requests();
    controllers.push(await cluster.startController('first'));
    await waitFor('every worker to rest', () => follower.rested === WORKERS, waiting);
    let settled = await cluster.requests();
    let settledAt = performance.now();
    await waitFor(
      'a time without writes but of leases',
      async () => {
        const now = await cluster.requests();
        if ([...writesBetween(settled, now).keys()].some((what) => what !== 'leases')) {
          settled = now;
          settledAt = performance.now();
        }
        return performance.now() - settledAt >= QUIET_MS;
      },
      { timeoutMs: 90_000, everyMs: 1_000 },
    );
    expect(writesBetween(settled, await cluster.requests()).get('leases')).toBeGreaterThan(0);
    const writes = writesBetween(created, settled);
    // The finalizers came with the creation.
    expect(writes.get('lambdaworkers') ?? 0).toBe(0);
    // A status whose first version was outrun by a change of state is written once more, which happens the oftener the
    // slower the machine is. One more for each of those that pass through another state on the way would be 2.33.
    // A write whose client gave up is not counted as one that succeeded, though it may have been carried out.
    expect(writes.get('lambdaworkers/status') ?? 0).toBeGreaterThanOrEqual(1.9 * WORKERS);
    expect(writes.get('lambdaworkers/status') ?? 0).toBeLessThanOrEqual(2.25 * WORKERS);
  });

  it('are spread over the nodes, each where its agent says that it is', async () => {
    const { items } = await cluster.admin.list(lambdaWorkers);
    for (const { metadata, status } of items) {
      const index = Number(metadata.name.slice(2));
      expect([metadata.name, status?.phase, status?.assignment?.epoch]).toEqual([
        metadata.name,
        restingState(index),
        1,
      ]);
      expect(metadata.finalizers).toEqual(['esb.dev/worker']);
    }
    const counts = [...follower.byNode().values()];
    expect(counts).toHaveLength(AGENTS);
    expect(Math.max(...counts)).toBeLessThanOrEqual(MOST);
    expect(Math.min(...counts)).toBeGreaterThanOrEqual((0.6 * WORKERS) / AGENTS);
    const nodes = await cluster.admin.list(lambdaNodes);
    expect(nodes.items.every((node) => isTrue(node.status?.conditions, nodeConditions.ready))).toBe(true);
  });

  it('go when they are deleted, each by way of its agent', { timeout: 480_000 }, async () => {
    await cluster.deleteWorkers(0, WORKERS);
    await waitFor('every worker to be gone', async () => (await cluster.admin.list(lambdaWorkers)).items.length === 0, {
      timeoutMs: 240_000,
      everyMs: 2_000,
    });
  });

  it('are assigned by the next controller when the one that leads is killed in the middle, and none twice', {
    timeout: 480_000,
  }, async () => {
    controllers.push(await cluster.startController('second'));
    const before = follower.assigned;
    const creating = cluster.createWorkers(WORKERS, WORKERS);
    await waitFor('some to be assigned', () => follower.assigned >= before + WORKERS / 5, waiting);
    await controllers[0]?.kill();
    await creating;
    await waitFor('all to be assigned', () => follower.assigned === before + WORKERS, waiting);
    expect(await cluster.leader()).toBe('second');
    expect(follower.reassigned()).toEqual([]);
  });
});
