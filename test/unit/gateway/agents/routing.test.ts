import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  chooseRoute,
  foreignPlacesOf,
  type Holding,
  obstacleOf,
  type RoutableWorker,
  readyPlacesOf,
} from '../../../../src/gateway/agents/routing.ts';
import type { Phase } from '../../../../src/protocol/generated/agent.ts';

function worker(name: string, phase: Phase, more: Partial<RoutableWorker & Holding> = {}): RoutableWorker {
  return {
    uid: name,
    name,
    assignment: more.assignment ?? { nodeName: 'node-1', epoch: 1 },
    outstanding: more.outstanding ?? 0,
    lastTurn: more.lastTurn ?? 0,
    holding: {
      epoch: more.epoch ?? 1,
      phase,
      foreignInFlight: more.foreignInFlight ?? 0,
      foreignPlaces: more.foreignPlaces ?? Math.min(more.foreignInFlight ?? 0, more.places ?? 1),
      callable: more.callable ?? true,
      places: more.places ?? 1,
    },
  };
}

const share = (count: number) => ({ assignment: { nodeName: 'node-1', epoch: 1, share: count } });

describe('chooseRoute by shares', () => {
  it('calls no worker without a share', () => {
    const workers = [worker('a', 'PHASE_RUNNING', share(0)), worker('b', 'PHASE_ABSENT', share(1))];
    expect(chooseRoute(workers, undefined, 0)).toMatchObject({ uid: 'b' });
    expect(chooseRoute(workers.slice(0, 1), undefined, 0)).toBeUndefined();
    expect(workers.map((each) => obstacleOf(each, () => true))).toEqual(['NoShare', undefined]);
  });

  it('takes a worker for full whose share is in use, whatever an agent of before says', () => {
    const workers = [
      worker('a', 'PHASE_RUNNING', { places: 8, outstanding: 1, ...share(1) }),
      worker('b', 'PHASE_PAUSED', { places: 8, ...share(1) }),
    ];
    expect(chooseRoute(workers, undefined, 0)).toMatchObject({ uid: 'b' });
  });
});

describe('chooseRoute among workers without a free place', () => {
  it('has calls wait where the fewest of this gateway do, whatever those of others', () => {
    const own = worker('a', 'PHASE_RUNNING', { outstanding: 2 });
    const foreign = worker('b', 'PHASE_RUNNING', { foreignInFlight: 4, outstanding: 1 });
    const crowded = worker('c', 'PHASE_RUNNING', { foreignInFlight: 3 });
    for (const rotation of [0, 1, 2]) {
      expect(chooseRoute([own, foreign, crowded], undefined, rotation)).toMatchObject({ uid: 'c', isQueued: true });
    }
    expect(chooseRoute([own, { ...foreign, outstanding: 2 }], undefined, 1)).toMatchObject({ uid: 'a' });
  });

  it('takes one that has refused for want of a place for full, while it has the epoch of then', () => {
    const one = worker('a', 'PHASE_RUNNING');
    expect(chooseRoute([one], undefined, 0, new Map([['a', 1]]))).toMatchObject({ uid: 'a', isQueued: true });
    expect(chooseRoute([one], undefined, 0, new Map([['a', 2]]))).toMatchObject({ uid: 'a', isQueued: false });
  });
});

describe('the places that calls of other gateways have at a worker', () => {
  it.each<[string, number, Phase, Partial<RoutableWorker & Holding>]>([
    ['are as many as these calls', 2, 'PHASE_RUNNING', { places: 4, foreignInFlight: 2 }],
    ['are no more than it has', 1, 'PHASE_PAUSED', { foreignInFlight: 3 }],
    [
      'are none where a call of this gateway has the only one',
      0,
      'PHASE_RUNNING',
      { foreignInFlight: 1, foreignPlaces: 0, outstanding: 1 },
    ],
    [
      'are those that calls of this gateway leave',
      1,
      'PHASE_RUNNING',
      { places: 3, foreignInFlight: 3, foreignPlaces: 1, outstanding: 2 },
    ],
    ['are no more than its share', 1, 'PHASE_RUNNING', { places: 4, foreignInFlight: 2, ...share(1) }],
    ['are those that wait for its start', 1, 'PHASE_CREATING', { foreignInFlight: 1 }],
    ['are those that wait for its image', 1, 'PHASE_PULLING', { places: 4, foreignInFlight: 1 }],
    ['are none while it is another node that has it', 0, 'PHASE_RUNNING', { foreignInFlight: 1, epoch: 2 }],
  ])('%s', (_what, expected, phase, more) => {
    expect(foreignPlacesOf(worker('a', phase, more))).toBe(expected);
  });
});

describe('the ready places of a worker', () => {
  it.each([
    [
      'are those of its agent while it runs, rests, or has to be started',
      worker('a', 'PHASE_ABSENT', { places: 4 }),
      4,
    ],
    ['are no more than its share', worker('a', 'PHASE_PAUSED', { places: 4, ...share(2) }), 2],
    ['are none while it gets its image', worker('a', 'PHASE_PULLING'), 0],
    ['are those that have a call that waits for its image', worker('a', 'PHASE_PULLING', { outstanding: 1 }), 1],
    [
      'are those that have a call that waits for its start, at whichever gateway',
      worker('a', 'PHASE_CREATING', { places: 4, foreignInFlight: 2 }),
      2,
    ],
    ['are none while it is being started', worker('a', 'PHASE_CREATING', { places: 4 }), 0],
    ['are those that have a call by which it is being started', worker('a', 'PHASE_PENDING', { outstanding: 1 }), 1],
    ['are none while it ends', worker('a', 'PHASE_TERMINATING'), 0],
    ['are none where its owner keeps it at rest', worker('a', 'PHASE_PAUSED', { callable: false }), 0],
    [
      'are those that have a call while its agent cannot be reached',
      { ...worker('a', 'PHASE_RUNNING', { outstanding: 1 }), holding: undefined },
      1,
    ],
    ['are none without a node', { ...worker('a', 'PHASE_RUNNING'), assignment: undefined }, 0],
  ])('%s', (_title, one, places) => {
    expect(readyPlacesOf(one)).toBe(places);
  });

  it('are what a call finds that does not wait at the agent', () => {
    const busy = worker('a', 'PHASE_RUNNING', { outstanding: 1 });
    expect(chooseRoute([busy], undefined, 0)).toMatchObject({ isQueued: true });
    expect(chooseRoute([worker('a', 'PHASE_PULLING')], undefined, 0)).toMatchObject({ isQueued: true });
    expect(chooseRoute([busy, worker('b', 'PHASE_ABSENT')], undefined, 0)).toMatchObject({ uid: 'b', isQueued: false });
    const starting = worker('b', 'PHASE_CREATING');
    expect(chooseRoute([busy, starting], undefined, 0)).toMatchObject({ uid: 'a', isQueued: true });
    expect(chooseRoute([starting, worker('c', 'PHASE_CREATING')], undefined, 0)).toMatchObject({ isQueued: true });
    // None of the others may be free before.
    expect(chooseRoute([starting], undefined, 0)).toMatchObject({ isQueued: false });
    expect(chooseRoute([busy, starting], new Map([['a', 1]]), 0)).toMatchObject({ uid: 'b', isQueued: false });
    expect(chooseRoute([starting, worker('c', 'PHASE_FAILED')], undefined, 0)).toMatchObject({ isQueued: false });
    const kept = worker('c', 'PHASE_PAUSED', { callable: false });
    expect(chooseRoute([starting, kept], undefined, 0)).toMatchObject({ uid: 'b', isQueued: false });
    // One that has moved since it refused may take the call.
    expect(chooseRoute([busy, starting], new Map([['a', 0]]), 0)).toMatchObject({ uid: 'a', isQueued: true });
    // Its agent refuses the call, and says why.
    expect(chooseRoute([worker('a', 'PHASE_FAILED')], undefined, 0)).toMatchObject({ isQueued: false });
  });
});

describe('chooseRoute', () => {
  it.each([
    ['running and idle before paused', [worker('a', 'PHASE_PAUSED'), worker('b', 'PHASE_RUNNING')], 'b'],
    ['paused before absent', [worker('a', 'PHASE_ABSENT'), worker('b', 'PHASE_PAUSED')], 'b'],
    [
      'a cold start before a queue',
      [worker('a', 'PHASE_RUNNING', { outstanding: 1 }), worker('b', 'PHASE_ABSENT')],
      'b',
    ],
    [
      'the shorter queue',
      [worker('a', 'PHASE_RUNNING', { outstanding: 3 }), worker('b', 'PHASE_RUNNING', { foreignInFlight: 2 })],
      'b',
    ],
    [
      'a short queue before a pull',
      [worker('a', 'PHASE_PULLING'), worker('b', 'PHASE_RUNNING', { outstanding: 2 })],
      'b',
    ],
    ['anything before a failed one', [worker('a', 'PHASE_FAILED'), worker('b', 'PHASE_TERMINATING')], 'b'],
    [
      'one that may be woken before one that may not',
      [worker('a', 'PHASE_PAUSED', { callable: false }), worker('b', 'PHASE_FAILED')],
      'b',
    ],
    [
      'a free place of a running one before a paused one',
      [worker('a', 'PHASE_PAUSED', { places: 8 }), worker('b', 'PHASE_RUNNING', { places: 8, outstanding: 7 })],
      'b',
    ],
    [
      'the one with most of its places free',
      [
        worker('a', 'PHASE_RUNNING', { places: 4, outstanding: 2 }),
        worker('b', 'PHASE_RUNNING', { places: 16, outstanding: 3 }),
      ],
      'b',
    ],
    [
      'one that is being woken before another that would have to be',
      [worker('a', 'PHASE_PAUSED', { places: 2 }), worker('b', 'PHASE_RESUMING', { places: 2, outstanding: 1 })],
      'b',
    ],
    [
      'another that is paused before one whose places are taken once it is woken',
      [worker('a', 'PHASE_RESUMING', { places: 2, outstanding: 2 }), worker('b', 'PHASE_PAUSED', { places: 2 })],
      'b',
    ],
    [
      'one that is being started before another that would have to be',
      [worker('a', 'PHASE_ABSENT', { places: 2 }), worker('b', 'PHASE_CREATING', { places: 2, outstanding: 1 })],
      'b',
    ],
    [
      'the shorter queue for its places',
      [
        worker('a', 'PHASE_RUNNING', { places: 1, outstanding: 2 }),
        worker('b', 'PHASE_RUNNING', { places: 8, outstanding: 9 }),
      ],
      'b',
    ],
    [
      'the one that was called last among those that are paused',
      [
        worker('a', 'PHASE_PAUSED', { lastTurn: 3 }),
        worker('b', 'PHASE_PAUSED', { lastTurn: 7 }),
        worker('c', 'PHASE_PAUSED'),
      ],
      'b',
    ],
    [
      'the one that was called last among those that have to be started',
      [worker('a', 'PHASE_ABSENT'), worker('b', 'PHASE_ABSENT', { lastTurn: 2 })],
      'b',
    ],
    ['one that may not be woken when there is no other', [worker('a', 'PHASE_PAUSED', { callable: false })], 'a'],
  ])('prefers %s', (_what, workers, expected) => {
    expect(chooseRoute(workers, undefined, 0)?.name).toBe(expected);
    expect(chooseRoute(workers, undefined, 1)?.name).toBe(expected);
  });

  it('goes round among equals', () => {
    const workers = ['a', 'b', 'c'].map((name, lastTurn) => worker(name, 'PHASE_RUNNING', { lastTurn }));
    expect([0, 1, 2, 3].map((rotation) => chooseRoute(workers, undefined, rotation)?.name)).toEqual([
      'a',
      'b',
      'c',
      'a',
    ]);
  });

  it('chooses the assigned node under the assigned epoch, and nobody who was tried or has not taken over', () => {
    const phases: Phase[] = ['PHASE_RUNNING', 'PHASE_PAUSED', 'PHASE_ABSENT', 'PHASE_FAILED'];
    const epoch = fc.integer({ min: 1, max: 3 });
    const workers = fc.array(
      fc.record({
        name: fc.string(),
        assignment: fc.option(fc.record({ nodeName: fc.constantFrom('node-1', 'node-2'), epoch }), {
          nil: undefined,
        }),
        holding: fc.option(
          fc.record({
            epoch,
            phase: fc.constantFrom(...phases),
            foreignInFlight: fc.nat(3),
            foreignPlaces: fc.nat(3),
            callable: fc.boolean(),
            places: fc.integer({ min: 1, max: 4 }),
          }),
          { nil: undefined },
        ),
        outstanding: fc.nat(3),
        lastTurn: fc.nat(3),
      }),
      { maxLength: 6 },
    );
    fc.assert(
      fc.property(workers, fc.nat(), fc.array(fc.nat(5)), (drawn, rotation, triedIndexes) => {
        const all: RoutableWorker[] = drawn.map((each, index) => ({ ...each, uid: String(index) }));
        const tried = new Map(triedIndexes.map((index) => [String(index), all[index]?.assignment?.epoch ?? 0]));
        const route = chooseRoute(all, tried, rotation);
        const candidates = all.filter(
          ({ uid, holding, assignment }) =>
            !tried.has(uid) && holding !== undefined && assignment !== undefined && holding.epoch === assignment.epoch,
        );
        expect(route === undefined).toBe(candidates.length === 0);
        if (route !== undefined) {
          const chosen = candidates.find(({ uid }) => uid === route.uid);
          expect({ nodeName: route.nodeName, epoch: route.epoch }).toEqual(chosen?.assignment);
        }
      }),
    );
  });
});

describe('obstacleOf', () => {
  const held = worker('a', 'PHASE_RUNNING');
  it('is none for a worker that can be called', () => {
    expect(obstacleOf(held, () => true)).toBeUndefined();
  });

  it.each([
    ['Unassigned', { ...held, assignment: undefined, holding: undefined }, true],
    ['AgentUnreachable', { ...held, holding: undefined }, false],
    ['NotTakenOver', { ...held, holding: undefined }, true],
    ['NotTakenOver', { ...held, assignment: { nodeName: 'node-1', epoch: 2 } }, true],
    ['NotTakenOver', worker('a', 'PHASE_RUNNING', { epoch: 2 }), true],
  ])('is %s', (expected, subject, connected) => {
    expect(obstacleOf(subject, () => connected)).toBe(expected);
  });
});
