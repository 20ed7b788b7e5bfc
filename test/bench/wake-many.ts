import { Agent } from 'node:http';
import { waitFor } from '../support/wait-for.ts';
import type { BareContainer } from './bare-containerd.ts';
import { compare } from './bench-result.ts';
import { quantile } from './distribution.ts';
import type { Scenario } from './scenario.ts';
import { times } from './scenario.ts';
import { timedPost } from './timed-call.ts';

const WORKERS = 100;

/**
 * 100 paused workers called at once: the time of each first byte since the first call went out, less the median of the
 * same 100 calls to the running workers; against 100 bare `Tasks.Resume` calls sent at once.
 */
export const wakeMany: Scenario = {
  name: 'wake-100',
  async run(bench) {
    const { instance, bare } = bench;
    const agent = new Agent({ keepAlive: true, maxSockets: WORKERS });
    const names = Array.from({ length: WORKERS }, (_, index) => `many-${index}`);
    const ids: string[] = [];
    for (const name of names) {
      await instance.apply(name, {
        desiredState: 'Paused',
        idlePolicy: { pauseAfterSeconds: 5 },
        // The first wave starts a hundred runtimes at once.
        timeoutSeconds: 60,
        resources: { limits: { memory: '96Mi' } },
        ephemeralStorage: '16Mi',
      });
    }
    for (const name of names) {
      ids.push((await instance.waitForPhase(name, 'Paused')).status?.containerID ?? '');
    }
    const containers: BareContainer[] = [];
    for (const _ of names) {
      containers.push(await bare.create({ network: false }));
    }
    const ours: number[] = [];
    const baseline: number[] = [];
    const wave = async (): Promise<number[]> =>
      Promise.all(
        names.map(async (name) => (await timedPost(agent, instance.functionUrl(name), '{}')).firstByteMs),
      );
    // The first call of a worker starts its runtime.
    await wave();
    for (let round = 0; round < times(bench, 10); round += 1) {
      await waitFor(
        'all workers to be frozen',
        async () =>
          (await Promise.all(ids.map((id) => bare.workerTask(id)))).every((state) => state === 'PAUSED'),
        { everyMs: 500, timeoutMs: 60_000 },
      );
      await Promise.all(containers.map((container) => bare.pause(container)));
      const began = performance.now();
      await Promise.all(
        containers.map(async (container) => {
          await bare.resume(container);
          baseline.push(performance.now() - began);
        }),
      );
      const paused = await wave();
      const running = quantile(await wave(), 0.5);
      ours.push(...paused.map((firstByte) => firstByte - running));
    }
    for (const container of containers) {
      await bare.remove(container);
    }
    await Promise.all(names.map((name) => instance.delete(name)));
    agent.destroy();
    return compare({
      name: 'wake-100',
      unit: 'ms',
      ours,
      baseline: { what: '100 Tasks.Resume calls at once by a raw stub', sample: baseline },
      budget: 'p99 ≤ 1.5 × bare',
      met: (mine, bareOnes) => mine.p99 <= 1.5 * bareOnes.p99,
    });
  },
};
