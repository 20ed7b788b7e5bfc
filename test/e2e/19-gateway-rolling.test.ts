import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { waitFor } from '../support/wait-for.ts';
import { CallTally, endingOf } from './support/call-tally.ts';
import { instance } from './support/instance.ts';
import { type BalancedCall, LoadBalancer } from './support/load-balancer.ts';
import { Parts } from './support/parts.ts';

/**
 * Five minutes in full (`ESB_ROLLING_SECONDS=300`); whole rounds over all parts in any case, of which one takes longer
 * than this.
 */
const rollingSeconds = Number(process.env.ESB_ROLLING_SECONDS ?? 30);
const CALLS_PER_SECOND = 50;
/** Milliseconds between two parts, in which everything is there. */
const BETWEEN_MS = 500;
/** Seconds for which a call goes on that something is to be killed under. */
const STRUCK_SECONDS = 2;

const nodes = [1, 2] as const;

/** Everything there is but what holds the state of the cluster, in the order of a round. */
const partsInTurn = [
  'gateway-1',
  'gateway-2',
  'agent-node-1',
  'agent-node-2',
  'controller-1',
  'controller-2',
  'containerd-node-1',
  'containerd-node-2',
  'apiserver',
];

/** Functions with a worker on one node each; `spread` has one on each. */
const onNode = (node: number): readonly string[] => [`fast-${node}`, `slow-${node}`, `resting-${node}`];

/** Whom the call of that number is for: a little slow work, workers that are asleep each time, and many short calls. */
function callOf(number: number): { readonly name: string; readonly event: object } {
  const [inThreeSeconds, inOneSecond] = [number % 150, number % 50];
  if (inThreeSeconds === 5 || inThreeSeconds === 80) {
    return { name: inThreeSeconds === 5 ? 'resting-1' : 'resting-2', event: {} };
  }
  if (inOneSecond === 10 || inOneSecond === 35) {
    // Some are so long that agents and gateways which are told to end have to wait for them.
    const sleep = number % 200 < 50 ? 1.5 : 0.3;
    return { name: inOneSecond === 10 ? 'slow-1' : 'slow-2', event: { sleep } };
  }
  const turn = number % 6;
  return { name: turn === 0 ? 'fast-1' : turn === 3 ? 'fast-2' : 'spread', event: {} };
}

describe('two gateways on two nodes', () => {
  const esb = instance();
  const parts = new Parts(esb);

  async function functions(): Promise<void> {
    for (const node of nodes) {
      const there = {
        nodeName: `node-${node}`,
        timeoutSeconds: 20,
        // Calls wait where their agent is away, on a slow machine for longer than a hundred take to come.
        concurrency: { queueDepth: 1_000 },
      };
      await esb.apply(`fast-${node}`, there);
      await esb.apply(`slow-${node}`, there);
      await esb.apply(`spread-${node}`, { ...there, functionName: 'spread' });
      await esb.apply(`resting-${node}`, {
        ...there,
        desiredState: 'Paused',
        idlePolicy: { pauseAfterSeconds: 1 },
      });
    }
    for (const node of nodes) {
      for (const name of [...onNode(node), `spread-${node}`]) {
        await esb.ready(name);
      }
    }
  }

  it(`lose no call while every part is restarted in turn for ${rollingSeconds} s, ${CALLS_PER_SECOND} calls/s`, {
    tags: ['M15', 'M20', 'G1', 'G6', 'G10'],
    timeout: (rollingSeconds * 2 + 300) * 1_000,
  }, async () => {
    await functions();
    const tally = new CallTally();
    const balancer = new LoadBalancer(await parts.balanced());
    onTestFinished(async () => {
      await balancer.close();
      for (const part of partsInTurn) {
        await parts.start(part);
      }
    }, 300_000);
    const running = new Set<Promise<void>>();
    const begin = (name: string, event: object): Promise<BalancedCall> => {
      const ended = balancer.call(name, event);
      const kept = ended.then((call) => {
        tally.add(call);
        running.delete(kept);
      });
      running.add(kept);
      return ended;
    };
    const everyWorker = [...onNode(1), ...onNode(2), 'spread', 'spread'];
    // The first call of a worker starts its runtime.
    await Promise.all(everyWorker.map((name) => begin(name, { sleep: 0.2 })));
    const over = new AbortController();
    const beganAt = performance.now();
    let begun = 0;
    let round = 0;
    /** Calls at their times, however long the ones before them take. */
    const load = (async () => {
      while (!over.signal.aborted) {
        const { name, event } = callOf(begun);
        begun += 1;
        void begin(name, event);
        // The pace of the calls.
        await delay(Math.max(0, beganAt + (begun * 1_000) / CALLS_PER_SECOND - performance.now()));
      }
    })();
    const restart = async (part: string): Promise<void> => {
      await parts.stop(part);
      await parts.start(part);
      // Faults have a rest between them.
      await delay(BETWEEN_MS);
    };
    /** Kills a process under a call of the function; the answer of that call has to say so. */
    const strike = async (what: string, hit: readonly string[], under: string, kill: () => Promise<void>) => {
      const { status } = await esb.worker(under);
      const mark = `struck in round ${round}`;
      const struck = begin(under, { print: mark, sleep: STRUCK_SECONDS });
      // Others of the same function may be before it, and what waits in a gateway is not hit.
      await waitFor(
        `${under} to begin the call`,
        async () => {
          const log = await esb.workerLog(status?.containerID ?? '', status?.assignment?.nodeName);
          return log.includes(mark);
        },
        { everyMs: 50 },
      );
      tally.killed(what, hit);
      await kill();
      const call = await struck;
      expect(`${endingOf(call)}: ${call.answer?.text ?? call.fault}`).toMatch(/^unknown: .*outcome is unknown/);
    };
    do {
      for (const part of partsInTurn) {
        await restart(part);
      }
      const node = (round % 2) + 1;
      const agent = `agent-node-${node}`;
      await strike(agent, [...onNode(node), 'spread'], `slow-${node}`, () => parts.kill(agent));
      await parts.start(agent);
      // Faults have a rest between them.
      await delay(BETWEEN_MS);
      // A worker of its own each time: one that dies again and again is started later and later.
      const victim = `victim-${round}`;
      await esb.apply(victim, { nodeName: `node-${node}`, timeoutSeconds: 20 });
      const { status } = await esb.ready(victim);
      const pid = await esb.taskPid(status?.containerID ?? '', `node-${node}`);
      await strike(`the worker of ${victim}`, [victim], victim, async () => {
        process.kill(pid, 'SIGKILL');
      });
      // A call without such a kill is served again.
      await begin(victim, {});
      // Faults have a rest between them.
      await delay(BETWEEN_MS);
      round += 1;
    } while (performance.now() - beganAt < rollingSeconds * 1_000);
    over.abort();
    await load;
    // Not what the last ones take to end.
    const seconds = (performance.now() - beganAt) / 1_000;
    await Promise.all(running);
    for (const name of everyWorker) {
      await begin(name, {});
    }
    console.log(`${round} rounds in ${Math.round(seconds)} s\n${tally.summary()}`);
    expect(tally.failures()).toEqual([]);
    expect(tally.unexplained()).toEqual([]);
    expect(tally.repeated()).toEqual([]);
    // One by each strike at least, and every call that was begun is in the tally.
    expect(tally.count('unknown')).toBeGreaterThanOrEqual(2 * round);
    expect(tally.total).toBe(begun + 3 * round + 2 * everyWorker.length);
    expect(begun).toBeGreaterThan(0.9 * CALLS_PER_SECOND * seconds - CALLS_PER_SECOND);
  });
});
