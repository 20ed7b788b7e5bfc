import { describe, expect, it } from 'vitest';
import { Refusals } from '../../../../src/gateway/agents/refusals.ts';
import type { RoutableWorker } from '../../../../src/gateway/agents/routing.ts';
import { match, type Waiting, type WaitingVersion } from '../../../../src/gateway/dispatch/match.ts';
import type { AheadCall, QueuedCall } from '../../../../src/gateway/dispatch/queued-call.ts';

const NOW = 100_000;
const NEVER = Number.POSITIVE_INFINITY;
const route = (uid: string, isQueued = true) => ({ uid, name: uid, nodeName: 'node-1', epoch: 1, isQueued });

/** A running worker with one place. */
function worker(uid: string, outstanding = 0): RoutableWorker {
  return {
    uid,
    name: uid,
    assignment: { nodeName: 'node-1', epoch: 1 },
    holding: { epoch: 1, phase: 'PHASE_RUNNING', foreignInFlight: 0, foreignPlaces: 0, callable: true, places: 1 },
    outstanding,
    lastTurn: 0,
  };
}

/** A call of which nothing counts but what a test says. */
function call(arrival: number, more: Partial<QueuedCall> = {}): QueuedCall {
  return { arrival, since: NOW, workerUntil: NOW + 30_000, ...more } as QueuedCall;
}

function refusedBy(uids: readonly string[], at: number): Refusals {
  const refusals = new Refusals();
  for (const uid of uids) {
    refusals.add({ uid, epoch: 1 }, { kind: 'Refused', reason: 'Unavailable', message: '' }, at, false);
  }
  return refusals;
}

interface Calls {
  readonly version?: number;
  readonly isOpen?: boolean;
  readonly candidates?: readonly RoutableWorker[];
  readonly seeking?: readonly QueuedCall[];
  readonly queued?: readonly QueuedCall[];
}

function version({
  isOpen = true,
  candidates = [],
  seeking = [],
  queued = [],
  version: number,
}: Calls): WaitingVersion {
  return { version: number, isOpen, candidates, seeking: new Set(seeking), queued: new Set(queued) };
}

function waiting(versions: readonly Calls[], ahead: readonly AheadCall[] = []): Waiting {
  const all = versions.map(version);
  const workers = all.reduce((sum, { candidates }) => sum + candidates.length, 0);
  return { versions: all, ahead: new Set(ahead), workers, rotation: 0, maxQueueWaitMs: 60_000 };
}

describe('a free place', () => {
  it('goes to a call that had one before, and then to the call that came first', () => {
    const [seeker, first, last] = [call(3), call(1), call(2)];
    const candidates = [worker('a')];
    const both = waiting([{ candidates, seeking: [seeker], queued: [first, last] }]);
    expect(match(both, NOW)).toMatchObject({ kind: 'Send', call: seeker, route: { uid: 'a' } });
    expect(match(waiting([{ candidates, queued: [first, last] }]), NOW)).toEqual({ kind: 'Enter', call: first });
  });

  it('goes to the call that came first of those with a place in their version', () => {
    const [one, two, three] = [call(1), call(2), call(3)];
    const versions = [
      { version: 1, isOpen: false, queued: [one] },
      { version: 2, queued: [three] },
      { version: 3, candidates: [worker('a')], seeking: [two] },
    ];
    expect(match(waiting(versions), NOW)).toMatchObject({ kind: 'Send', call: two });
  });

  it('goes past a call that no worker takes now', () => {
    const [seeker, next] = [call(1), call(2)];
    expect(match(waiting([{ seeking: [seeker], queued: [next] }]), NOW)).toEqual({ kind: 'Enter', call: next });
  });
});

describe('a call that seeks a worker', () => {
  it('is not sent to a worker that has refused it, before that is asked again', () => {
    const seeker = call(1, { refusals: refusedBy(['a'], NOW - 100) });
    const candidates = [worker('a')];
    expect(match(waiting([{ candidates, seeking: [seeker] }]), NOW)).toEqual({ kind: 'Rest', until: NOW + 150 });
    expect(match(waiting([{ candidates, seeking: [seeker] }]), NOW + 150)).toMatchObject({ kind: 'Send' });
  });

  it('is passed by one that a worker takes', () => {
    const refused = call(1, { refusals: refusedBy(['a'], NOW) });
    const other = call(2);
    const move = match(waiting([{ candidates: [worker('a')], seeking: [refused, other] }]), NOW);
    expect(move).toMatchObject({ kind: 'Send', call: other });
  });

  it('waits for a worker no longer than it may, and for a place as long as all calls', () => {
    const seeker = call(1, { workerUntil: NOW + 500 });
    expect(match(waiting([{ seeking: [seeker] }]), NOW)).toEqual({ kind: 'Rest', until: NOW + 500 });
    const late = { kind: 'GiveUp', call: seeker };
    expect(match(waiting([{ seeking: [seeker] }]), NOW + 500)).toEqual({ ...late, lacks: 'Worker' });
    const full = waiting([{ isOpen: false, seeking: [seeker] }]);
    expect(match(full, NOW + 500)).toEqual({ kind: 'Rest', until: NOW + 60_000 });
    expect(match(full, NOW + 60_000)).toEqual({ ...late, lacks: 'Place' });
  });

  it('does not begin to wait at an agent after the time of its wait for a place', () => {
    const seeker = call(1, { since: NOW - 60_000 });
    const full = waiting([{ candidates: [worker('a', 1)], seeking: [seeker] }]);
    expect(match(full, NOW)).toEqual({ kind: 'GiveUp', call: seeker, lacks: 'Place' });
  });
});

describe('a call that waits for a place', () => {
  it('is refused at the end of its time', () => {
    const [first, last] = [call(1, { since: NOW - 10 }), call(2)];
    const full = waiting([{ isOpen: false, queued: [first, last] }]);
    expect(match(full, NOW)).toEqual({ kind: 'Rest', until: NOW + 59_990 });
    expect(match(full, NOW + 59_990)).toEqual({ kind: 'GiveUp', call: first, lacks: 'Place' });
  });
});

describe('a call that waits at an agent', () => {
  const at = (uid: string, of: QueuedCall, until = NEVER): AheadCall => ({ call: of, route: route(uid), until });

  it('leaves it for a free worker: the call that came first, before any other call', () => {
    const [first, last] = [at('a', call(1)), at('a', call(2))];
    const free = { candidates: [worker('a', 3), worker('b')], queued: [call(3)], seeking: [call(0)] };
    const move = match(waiting([free], [last, first]), NOW);
    expect(move).toMatchObject({ kind: 'TakeBack', ahead: first, to: { uid: 'b', isQueued: false } });
  });

  it.each([
    ['no worker is free', [worker('a', 2), worker('b', 1)]],
    ['the worker at which it waits is the free one', [worker('a')]],
  ])('stays where %s', (_what, candidates) => {
    expect(match(waiting([{ candidates }], [at('a', call(1))]), NOW)).toEqual({ kind: 'Rest', until: NEVER });
  });

  it('stays where the free worker is one of another version', () => {
    const versions = [
      { version: 1, candidates: [worker('a', 2)] },
      { version: 2, candidates: [worker('b')] },
    ];
    const ahead = at('a', call(1, { version: 1 }));
    expect(match(waiting(versions, [ahead]), NOW)).toEqual({ kind: 'Rest', until: NEVER });
  });

  it('is not taken back for a worker that has refused it, before that is asked again', () => {
    const ahead = at('a', call(1, { refusals: refusedBy(['b'], NOW - 50) }));
    const free = waiting([{ candidates: [worker('a', 2), worker('b')] }], [ahead]);
    expect(match(free, NOW)).toEqual({ kind: 'Rest', until: NOW + 200 });
    expect(match(free, NOW + 200)).toMatchObject({ kind: 'TakeBack', to: { uid: 'b' } });
  });

  it('is taken back at the end of its time there', () => {
    const ahead = at('a', call(1), NOW + 300);
    const full = waiting([{ candidates: [worker('a', 2)] }], [ahead]);
    expect(match(full, NOW)).toEqual({ kind: 'Rest', until: NOW + 300 });
    expect(match(full, NOW + 300)).toEqual({ kind: 'TakeBack', ahead, to: undefined });
  });
});
