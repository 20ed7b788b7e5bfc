import { describe, expect, it } from 'vitest';
import { othersIn } from '../../../src/agent/rpc/worker-message.ts';
import { desiredFixture, FleetLab, type LabOptions } from '../../support/fleet-lab.ts';
import { settle } from '../../support/manual-clock.ts';

async function scene(perWorker = 1, options: LabOptions = {}): Promise<FleetLab> {
  const lab = new FleetLab(options);
  lab.inits.perWorker = perWorker;
  await lab.fleet.adopt();
  lab.fleet.apply(desiredFixture({ runtimeInterface: 'Lambda', ...(perWorker === 1 ? {} : { perWorker }) }));
  await settle();
  lab.inits.tell(lab.container(), { places: perWorker, held: 0 });
  await settle();
  return lab;
}

const inIt = (lab: FleetLab): readonly string[] => lab.inits.calls.map(({ request }) => request.requestId);

async function answerFirst(lab: FleetLab): Promise<void> {
  lab.inits.calls[0]?.answer('"yes"');
  await settle();
  await lab.clock.advance(20);
}

describe('calls that wait for a worker', () => {
  it('have their turn in the order in which they began to wait, be it elsewhere', async () => {
    const lab = await scene();
    const waits = { first: 0, late: 100, early: 5_000, later: 100 };
    for (const [requestId, waitedMs] of Object.entries(waits)) {
      void lab.invoke({ requestId, waitedMs });
      await settle();
    }
    const order: string[] = [];
    for (let calls = 0; calls < 4; calls += 1) {
      order.push(...inIt(lab));
      await answerFirst(lab);
    }
    expect(order).toEqual(['first', 'early', 'late', 'later']);
  });

  it('are refused when they are taken back, whichever came last, and one that has begun goes on', async () => {
    const lab = await scene();
    const back = { begun: new AbortController(), early: new AbortController(), late: new AbortController() };
    const ends = {
      begun: lab.invoke({ requestId: 'begun', signal: back.begun.signal }),
      late: lab.invoke({ requestId: 'late', signal: back.late.signal }),
      early: lab.invoke({ requestId: 'early', waitedMs: 9_000, signal: back.early.signal }),
    };
    await settle();
    for (const each of Object.values(back)) {
      each.abort();
    }
    expect(await ends.late).toMatchObject({ kind: 'Refused', reason: 'CallerGone' });
    expect(await ends.early).toMatchObject({ kind: 'Refused', reason: 'CallerGone' });
    await answerFirst(lab);
    expect(await ends.begun).toMatchObject({ kind: 'Answered' });
  });
});

describe('a worker whose places are taken', () => {
  it('refuses a call that is not to wait, and takes it while it wakes', async () => {
    const lab = await scene(2);
    const calls = [1, 2, 3].map(() => lab.invoke({ atOnce: true }));
    expect(await calls[2]).toMatchObject({ kind: 'Refused', reason: 'Busy' });
    expect(inIt(lab)).toHaveLength(2);
  });
});

describe('the calls of others, as a caller is told of them,', () => {
  it('change with each exchange of a call for one of another caller, though there are as many', async () => {
    const lab = await scene();
    const others = (caller: string) => {
      const view = lab.fleet.view('uid-of-hello');
      return view === undefined ? undefined : Object.values(othersIn(view, caller));
    };
    const told: unknown[] = [];
    lab.fleet.subscribe({
      changed: (view) => told.push(Object.values(othersIn(view, 'one'))),
      removed: () => undefined,
    });
    void lab.invoke({ caller: 'one' });
    await settle();
    await lab.clock.advance(20);
    expect([others('one'), others('two')]).toEqual([
      [0, 0],
      [1, 1],
    ]);
    void lab.invoke({ caller: 'two' });
    await settle();
    expect([others('one'), others('two')]).toEqual([
      [1, 0],
      [1, 1],
    ]);
    lab.inits.calls[0]?.answer('"yes"');
    await settle();
    await lab.clock.advance(20);
    expect([others('one'), others('two')]).toEqual([
      [1, 1],
      [0, 0],
    ]);
    expect(told.at(-1), 'what a watcher has, with one call in it all the while').toEqual([1, 1]);
  });
});
