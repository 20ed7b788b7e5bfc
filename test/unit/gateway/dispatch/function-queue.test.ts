import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runningPlaces, waitingPlaces } from '../../../../src/gateway/admission/admission-policy.ts';
import type { AgentSession } from '../../../../src/gateway/agents/agent-session.ts';
import type { VersionPlaces } from '../../../../src/gateway/dispatch/function-places.ts';
import type { EnteredCall } from '../../../../src/gateway/dispatch/invoker.ts';
import type { FoundWorker } from '../../../../src/gateway/dispatch/queued-call.ts';
import { Caller } from '../../../../src/gateway/lambda/caller.ts';
import { atOnce, callOf, type InvokerLab, invokerLab, type Later, later } from '../../../support/invoker-lab.ts';
import { settle } from '../../../support/manual-clock.ts';

/** Progress of a call, as a test follows it. */
interface Followed {
  readonly caller: Caller;
  readonly alias: number;
  entered: EnteredCall | undefined;
  at: 'waiting' | 'running' | 'aside' | 'seeking' | 'over';
}

const versions = [1, 2];
const version = fc.constantFrom(...versions);
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('arrive' as const), alias: version }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('name' as const), alias: version, version }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('end' as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('aside' as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('seek' as const), which: fc.nat() }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('answer' as const), bytes: fc.nat({ max: 6 * 2 ** 20 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('hangUp' as const), which: fc.nat() }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('workers' as const), version, count: fc.integer({ min: 0, max: 4 }) }),
  },
);

it.each([undefined, 2])(
  'never has more calls running than a version has places, and never one waiting while there is a place (reserved: %s)',
  {
    tags: ['G7'],
    timeout: 60_000,
  },
  async (reserved) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const lab = invokerLab();
        const concurrency = { queueDepth: 5, ...(reserved === undefined ? {} : { reserved }) };
        const workers = new Map(versions.map((each) => [each, 0]));
        const named = new Map(versions.map((each) => [each, each]));
        const nameAll = (): void => lab.name('f', Object.fromEntries([...named].map(([of, to]) => [`alias${of}`, to])));
        const setWorkers = (of: number, count: number): void => {
          workers.set(of, count);
          for (let index = 0; index < 4; index += 1) {
            const name = `f-${of}-${index}`;
            if (index < count) {
              lab.put(name, { functionName: 'f', version: of, concurrency, holding: {} });
            } else {
              lab.view.removeResource(`uid-of-${name}`);
            }
          }
        };
        nameAll();
        for (const of of versions) {
          setWorkers(of, 1);
        }
        const first = atOnce(lab.enterAs('f', 'alias1'));
        const { places: all, queue } = first;
        first.release();
        const calls: Followed[] = [];
        const pick = (at: Followed['at'], which: number): Followed | undefined => {
          const some = calls.filter((call) => call.at === at);
          return some[which % Math.max(1, some.length)];
        };
        const count = (at: Followed['at'], of?: number): number =>
          calls.filter((call) => call.at === at && (of === undefined || versionOf(call, named) === of)).length;
        /** Calls that the version's workers can run beside those that the workers of the others can. */
        const leftFor = (name: number): number => {
          const able = (of: number): number => workers.get(of) || Number.POSITIVE_INFINITY;
          const others = versions.filter((of) => of !== name);
          const beside = others.reduce((sum, of) => sum + Math.min(count('running', of), able(of)), 0);
          return Math.min(workers.get(name) ?? 0, (reserved ?? Number.POSITIVE_INFINITY) - beside);
        };
        const arrive = (alias: number): void => {
          const call: Followed = { caller: new Caller(), alias, entered: undefined, at: 'waiting' };
          const of = all.of(named.get(alias));
          const isFull = (of.ahead > 0 || !of.isOpen) && of.waiting >= waitingPlaces(of) - over(of);
          try {
            const entrance = lab.enterAs('f', `alias${alias}`, call.caller);
            calls.push(call);
            expect(isFull).toBe(false);
            if (!(entrance instanceof Promise)) {
              call.entered = entrance;
              call.at = 'running';
              return;
            }
            entrance.then(
              (entered) => {
                call.entered = entered;
                call.at = 'running';
              },
              () => {
                call.at = 'over';
              },
            );
          } catch {
            expect(isFull).toBe(true);
          }
        };
        const seek = (call: Followed): void => {
          const { queued } = entered(call);
          const found = lab.invoker.find({ name: 'f', qualifier: `alias${call.alias}` });
          if (found.version !== queued.version) {
            all.handOver(queued, all, found.version);
          }
          call.at = 'seeking';
          queue.seek(queued).then(
            ({ letGo }) => {
              letGo();
              call.at = 'running';
            },
            () => {
              call.at = 'over';
              entered(call).release();
            },
          );
        };
        for (const each of steps) {
          const before = new Map(versions.map((of) => [of, all.of(of).running]));
          switch (each.kind) {
            case 'arrive':
              arrive(each.alias);
              break;
            case 'end': {
              const call = pick('running', each.which);
              if (call !== undefined) {
                call.at = 'over';
                entered(call).release();
              }
              break;
            }
            case 'aside': {
              const call = pick('running', each.which);
              if (call !== undefined) {
                call.at = 'aside';
                all.leave(entered(call).queued);
              }
              break;
            }
            case 'seek': {
              const call = pick('aside', each.which);
              if (call !== undefined) {
                seek(call);
              }
              break;
            }
            case 'answer':
              all.answered(each.bytes);
              queue.run();
              break;
            case 'hangUp':
              (pick('waiting', each.which) ?? pick('seeking', each.which))?.caller.hangUp();
              break;
            case 'workers':
              setWorkers(each.version, each.count);
              break;
            case 'name':
              named.set(each.alias, each.version);
              nameAll();
              break;
          }
          await settle();
          expect(all.waiting).toBe(count('waiting'));
          for (const name of versions) {
            const of = all.of(name);
            const places = runningPlaces(of);
            expect(of.running).toBe(count('running', name));
            const waiting = count('waiting', name) + (workers.get(name) === 0 ? 0 : count('seeking', name));
            if (waiting > 0) {
              expect(of.running).toBeGreaterThanOrEqual(places);
              expect(of.running).toBeGreaterThanOrEqual(leftFor(name));
            }
            // Workers that go take no call with them: what runs already may be more than there are places.
            expect(of.running).toBeLessThanOrEqual(Math.max(places, before.get(name) ?? 0));
          }
        }
        for (const call of calls) {
          call.caller.hangUp();
        }
        await settle();
        expect(lab.clock.pending()).toBe(0);
      }),
      { numRuns: 200 },
    );
  },
);

/** The version that a call waits for, or had a place of. */
function versionOf({ alias, entered }: Followed, named: ReadonlyMap<number, number>): number | undefined {
  return entered === undefined ? named.get(alias) : entered.queued.version;
}

function entered(call: Followed): EnteredCall {
  if (call.entered === undefined) {
    throw new Error('the call has had no place');
  }
  return call.entered;
}

/** Calls that run although there are no places for them any more: they count as waiting. */
function over(of: VersionPlaces): number {
  return Math.max(0, of.running - runningPlaces(of));
}

describe('a call whose worker is away', () => {
  /** Two running workers of a function, with a place each. */
  const awayLab = (concurrency: { readonly queueDepth?: number } = {}, maxWaitMs = 30_000): InvokerLab => {
    const lab = invokerLab({ maxWaitMs });
    for (const name of ['f-0', 'f-1']) {
      lab.put(name, { functionName: 'f', concurrency, holding: {} });
    }
    return lab;
  };
  const seekAll = (lab: InvokerLab): Later<FoundWorker> => {
    const entrance = atOnce(lab.enter('f'));
    return later(entrance.queue.seek(entrance.queued));
  };

  it('lets others have its place meanwhile, and goes before those that have not had one', async () => {
    const lab = awayLab();
    const away = atOnce(lab.enter('f'));
    const running = atOnce(lab.enter('f'));
    const next = later(lab.enter('f'));
    const last = later(lab.enter('f'));
    away.places.leave(away.queued);
    await settle();
    expect(next.place).toBeDefined();
    const back = later(away.queue.seek(away.queued));
    running.release();
    await settle();
    expect([back.place?.route.isQueued, last.place]).toEqual([false, undefined]);
    away.release();
    await settle();
    expect(last.place).toBeDefined();
  });

  it('has its place back at once where there is one', async () => {
    const lab = awayLab();
    const away = atOnce(lab.enter('f'));
    expect(await away.queue.seek(away.queued)).toBeDefined();
    away.release();
    atOnce(lab.enter('f'));
    atOnce(lab.enter('f'));
    expect(lab.clock.pending()).toBe(0);
  });

  it('goes over to the place of another version, before those that have not had one', async () => {
    const lab = invokerLab();
    for (const of of versions) {
      lab.put(`f-${of}-0`, { functionName: 'f', version: of, holding: {} });
    }
    const one = atOnce(lab.enterAs('f', '1'));
    const two = atOnce(lab.enterAs('f', '2'));
    const next = later(lab.enterAs('f', '2'));
    one.places.handOver(one.queued, one.places, 2);
    const moved = later(one.queue.seek(one.queued));
    atOnce(lab.enterAs('f', '1'));
    two.release();
    await settle();
    expect([moved.place?.route.uid, next.place]).toEqual(['uid-of-f-2-0', undefined]);
    one.release();
    await settle();
    expect(next.place).toBeDefined();
  });

  it.each(['PHASE_RUNNING', 'PHASE_PAUSED'] as const)('has a worker to itself (both in %s)', async (phase) => {
    const lab = invokerLab();
    for (const name of ['f-0', 'f-1']) {
      lab.put(name, { functionName: 'f', holding: { phase } });
    }
    const [one, two] = [seekAll(lab), seekAll(lab)];
    await settle();
    const uids = new Set([one.place?.route.uid, two.place?.route.uid]);
    expect(uids).toEqual(new Set(['uid-of-f-0', 'uid-of-f-1']));
  });

  it('is refused when its function was removed meanwhile, and goes to the one that has its name by then', async () => {
    const lab = awayLab();
    for (const name of ['f-0', 'f-1']) {
      lab.view.removeHolding('node-1', `uid-of-${name}`);
    }
    const seeking = [seekAll(lab), seekAll(lab)];
    lab.view.removeResource('uid-of-f-0');
    await settle();
    expect(seeking).toEqual([{}, {}]);
    lab.view.removeResource('uid-of-f-1');
    await settle();
    expect(seeking).toMatchObject([{ error: { status: 404 } }, { error: { status: 404 } }]);
    expect(lab.clock.pending()).toBe(0);
  });

  it('is refused when its function was switched off meanwhile', async () => {
    const lab = awayLab();
    const away = atOnce(lab.enter('f'));
    away.places.leave(away.queued);
    lab.add('f', 1, { reserved: 0 });
    await expect(away.queue.seek(away.queued)).rejects.toMatchObject({ status: 429 });
    away.release();
  });

  it('holds no place after it has ended while away', () => {
    const lab = awayLab();
    const away = atOnce(lab.enter('f'));
    away.places.leave(away.queued);
    away.release();
    atOnce(lab.enter('f'));
    atOnce(lab.enter('f'));
    later(lab.enter('f'));
  });

  it('does not count against the queue of those that come new', () => {
    const lab = awayLab({ queueDepth: 1 });
    for (let call = 0; call < 50; call += 1) {
      const away = atOnce(lab.enter('f'));
      away.places.leave(away.queued);
    }
    atOnce(lab.enter('f'));
  });

  it('waits for a worker no longer than it may, but for the time in which all places are taken', async () => {
    const lab = invokerLab({ maxWaitMs: 1_000 });
    lab.put('f-0', { functionName: 'f' });
    const away = atOnce(lab.enter('f'));
    const seeking = later(away.queue.seek(away.queued));
    await lab.clock.advance(900);
    const others = Array.from({ length: 5 }, () => lab.enter('f')).filter((each) => !(each instanceof Promise));
    away.queue.run();
    await lab.clock.advance(900);
    expect(seeking).toEqual({ place: undefined, error: undefined });
    for (const other of others) {
      atOnce(other).release();
    }
    await lab.clock.advance(99);
    expect(seeking).toEqual({ place: undefined, error: undefined });
    await lab.clock.advance(1);
    expect(seeking.error).toMatchObject({ status: 503 });
    away.release();
    expect(lab.clock.pending()).toBe(0);
  });
});

/** A session to an agent that never answers. */
const silentSession = { run: '', isOpen: true, invoke: () => new Promise(() => undefined) } as unknown as AgentSession;

it('takes a call back from an agent for a worker that is free since another call was sent', async () => {
  const lab = invokerLab({ sessionOf: () => silentSession, mayGrow: () => true });
  lab.put('busy', { functionName: 'f', holding: { inFlight: 1, others: 1, othersPlaced: 1 } });
  lab.put('starting', { functionName: 'f', holding: { phase: 'PHASE_CREATING' } });
  lab.put('absent', { functionName: 'f', holding: { phase: 'PHASE_ABSENT' } });
  const waiting = atOnce(lab.enter('f'));
  const sent = waiting.queue.sendAhead(waiting.queued, {
    uid: 'uid-of-busy',
    name: 'busy',
    nodeName: 'node-1',
    epoch: 1,
    isQueued: true,
  });
  let isWithdrawn = false;
  sent.waits.withdraw = () => {
    isWithdrawn = true;
  };
  // The worker that is being started is the next one for a call: it is no free one for others.
  const other = atOnce(lab.enter('f'));
  void lab.invoker.invoke(callOf('f'), new Caller(), other);
  await settle();
  expect(isWithdrawn).toBe(true);
});
