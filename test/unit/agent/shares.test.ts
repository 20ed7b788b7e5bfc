import { describe, expect, it } from 'vitest';
import type { DesiredWorker } from '../../../src/agent/model/desired-worker.ts';
import { desiredFixture, FleetLab, type LabOptions } from '../../support/fleet-lab.ts';
import { settle } from '../../support/manual-clock.ts';

/** A worker that takes three calls at once. */
function desired(change: Partial<DesiredWorker>): DesiredWorker {
  return desiredFixture({ runtimeInterface: 'Lambda', perWorker: 3, ...change });
}

async function scene(share: number, options: LabOptions = {}) {
  const lab = new FleetLab(options);
  lab.inits.perWorker = 3;
  await lab.fleet.adopt();
  lab.fleet.apply(desired({ share }));
  await settle();
  lab.inits.tell(lab.container(), { places: 3, held: 0 });
  await settle();
  return lab;
}

const inIt = (lab: FleetLab): readonly string[] => lab.inits.calls.map(({ request }) => request.requestId);
const view = (lab: FleetLab) => lab.fleet.view('uid-of-hello');

async function answerFirst(lab: FleetLab): Promise<void> {
  lab.inits.calls[0]?.answer('"yes"');
  await settle();
  await lab.clock.advance(20);
}

describe('a worker with a share of reserved concurrency', () => {
  it('runs no more calls than its share, and lets others wait', async () => {
    const lab = await scene(2);
    const calls = [1, 2, 3].map((each) => lab.invoke({ requestId: `call-${each}` }));
    await settle();
    await lab.clock.advance(20);
    expect(inIt(lab)).toEqual(['call-1', 'call-2']);
    expect(view(lab)).toMatchObject({ inFlight: 3, places: 2, share: { epoch: 1, calls: 2 } });
    await answerFirst(lab);
    expect(await calls[0]).toMatchObject({ kind: 'Answered' });
    expect(inIt(lab)).toEqual(['call-2', 'call-3']);
  });

  it('refuses a call that another worker may take, where its share is in use', async () => {
    const lab = await scene(2);
    const calls = [1, 2, 3].map((each) => lab.invoke({ requestId: `call-${each}`, atOnce: true }));
    expect(await calls[2]).toMatchObject({ kind: 'Refused', reason: 'Busy' });
    expect(inIt(lab)).toEqual(['call-1', 'call-2']);
  });

  it('refuses every call where it has none, and stays paused', async () => {
    const lab = await FleetLab.with(desiredFixture({ share: 0, restingState: 'Paused' }));
    await lab.clock.advance(1_000);
    expect(lab.task()).toBe('Paused');
    expect(await lab.invoke()).toMatchObject({ kind: 'Refused', reason: 'ShareInUse' });
    expect(lab.task()).toBe('Paused');
    expect(view(lab)).toMatchObject({ share: { epoch: 1, calls: 0 } });
  });

  it('leaves running calls their places when the share is lowered, tells of them, and runs none beside', async () => {
    const lab = await scene(3);
    const calls = [1, 2, 3].map((each) => lab.invoke({ requestId: `call-${each}` }));
    await settle();
    lab.fleet.apply(desired({ share: 1, epoch: 2 }));
    await settle();
    expect(view(lab)).toMatchObject({ share: { epoch: 2, calls: 3 } });
    void lab.invoke({ requestId: 'call-4', epoch: 2 });
    await answerFirst(lab);
    expect(view(lab)).toMatchObject({ share: { epoch: 2, calls: 2 } });
    expect(inIt(lab)).toEqual(['call-2', 'call-3']);
    await answerFirst(lab);
    expect(view(lab)).toMatchObject({ share: { epoch: 2, calls: 1 } });
    expect(inIt(lab)).toEqual(['call-3']);
    await answerFirst(lab);
    expect(inIt(lab)).toEqual(['call-4']);
    expect(await Promise.all(calls)).toMatchObject([{ kind: 'Answered' }, { kind: 'Answered' }, { kind: 'Answered' }]);
  });

  it('counts the calls that a killed agent has left, and tells of as many as it takes until it knows them', async () => {
    const lab = await scene(2);
    void lab.invoke({ requestId: 'call-1' });
    void lab.invoke({ requestId: 'call-2' });
    await settle();
    const next = await lab.restart();
    next.fleet.apply(desired({ share: 1, epoch: 2 }));
    await settle();
    expect(view(next)).toMatchObject({ share: { epoch: 2, calls: 3 } });
    void next.invoke({ requestId: 'call-3', epoch: 2 });
    next.inits.reconnect(next.container());
    await settle();
    await next.clock.advance(20);
    expect(inIt(next)).toEqual([]);
    expect(view(next)).toMatchObject({ share: { epoch: 2, calls: 2 } });
  });

  it('takes no call, and sends none that waits, once the shares of the node have lapsed', async () => {
    const node = { holds: true };
    const lab = await scene(1, { holdsShare: () => node.holds });
    const first = lab.invoke({ requestId: 'call-1' });
    const second = lab.invoke({ requestId: 'call-2' });
    await settle();
    node.holds = false;
    expect(await lab.invoke()).toMatchObject({ kind: 'Refused', reason: 'Unavailable' });
    await answerFirst(lab);
    expect(await first).toMatchObject({ kind: 'Answered' });
    expect(await second).toMatchObject({ kind: 'Refused', reason: 'Unavailable' });
    expect(inIt(lab)).toEqual([]);
    lab.fleet.apply(desired({ epoch: 2 }));
    void lab.invoke({ requestId: 'call-3', epoch: 2 });
    await settle();
    expect(inIt(lab)).toEqual(['call-3']);
    expect(view(lab)?.share).toBeUndefined();
  });
});
