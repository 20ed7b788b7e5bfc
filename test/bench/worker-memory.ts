import { Agent } from 'node:http';
import type { BenchInstance } from './bench-instance.ts';
import { type BenchResult, compare } from './bench-result.ts';
import { distributionOf } from './distribution.ts';
import { containerProcesses, proportionalMiB } from './processes.ts';
import { type Scenario, times } from './scenario.ts';
import { timedPost } from './timed-call.ts';

/** Proportional set sizes in MiB, of each worker. */
interface Weights {
  /** The process that serves the Runtime API. */
  readonly own: number[];
  readonly runtime: number[];
}

/**
 * Memory of paused Python workers that were called once: what serves the Runtime API in them, and the runtime. Ours is
 * the init, and the bare mechanism is AWS's emulator.
 */
export const workerMemory: Scenario = {
  name: 'worker-memory',
  async run(bench): Promise<readonly BenchResult[]> {
    const { instance } = bench;
    const workers = times(bench, 20);
    const ours = await weigh(instance, workers, 'Lambda');
    const emulated = await weigh(instance, workers, 'Emulator');
    const rise = distributionOf(ours.runtime).p50 - distributionOf(emulated.runtime).p50;
    return [
      compare({
        name: 'worker-memory',
        unit: 'MiB',
        ours: ours.own,
        baseline: { what: 'proportional set size of the emulator', sample: emulated.own },
        budget: '≤ 1 MiB for each worker',
        met: (mine) => mine.p99 <= 1,
        note: `${workers} paused workers of each kind`,
      }),
      compare({
        name: 'worker-memory-python',
        unit: 'MiB',
        ours: ours.runtime,
        baseline: { what: 'proportional set size of Python under the emulator', sample: emulated.runtime },
        budget: 'p50 ≤ bare + 1 MiB',
        met: () => rise <= 1,
      }),
    ];
  },
};

async function weigh(
  instance: BenchInstance,
  workers: number,
  runtimeInterface: 'Lambda' | 'Emulator',
): Promise<Weights> {
  const agent = new Agent({ keepAlive: true });
  const names = Array.from({ length: workers }, (_, index) => `weighed-${index}`);
  const weights: Weights = { own: [], runtime: [] };
  for (const name of names) {
    await instance.apply(name, {
      ...(runtimeInterface === 'Emulator' ? { image: `${instance.registry}/python-emulator:latest` } : {}),
      desiredState: 'Paused',
      idlePolicy: { pauseAfterSeconds: 1 },
      runtimeInterface,
    });
    await instance.waitForPhase(name, 'Paused');
    await timedPost(agent, instance.functionUrl(name), '{}');
  }
  for (const name of names) {
    const { status } = await instance.waitForPhase(name, 'Paused');
    for (const { pid, commandLine } of await containerProcesses(status?.containerID ?? '')) {
      const isOwn = /^\/run\/esb\/init |^\S*aws-lambda-rie /.test(commandLine);
      weights[isOwn ? 'own' : 'runtime'].push(await proportionalMiB(pid));
    }
  }
  agent.destroy();
  await Promise.all(names.map((name) => instance.delete(name)));
  return weights;
}
