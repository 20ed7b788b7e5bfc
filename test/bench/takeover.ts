import type { Controller, ScaleCluster } from '../support/scale/scale-cluster.ts';
import type { WorkerFollower } from '../support/scale/worker-follower.ts';
import { waitFor } from '../support/wait-for.ts';
import { compare } from './bench-result.ts';
import { type ClusterScenario, onFleet } from './scenario.ts';

/** How often the leader is killed. */
const ROUNDS = 4;
/** Seconds that the Lease promises its holder, and that a candidate and the first assignment may add. */
const LEASE_S = 15;
const MORE_S = 5;
const patience = { timeoutMs: 180_000, everyMs: 50 };

/**
 * Two controllers; the one that leads is killed (SIGKILL) in the middle of assigning workers, again and again: how long
 * no worker is assigned.
 */
export const takeover: ClusterScenario = {
  name: 'takeover',
  group: 'scale',
  async run(bench) {
    return await onFleet(bench, async (cluster, { agents, workers }) => {
      const follower = await cluster.follow();
      const gaps: number[] = [];
      const share = Math.floor(workers / ROUNDS);
      const controllers = [await cluster.startController('controller-0')];
      await waitFor('a leader', () => cluster.leader(), patience);
      for (let round = 0; round < ROUNDS; round += 1) {
        controllers.push(await cluster.startController(`controller-${round + 1}`));
        bench.say(`killing the leader, ${round + 1} of ${ROUNDS} ...`);
        gaps.push(await killOnce(cluster, follower, controllers, { first: round * share, count: share }));
      }
      const again = follower.reassigned();
      return compare({
        name: 'takeover',
        unit: 's',
        ours: gaps,
        baseline: { what: 'what the Lease promises its holder', sample: [LEASE_S] },
        budget: `each ≤ bare + ${MORE_S} s, no worker assigned twice`,
        met: () => Math.max(...gaps) <= LEASE_S + MORE_S && again.length === 0,
        failures: again.length,
        note: `from the kill to the next assignment; ${ROUNDS * share} workers on ${agents} nodes, of which ${again.length} were assigned twice`,
      });
    });
  },
};

/** Seconds from the kill of the leader, half of the workers being assigned, to the next assignment. */
async function killOnce(
  cluster: ScaleCluster,
  follower: WorkerFollower,
  controllers: readonly Controller[],
  workers: { readonly first: number; readonly count: number },
): Promise<number> {
  const { first, count } = workers;
  const creating = cluster.createWorkers(first, count);
  // The error of a wait before it is told.
  creating.catch(() => undefined);
  await follower.untilAssigned(first + count / 2);
  const leader = await waitFor('the leader', () => cluster.leader(), patience);
  await controllers.find(({ name }) => name === leader)?.kill();
  const killedAt = performance.now();
  await creating;
  await follower.untilAssigned(first + count);
  // Writes of the dead leader may be seen a moment later; no successor can be as fast as that.
  const next = follower.assignmentTimes().find((time) => time > killedAt + 1_000);
  if (next === undefined) {
    throw new Error('the leader had assigned every worker before it was killed');
  }
  return (next - killedAt) / 1_000;
}
