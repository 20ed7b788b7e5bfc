import { Agent } from 'node:http';
import { join } from 'node:path';
import type { FreezerFile } from '../support/freezer.ts';
import { readySlots } from '../support/network-footprint.ts';
import { waitFor } from '../support/wait-for.ts';
import type { BareContainer } from './bare-containerd.ts';
import type { BenchInstance } from './bench-instance.ts';
import { type BenchResult, compare } from './bench-result.ts';
import { quantile, type Sample } from './distribution.ts';
import { type Bench, type Scenario, times } from './scenario.ts';
import { ThawWatch } from './thaw-watch.ts';
import { timedPost } from './timed-call.ts';

const CALLS = 100;
const CREATED = 50;
/** Network attachments that an agent keeps ready. */
const SLOTS = 4;
/** Seconds that a call takes, so that no worker has two of them: of paused workers, and of ones to be created. */
const CALL_SECONDS = { paused: 1, created: 10 } as const;

/** Resources of the workers of these functions. */
export const small = { resources: { limits: { memory: '64Mi' } }, ephemeralStorage: '16Mi', timeoutSeconds: 60 };

/** A hundred calls at once of a function whose spare workers are paused: when the last of these was thawed. */
export const burst = burstOf('burst', CALLS);
/** Burst during which the controller may make the next spare workers. */
export const burstRefilled = burstOf('burst-refilled', 2 * CALLS);

function burstOf(name: string, maxWorkers: number): Scenario {
  return { name, group: 'functions', run: (bench) => measureBurst(bench, name, maxWorkers) };
}

async function measureBurst(bench: Bench, name: string, maxWorkers: number): Promise<BenchResult> {
  const { bare, instance } = bench;
  const agent = new Agent({ keepAlive: true, maxSockets: CALLS });
  const scaling = { spareWorkers: CALLS, maxWorkers, scaleDownDelaySeconds: 5 };
  const idlePolicy = { pauseAfterSeconds: 2 };
  await instance.applyFunction(name, scaling, { ...small, desiredState: 'Paused', idlePolicy });
  const containers = await bareContainers(bench, CALLS);
  const ours: number[] = [];
  const begun: number[] = [];
  const answered: number[] = [];
  const baseline: number[] = [];
  try {
    for (let round = -1; round < times(bench, 5); round += 1) {
      await waitFor('all spare workers to be frozen', () => areFrozen(bench, name), {
        everyMs: 500,
        timeoutMs: 120_000,
      });
      await Promise.all(containers.map((container) => bare.pause(container)));
      const began = performance.now();
      await Promise.all(containers.map((container) => bare.resume(container)));
      const bareMs = performance.now() - began;
      await using thaws = await ThawWatch.over(await freezersOf(bench, name));
      const { first, begins, ends } = await callAtOnce(instance, agent, name, CALLS, {
        sleep: CALL_SECONDS.paused,
      });
      // The first round is not measured.
      if (round >= 0) {
        baseline.push(bareMs);
        ours.push((await thaws.last()) - first);
        begun.push(Math.max(...begins));
        answered.push(Math.max(...ends));
      }
    }
  } finally {
    agent.destroy();
    for (const container of containers) {
      await bare.remove(container);
    }
    await instance.deleteFunction(name);
  }
  return compare({
    name,
    unit: 'ms',
    ours,
    baseline: { what: `the last of ${CALLS} Tasks.Resume calls at once by a raw stub`, sample: baseline },
    budget: 'each ≤ 200 ms',
    met: () => Math.max(...ours) <= 200,
    note: `the last call began in its function after ${quantile(begun, 0.5).toFixed(0)} ms (p50; at most ${Math.max(...begun).toFixed(0)}), the last answer was there after ${quantile(answered, 0.5).toFixed(0)} ms (p50)`,
  });
}

async function bareContainers({ bare }: Bench, count: number): Promise<readonly BareContainer[]> {
  const containers: BareContainer[] = [];
  while (containers.length < count) {
    containers.push(await bare.create());
  }
  return containers;
}

async function areFrozen({ bare, instance }: Bench, name: string): Promise<boolean> {
  const workers = await instance.workersOf(name);
  const states = await Promise.all(workers.map(({ status }) => bare.workerTask(status?.containerID ?? '')));
  return states.length === CALLS && states.every((state) => state === 'PAUSED');
}

async function freezersOf({ bare, instance }: Bench, name: string): Promise<readonly FreezerFile[]> {
  const workers = await instance.workersOf(name);
  return await bare.workerFreezers(workers.map(({ status }) => status?.containerID ?? ''));
}

/** Fifty calls at once of a function without a worker, until each has begun in a worker of its own. */
export const burstCreated: Scenario = {
  name: 'burst-created',
  group: 'functions',
  async run(bench) {
    const { bare, instance } = bench;
    const agent = new Agent({ keepAlive: true, maxSockets: CREATED });
    const all: number[] = [];
    const baseline: number[] = [];
    // The first burst compiles code; the median is of those after it.
    for (let round = 0; round <= times(bench, 5); round += 1) {
      const name = `created-${round}`;
      await instance.applyFunction(name, { maxWorkers: CREATED }, { ...small, desiredState: 'Absent' });
      await instance.waitForPhase(`${name}-latest-0`, 'Absent');
      await untilSlotsAreReady(instance);
      const { begins, workers } = await callAtOnce(instance, agent, name, CREATED, { sleep: CALL_SECONDS.created });
      if (workers < CREATED) {
        throw new Error(`${CREATED} calls ran in ${workers} workers`);
      }
      all.push(Math.max(...begins) / 1000);
      await instance.deleteFunction(name);
      await untilSlotsAreReady(instance);
      const began = performance.now();
      const containers = await bareContainers(bench, CREATED);
      baseline.push((performance.now() - began) / 1000);
      for (const container of containers) {
        await bare.remove(container);
      }
    }
    agent.destroy();
    const [first = Number.NaN, ...ours] = all;
    return compare({
      name: 'burst-created',
      unit: 's',
      ours,
      baseline: { what: `the bare sequence of cold-start, ${CREATED} times one after the other`, sample: baseline },
      budget: 'p50 ≤ 0.75 × bare',
      met: (mine, bareOnes) => mine.p50 <= 0.75 * bareOnes.p50,
      note: `the burst before these took ${first.toFixed(2)} s`,
    });
  },
};

/** Waits until all slots of the node are ready: neither a burst nor the bare sequence is to have that beside it. */
async function untilSlotsAreReady({ home }: BenchInstance): Promise<void> {
  const ready = async (): Promise<boolean> => (await readySlots(join(home, 'nodes/node-1/agent'))).length === SLOTS;
  await waitFor('the slots to be prepared', ready, { everyMs: 1_000, timeoutMs: 120_000 });
}

/** Calls at once: milliseconds from the first one until each began in its function, and until its answer was there. */
interface AtOnce {
  /** When the first call was sent, in milliseconds of the clock of `process.hrtime`. */
  readonly first: number;
  readonly begins: Sample;
  readonly ends: Sample;
  readonly workers: number;
}

async function callAtOnce(
  instance: BenchInstance,
  agent: Agent,
  name: string,
  calls: number,
  event: object,
): Promise<AtOnce> {
  const body = JSON.stringify({ ...event, times: true });
  // Functions tell times of the same clock.
  const first = Number(process.hrtime.bigint()) / 1e6;
  const ended = await Promise.all(
    Array.from({ length: calls }, async () => {
      const { body: answer } = await timedPost(agent, instance.functionUrl(name), body);
      const end = Number(process.hrtime.bigint()) / 1e6 - first;
      const told = JSON.parse(answer) as { readonly bootId: string; readonly times: readonly [number, number] };
      return { begin: told.times[0] * 1000 - first, bootId: told.bootId, end };
    }),
  );
  return {
    first,
    begins: ended.map(({ begin }) => begin),
    ends: ended.map(({ end }) => end),
    workers: new Set(ended.map(({ bootId }) => bootId)).size,
  };
}
