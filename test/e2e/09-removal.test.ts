import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { waitFor } from '../support/wait-for.ts';
import { instance } from './support/instance.ts';
import { footprintAtRest, type NodeFootprint, nodeFootprint } from './support/node-footprint.ts';

describe('removal', () => {
  const esb = instance();
  let before: NodeFootprint;

  beforeEach(async () => {
    before = await footprintAtRest(esb);
  });

  async function expectAsBefore(): Promise<void> {
    let now: NodeFootprint | undefined;
    await waitFor('the node to hold what it held before', async () => {
      now = await nodeFootprint(esb);
      return JSON.stringify(now) === JSON.stringify(before);
    }).catch(() => undefined);
    expect(now).toEqual(before);
  }

  it('by desiredState Absent leaves the resource, and nothing on the node but its output', async () => {
    await esb.apply('absentee', { nodeName: 'node-1' });
    await esb.ready('absentee');
    await esb.invoke('absentee');
    await esb.patch('absentee', { desiredState: 'Absent' });
    const worker = await esb.waitForPhase('absentee', 'Absent');
    expect(worker.status?.assignment?.nodeName).toBe('node-1');
    // The record stays with the resource, and for an hour the output of the container that is gone: a log and its times.
    before = { ...before, records: before.records + 1, logs: before.logs + 2 };
    await expectAsBefore();
  });

  it('by deletion of a running worker leaves nothing', async () => {
    await esb.apply('runner', { nodeName: 'node-1' });
    await esb.ready('runner');
    await esb.invoke('runner', { write: 4 });
    await esb.delete('runner');
    await expectAsBefore();
  });

  it('by deletion of a paused worker takes under two seconds and leaves nothing', {
    tags: ['P19'],
  }, async () => {
    const took: number[] = [];
    for (const name of ['sleeping-1', 'sleeping-2', 'sleeping-3']) {
      await esb.apply(name, { nodeName: 'node-1', desiredState: 'Paused' });
      await esb.waitUntilPaused(name);
      const start = performance.now();
      await esb.delete(name);
      took.push(performance.now() - start);
    }
    // The machine may be busy during one of them; a grace period that a frozen process lets pass shows in each.
    expect(Math.min(...took)).toBeLessThan(2_000);
    await expectAsBefore();
  });

  it('by deletion at any moment of its creation leaves nothing', async () => {
    for (const afterMs of [0, 40, 80, 120, 160, 200, 250, 300, 400]) {
      const name = `unborn-${afterMs}`;
      await esb.apply(name, { nodeName: 'node-1' });
      // Faults and calls come at any moment.
      await delay(afterMs);
      await esb.delete(name);
    }
    await expectAsBefore();
  });

  it('of a worker that was never assigned works', async () => {
    await esb.apply('homeless', { nodeSelector: { 'example.com/absent': 'true' } });
    const worker = await esb.waitForWorker('homeless', 'unschedulable', (found) =>
      (found.status?.conditions ?? []).some(
        (condition) => condition.type === 'Scheduled' && condition.status === 'False',
      ),
    );
    expect(worker.status?.assignment).toBeUndefined();
    await esb.delete('homeless');
    expect((await esb.kubectl(['get', 'lw', 'homeless'], { mayFail: true })).code).not.toBe(0);
  });
});
