import { describe, expect, it } from 'vitest';
import { WorkerMetrics, WorkerUsages } from '../../../../src/agent/node/worker-usages.ts';
import type { WorkerUsage } from '../../../../src/runtime/contract/usage.ts';
import { desiredFixture, FleetLab } from '../../../support/fleet-lab.ts';
import { settle } from '../../../support/manual-clock.ts';

const used = (cpuUs: number, memoryBytes: number): WorkerUsage => ({ cpuUs, memoryBytes, takenAt: 1 });

/** A fleet of `names`, and how often the runtime was asked. */
async function lab(...names: readonly string[]) {
  const fleet = new FleetLab();
  await fleet.fleet.adopt();
  for (const name of names) {
    fleet.fleet.apply(desiredFixture({ name }));
  }
  await settle();
  const asked: string[] = [];
  let most = 0;
  let under = 0;
  const usages = new WorkerUsages({
    fleet: fleet.fleet,
    clock: fleet.clock,
    runtime: {
      usage: async (containerId) => {
        asked.push(containerId);
        under += 1;
        most = Math.max(most, under);
        await Promise.resolve();
        under -= 1;
        return await fleet.runtime.usage(containerId);
      },
    },
  });
  return { lab: fleet, usages, asked, most: () => most };
}

describe('what workers use', () => {
  it('is read of few at a time, once a second at most, and shared by those who ask meanwhile', async () => {
    const names = Array.from({ length: 20 }, (_, index) => `w${index}`);
    const { asked, lab: fleet, most, usages } = await lab(...names);
    const [one, other] = await Promise.all([usages.read(), usages.read()]);
    expect(one).toBe(other);
    await usages.read();
    expect(asked).toHaveLength(20);
    expect(most()).toBe(4);
    await fleet.clock.advance(1_000);
    await usages.read();
    expect(asked).toHaveLength(40);
  });

  it('is a page of its own, without workers that have no figures or have gone', async () => {
    const { lab: fleet, usages } = await lab('one', 'two');
    fleet.runtime.usages.set(fleet.container('one'), used(1_500_000, 4_096));
    const metrics = new WorkerMetrics();
    const figures = async (): Promise<readonly string[]> => {
      await fleet.clock.advance(1_000);
      const { text } = await metrics.page(fleet.fleet, usages);
      return text.split('\n').filter((line) => line.startsWith('esb_'));
    };
    const labels = '{namespace="default",worker="one",function="one"}';
    expect(await figures()).toEqual([
      `esb_worker_cpu_usage_seconds_total${labels} 1.5`,
      `esb_worker_memory_working_set_bytes${labels} 4096`,
    ]);
    fleet.fleet.release('uid-of-one');
    await settle();
    expect(await figures()).toEqual([]);
  });

  it('of a worker that cannot be asked keeps no other from being told', async () => {
    const { lab: fleet } = await lab('one', 'two');
    fleet.runtime.usages.set(fleet.container('two'), used(1, 2));
    const usages = new WorkerUsages({
      fleet: fleet.fleet,
      clock: fleet.clock,
      runtime: {
        usage: async (containerId) => {
          if (containerId === fleet.container('one')) {
            throw new Error('the engine does not answer');
          }
          return await fleet.runtime.usage(containerId);
        },
      },
    });
    expect([...(await usages.read()).keys()]).toEqual(['uid-of-two']);
  });
});
