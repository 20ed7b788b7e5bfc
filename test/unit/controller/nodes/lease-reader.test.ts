import { expect, it } from 'vitest';
import { silentLogger } from '../../../../src/common/logger.ts';
import { readLeasesOnce } from '../../../../src/controller/nodes/lease-reader.ts';
import { NodeLiveness } from '../../../../src/controller/nodes/liveness.ts';
import { Silence } from '../../../../src/controller/nodes/silence.ts';
import type { Lease } from '../../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../../src/kube/api/types.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { readNodeFixture } from '../../../support/worker-fixture.ts';

/** The liveness of each node after one reading, with the seconds since each renewal by the clock of its agent. */
async function firstReading(ages: Readonly<Record<string, number | undefined>>) {
  const clock = manualClock();
  const liveness = new NodeLiveness();
  const items = Object.entries(ages).map(
    ([name, seconds]): Lease => ({
      metadata: { name, resourceVersion: '1' },
      spec: seconds === undefined ? {} : { renewTime: new Date(clock.now() - seconds * 1_000).toISOString() },
    }),
  );
  await readLeasesOnce(
    {
      client: { list: () => Promise.resolve({ items, resourceVersion: '1' }) } as unknown as Pick<KubeClient, 'list'>,
      systemNamespace: 'esb-system',
      liveness,
      silence: new Silence(),
      nodes: () => ['a', 'b', 'c'].map((name) => readNodeFixture(name)),
      onChange: () => undefined,
      clock,
      logger: silentLogger(),
    },
    {},
  );
  return ['a', 'b', 'c'].map((name) => liveness.of(name));
}

it('at first, nodes are quiet whose Lease lies far behind the newest one', async () => {
  expect(await firstReading({ a: 5, b: 26, c: 24 })).toEqual(['fresh', 'quiet', 'fresh']);
});

it('the clocks of all agents may be wrong by the same', async () => {
  expect(await firstReading({ a: 5_000, b: 5_021, c: 5_003 })).toEqual(['fresh', 'quiet', 'fresh']);
});

it('a Lease from the future, of something else than a node, or without a time makes no node quiet', async () => {
  expect(await firstReading({ a: -9_000, b: 5, c: undefined })).toEqual(['fresh', 'fresh', 'fresh']);
  expect(await firstReading({ a: 100, b: 100, controller: 0 })).toEqual(['fresh', 'fresh', 'fresh']);
});
