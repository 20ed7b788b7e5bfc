import { Agent } from 'node:http';
import { type BenchResult, compare } from './bench-result.ts';
import { small } from './burst.ts';
import { quantile } from './distribution.ts';
import type { Bench, Scenario } from './scenario.ts';
import { timedPost } from './timed-call.ts';

const CALLS = 10_000;
const CLIENTS = 200;
const WORKERS = 50;
const ROUNDS = 3;
/** Seconds that the function sleeps in each call. */
const SLEEP = 0.02;

/** Result of one storm. */
interface Storm {
  /** Milliseconds of each call that was answered. */
  readonly latencies: readonly number[];
  readonly failures: readonly string[];
  /** Milliseconds until each call had ended. */
  readonly tookMs: number;
  readonly workers: number;
}

/**
 * 10,000 calls by 200 clients, each of which calls again once it is answered, of a function that has no container:
 * what each call takes, and that none is lost; against the same storm on as many workers made by hand, which rest
 * without a container and are no more than these.
 */
export const functionStorm: Scenario = {
  name: 'function-storm',
  group: 'functions',
  async run(bench): Promise<BenchResult> {
    const { instance } = bench;
    const spec = { ...small, desiredState: 'Absent', concurrency: { queueDepth: CLIENTS } };
    const ours: Storm[] = [];
    const byHand: Storm[] = [];
    for (let round = 0; round < Math.max(1, Math.round(ROUNDS * bench.scale)); round += 1) {
      const [grown, made] = [`grown-${round}`, `made-${round}`];
      await instance.applyFunction(grown, { maxWorkers: WORKERS }, spec);
      await instance.waitForPhase(`${grown}-latest-0`, 'Absent');
      ours.push(await storm(bench, grown));
      await instance.deleteFunction(grown);
      const names = Array.from({ length: WORKERS }, (_, index) => `${made}-${index}`);
      await Promise.all(names.map((name) => instance.apply(name, { ...spec, functionName: made })));
      await Promise.all(names.map((name) => instance.waitForPhase(name, 'Absent')));
      byHand.push(await storm(bench, made));
      await Promise.all(names.map((name) => instance.delete(name)));
    }
    const failures = ours.flatMap((each) => each.failures);
    return compare({
      name: 'function-storm',
      unit: 'ms',
      ours: ours.flatMap(({ latencies }) => latencies),
      baseline: {
        what: `the same storm on ${WORKERS} workers made by hand, which rest Absent`,
        sample: byHand.flatMap(({ latencies }) => latencies),
      },
      budget: 'no call lost',
      met: () => failures.length === 0,
      failures: failures.length,
      note: `${told('the function', ours)}; ${told('made by hand', byHand)}`,
    });
  },
};

function told(whose: string, storms: readonly Storm[]): string {
  const failures = storms.flatMap((each) => each.failures);
  const seconds = quantile(
    storms.map(({ tookMs }) => tookMs / 1_000),
    0.5,
  ).toFixed(1);
  const workers = storms.map((each) => each.workers).join(', ');
  const lost = failures.length === 0 ? '' : `, among them: ${failures[0]}`;
  return `${whose}: done after ${seconds} s (p50), in ${workers} workers, ${failures.length} lost${lost}`;
}

async function storm({ instance }: Bench, name: string): Promise<Storm> {
  const agent = new Agent({ keepAlive: true, maxSockets: CLIENTS });
  const body = JSON.stringify({ sleep: SLEEP });
  const latencies: number[] = [];
  const failures: string[] = [];
  const processes = new Set<string>();
  const began = performance.now();
  let left = CALLS;
  await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      while (left > 0) {
        left -= 1;
        try {
          const { body: answer, totalMs } = await timedPost(agent, instance.functionUrl(name), body);
          processes.add((JSON.parse(answer) as { readonly bootId: string }).bootId);
          latencies.push(totalMs);
        } catch (error) {
          failures.push(String(error));
        }
      }
    }),
  );
  agent.destroy();
  return { latencies, failures, tookMs: performance.now() - began, workers: processes.size };
}
