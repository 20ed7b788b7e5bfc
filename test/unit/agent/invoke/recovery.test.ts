import { describe, expect, it } from 'vitest';
import type { DesiredWorker } from '../../../../src/agent/model/desired-worker.ts';
import type { InvocationResult, Recovery } from '../../../../src/agent/model/invocation.ts';
import { desiredFixture, FleetLab } from '../../../support/fleet-lab.ts';
import { waitFor } from '../../../support/wait-for.ts';

/** A worker with an init whose agent was killed while `sent` was in it and `waiting` was not. */
async function killed(change: Partial<DesiredWorker> = {}): Promise<FleetLab> {
  const before = await FleetLab.with(desiredFixture({ runtimeInterface: 'Lambda', ...change }));
  await before.recorded((record) => record.startedAt !== undefined);
  await before.clock.advance(1_000);
  void before.invoke({ requestId: 'sent' });
  void before.invoke({ requestId: 'waiting' });
  await before.clock.advance(100);
  return await before.restart();
}

const recover = (lab: FleetLab, requestId: string, more: Partial<Recovery> = {}): Promise<InvocationResult> =>
  lab.fleet.recover({
    uid: 'uid-of-hello',
    requestId,
    sentMs: 100,
    from: 0,
    tailLog: false,
    signal: new AbortController().signal,
    onHead: () => undefined,
    onChunk: () => undefined,
    ...more,
  });

describe('a call that its gateway asks for', () => {
  it('was not started where no init of the worker has had it', async () => {
    const lab = await killed();
    const result = recover(lab, 'waiting');
    await lab.clock.advance(100);
    lab.inits.reconnect(lab.container());
    await lab.clock.advance(300);
    expect(await result).toMatchObject({ kind: 'Refused', reason: 'Unavailable' });
    expect(lab.inits.sent).toEqual(['sent']);
  });

  it('is unknown where this run of the agent may have taken it', async () => {
    const lab = await killed();
    lab.inits.reconnect(lab.container());
    expect(await recover(lab, 'waiting', { sentMs: undefined })).toMatchObject({ kind: 'Unknown' });
  });

  it('is unknown where a container that has had it is gone, also to each later agent', async () => {
    const lambda = { runtimeInterface: 'Lambda', timeoutSeconds: 900 } as const;
    const older = await FleetLab.with(desiredFixture(lambda));
    const first = older.container();
    await older.recorded((record) => record.served !== undefined);
    void older.invoke({ requestId: 'long' });
    await older.clock.advance(100);
    const before = await older.restart();
    before.fleet.apply(desiredFixture({ ...lambda, generation: 2, shapeHash: 'v1-b' }));
    before.inits.reconnect(first);
    await before.clock.advance(10_000);
    void before.invoke({ requestId: 'sent' });
    await before.clock.advance(100);
    expect(before.inits.sent).toEqual(['long', 'sent']);
    const [second = ''] = [...before.runtime.containers.keys()].filter((id) => id !== first);
    await before.recorded(({ container }) => container?.id === second);
    const lab = await before.restart();
    lab.inits.reconnect(first);
    lab.fleet.apply(desiredFixture({ ...lambda, generation: 3 }));
    lab.inits.endLeft('long');
    await lab.clock.advance(1_000);
    lab.runtime.exit(second, 1);
    await lab.clock.advance(19_000);
    await waitFor('the removal', () => !lab.runtime.containers.has(second));
    await lab.clock.advance(1_000);
    expect(await recover(lab, 'sent', { sentMs: 21_100 })).toMatchObject({ kind: 'Unknown' });
    const next = await lab.restart();
    next.inits.reconnect(first);
    await next.clock.advance(1_000);
    expect(await recover(next, 'sent', { sentMs: 22_100 })).toMatchObject({ kind: 'Unknown' });
  });

  it('is unknown where the init of the worker does not come back', async () => {
    const lab = await killed();
    const result = recover(lab, 'waiting');
    await lab.clock.advance(6_000);
    expect(await result).toMatchObject({ kind: 'Unknown' });
  });

  it('has its answer, in whatever order init and gateway come', async () => {
    const lab = await killed();
    const chunks: string[] = [];
    const result = recover(lab, 'sent', { onChunk: (chunk) => chunks.push(chunk.toString()) });
    await lab.clock.advance(100);
    lab.inits.reconnect(lab.container());
    await lab.clock.advance(300);
    lab.inits.left.find(({ request }) => request.requestId === 'sent')?.answer('"done"');
    await lab.clock.advance(1);
    expect(await result).toMatchObject({ kind: 'Answered' });
    expect(chunks).toEqual(['"done"']);
  });
});

describe('the end of the log of a call that its gateway asks for', () => {
  it('has the lines of that call, though others have written before and since', async () => {
    const lab = await killed();
    lab.inits.reconnect(lab.container());
    const lines = ['before', 'sent', 'since'].map(
      (id) =>
        `START RequestId: ${id} Version: $LATEST\nwords of ${id}\nEND RequestId: ${id}\nREPORT RequestId: ${id}\tX\n`,
    );
    lab.runtime.logs.set(lab.container(), lines.join(''));
    const result = recover(lab, 'sent', { tailLog: true });
    await lab.clock.advance(300);
    lab.inits.left.find(({ request }) => request.requestId === 'sent')?.answer('"done"');
    await lab.clock.advance(300);
    expect(String(((await result) as { readonly logTail?: Buffer }).logTail)).toBe(lines[1]);
  });
});

describe('a worker that is frozen when its gateway asks', () => {
  const frozen = async (change: Partial<DesiredWorker> = {}): Promise<FleetLab> => {
    const before = await FleetLab.with(
      desiredFixture({ runtimeInterface: 'Lambda', restingState: 'Paused', ...change }),
    );
    await before.clock.advance(1_000);
    await before.recorded((record) => record.rest === 'Paused');
    expect(before.task()).toBe('Paused');
    return await before.restart();
  };

  it('is thawed, for a frozen init says nothing', async () => {
    const lab = await frozen();
    const result = recover(lab, 'waiting');
    await lab.clock.advance(500);
    expect(lab.task()).toBe('Running');
    lab.inits.reconnect(lab.container());
    await lab.clock.advance(300);
    expect(await result).toMatchObject({ kind: 'Refused' });
  });

  it('is thawed also where its init has named the call, and may hold a part of the answer', async () => {
    const before = await FleetLab.with(desiredFixture({ runtimeInterface: 'Lambda', pauseAfterSeconds: 1 }));
    await before.recorded((record) => record.startedAt !== undefined);
    void before.invoke({ requestId: 'sent' });
    await before.clock.advance(500);
    const lab = await before.restart();
    lab.inits.reconnect(lab.container());
    await lab.clock.advance(300);
    lab.inits.find(lab.container(), [{ requestId: 'sent', ended: true }]);
    await lab.clock.advance(5_000);
    expect(lab.task()).toBe('Paused');
    const result = recover(lab, 'sent');
    await lab.clock.advance(500);
    expect(lab.task()).toBe('Running');
    lab.inits.left.find(({ request }) => request.requestId === 'sent')?.answer('"done"');
    await lab.clock.advance(1);
    expect(await result).toMatchObject({ kind: 'Answered' });
  });

  it('stays frozen where no call may wake it, and the call is unknown', async () => {
    const lab = await frozen({ wakePolicy: 'Never' });
    const result = recover(lab, 'waiting');
    await lab.clock.advance(6_000);
    expect(lab.task()).toBe('Paused');
    expect(await result).toMatchObject({ kind: 'Unknown' });
  });
});
