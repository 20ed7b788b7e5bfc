import { Agent } from 'node:http';
import { waitFor } from '../support/wait-for.ts';
import type { BareContainer } from './bare-containerd.ts';
import { type BenchResult, compare } from './bench-result.ts';
import { type Bench, type Scenario, times } from './scenario.ts';
import { type TimedCall, timedPost } from './timed-call.ts';

const FUNCTIONS = 100;
/** Callers of each function: two of 200. */
const CALLERS = 2;
const ROUNDS = 10;

/** Result of one storm. */
interface Storm {
  readonly answered: readonly TimedCall[];
  readonly failures: readonly string[];
}

/**
 * 200 clients at once on 100 functions whose workers are paused, each client with one call: how long it takes until
 * each has its answer, and that each has one; against 100 bare containers of the same image with two calls each, thawed
 * by `Tasks.Resume` all at once and called by a bare Runtime API, one call at a time in each as the runtime takes no two.
 */
export const gatewayStorm: Scenario = {
  name: 'gateway-storm',
  group: 'gateway',
  async run(bench): Promise<BenchResult> {
    const { instance, bare } = bench;
    const names = Array.from({ length: FUNCTIONS }, (_, index) => `storm-${index}`);
    const agent = new Agent({ keepAlive: true, maxSockets: FUNCTIONS * CALLERS });
    const ids = await pausedWorkers(bench, names);
    const containers = await pausedContainers(bench);
    const ours: number[] = [];
    const baseline: number[] = [];
    const failures: string[] = [];
    try {
      // The first storm is not measured; what fails in it fails all the same.
      failures.push(...(await storm(bench, names, agent)).failures);
      for (let round = 0; round < times(bench, ROUNDS); round += 1) {
        await waitFor(
          'all workers to be frozen',
          async () => (await Promise.all(ids.map((id) => bare.workerTask(id)))).every((state) => state === 'PAUSED'),
          { everyMs: 500, timeoutMs: 120_000 },
        );
        baseline.push(...(await bareStorm(bench, containers, agent)));
        const { answered, failures: failed } = await storm(bench, names, agent);
        const thawed = answered.filter(({ start }) => start === 'paused').length;
        if (failed.length === 0 && thawed < FUNCTIONS) {
          throw new Error(`only ${thawed} calls found their worker paused`);
        }
        ours.push(...answered.map(({ totalMs }) => totalMs));
        failures.push(...failed);
      }
    } finally {
      agent.destroy();
      for (const container of containers) {
        // Where the storm failed in the middle it may run already; why it failed is what is to be told.
        await bare.resume(container).catch(() => undefined);
        await bare.remove(container);
      }
      await Promise.all(names.map((name) => instance.delete(name)));
    }
    const calls = ours.length + failures.length;
    return compare({
      name: 'gateway-storm',
      unit: 'ms',
      ours,
      baseline: {
        what: `${FUNCTIONS} bare containers, Tasks.Resume at once by a raw stub, then ${CALLERS} POSTs straight to each`,
        sample: baseline,
      },
      budget: 'no failure, p99 ≤ 1.5 × bare',
      met: (mine, bareOnes) => failures.length === 0 && mine.p99 <= 1.5 * bareOnes.p99,
      failures: failures.length,
      note: `${calls} calls by ${FUNCTIONS * CALLERS} clients on ${FUNCTIONS} paused functions, ${failures.length} failed${failures.length === 0 ? '' : `, among them: ${failures[0]}`}`,
    });
  },
};

async function storm({ instance }: Bench, names: readonly string[], agent: Agent): Promise<Storm> {
  const clients = names.flatMap((name) => Array.from({ length: CALLERS }, () => name));
  const settled = await Promise.allSettled(clients.map((name) => timedPost(agent, instance.functionUrl(name), '{}')));
  return {
    answered: settled.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : [])),
    failures: settled.flatMap((end) => (end.status === 'rejected' ? [String(end.reason)] : [])),
  };
}

/** Milliseconds of each call from the beginning of the storm; all containers are paused again afterwards. */
async function bareStorm(
  { bare }: Bench,
  containers: readonly BareContainer[],
  agent: Agent,
): Promise<readonly number[]> {
  const took: number[] = [];
  const began = performance.now();
  await Promise.all(
    containers.map(async (container) => {
      await bare.resume(container);
      for (let caller = 0; caller < CALLERS; caller += 1) {
        await timedPost(agent, container.url, '{}');
        took.push(performance.now() - began);
      }
    }),
  );
  await Promise.all(containers.map((container) => bare.pause(container)));
  return took;
}

/** The workers, paused; their containers. */
async function pausedWorkers({ instance }: Bench, names: readonly string[]): Promise<readonly string[]> {
  for (const name of names) {
    await instance.apply(name, {
      desiredState: 'Paused',
      idlePolicy: { pauseAfterSeconds: 5 },
      resources: { limits: { memory: '96Mi' } },
      ephemeralStorage: '16Mi',
    });
  }
  const ids: string[] = [];
  for (const name of names) {
    ids.push((await instance.waitForPhase(name, 'Paused')).status?.containerID ?? '');
  }
  return ids;
}

/** As many bare containers, paused. */
async function pausedContainers({ bare }: Bench): Promise<readonly BareContainer[]> {
  const containers: BareContainer[] = [];
  for (let made = 0; made < FUNCTIONS; made += 1) {
    const container = await bare.create();
    await bare.pause(container);
    containers.push(container);
  }
  return containers;
}
