import { describe, expect, it } from 'vitest';
import { ANONYMOUS, type Principal } from '../../../../src/gateway/access/principal.ts';
import { Admission, type AdmissionOptions, type Admitted } from '../../../../src/gateway/admission/admission.ts';
import { type LoadLimits, Room } from '../../../../src/gateway/admission/room.ts';
import { FleetView } from '../../../../src/gateway/agents/fleet-view.ts';
import type { FunctionCall } from '../../../../src/gateway/agents/function-call.ts';
import { Caller } from '../../../../src/gateway/lambda/caller.ts';
import { type ManualClock, manualClock, settle } from '../../../support/manual-clock.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

interface Lab {
  readonly admission: Admission;
  readonly view: FleetView;
  readonly room: Room;
  readonly clock: ManualClock;
  /** Adds workers of a function; the first speaks for it. */
  add(functionName: string, workers: number, concurrency?: { reserved?: number; queueDepth?: number }): void;
  enter(functionName: string, caller?: Caller, payload?: Buffer): Promise<Admitted> | Admitted;
}

function admissionLab(
  options: Partial<Omit<AdmissionOptions, 'room'>> & { readonly load?: Partial<LoadLimits> } = {},
): Lab {
  const view = new FleetView('default');
  const clock = manualClock();
  const room = new Room(
    { maxRequests: 1_000, maxBytes: 1_000_000, maxLoopDelayMs: 1_000, maxHeapUse: 0.9, ...options.load },
    { loopDelayMs: 0, heapUse: 0 },
  );
  const admission = new Admission({
    view,
    room,
    callerRate: { perSecond: 0, burst: 1 },
    maxWaitMs: 60_000,
    clock,
    ...options,
  });
  return {
    admission,
    view,
    room,
    clock,
    add(functionName, workers, concurrency) {
      for (let index = 0; index < workers; index += 1) {
        view.applyResource(
          workerFixture({
            name: `${functionName}-${index}`,
            spec: {
              functionName,
              ...(concurrency === undefined ? {} : { concurrency: { queueDepth: 100, ...concurrency } }),
            },
          }),
        );
      }
    },
    enter: (functionName, caller = new Caller('192.0.2.1'), payload = Buffer.from('{}')) =>
      admission.enter(callOf(functionName, payload), caller),
  };
}

function callOf(name: string, payload: Buffer = Buffer.from('{}')): FunctionCall {
  return {
    reference: { name },
    requestId: 'request-1',
    payload,
    clientContext: '',
    tailLog: false,
    traceId: '',
    traceParent: '',
  };
}

/** A place that is had at once. */
function atOnce(entrance: Promise<Admitted> | Admitted): Admitted {
  if (entrance instanceof Promise) {
    throw new Error('the call has to wait');
  }
  return entrance;
}

/** A place that has to be waited for, and whether it has come. */
function later(entrance: Promise<Admitted> | Admitted): { place: Admitted | undefined; error: unknown } {
  if (!(entrance instanceof Promise)) {
    throw new Error('the call was let in at once');
  }
  const seen: { place: Admitted | undefined; error: unknown } = { place: undefined, error: undefined };
  entrance.then(
    (place) => {
      seen.place = place;
    },
    (error: unknown) => {
      seen.error = error;
    },
  );
  return seen;
}

const busy = {
  code: 'TooManyRequestsException',
  reason: 'ReservedFunctionConcurrentInvocationLimitExceeded',
};

describe('the load of a function', () => {
  it('has calls from their arrival to their end, whether they wait or run, and none that was refused', async () => {
    let counted = 0;
    const loadMeter = {
      expect: () => ({
        version: undefined,
        count: () => {
          counted += 1;
          return {
            draw: () => 0,
            version: () => undefined,
            move: () => undefined,
            end: () => {
              counted -= 1;
            },
          };
        },
      }),
    };
    const lab = admissionLab({ loadMeter, mayGrow: () => true });
    lab.add('f', 1, { queueDepth: 2 });
    const running = atOnce(lab.enter('f'));
    const waiting = later(lab.enter('f'));
    const gone = new Caller('192.0.2.1');
    const leaving = later(lab.enter('f', gone));
    expect(counted).toBe(3);
    expect(() => lab.enter('f')).toThrow('its queue is full');
    expect(counted).toBe(3);
    gone.hangUp();
    await settle();
    expect(leaving.error).toBeDefined();
    expect(counted).toBe(2);
    running.release();
    await settle();
    expect([counted, waiting.place?.draw === undefined]).toEqual([1, false]);
    waiting.place?.release();
    expect(counted).toBe(0);
  });
});

describe('a call of a function', () => {
  it('is let in at once, without a promise, while a worker is free', () => {
    const lab = admissionLab();
    lab.add('f', 2);
    expect(atOnce(lab.enter('f')).queuedMs).toBe(0);
    atOnce(lab.enter('f'));
  });

  it('waits for the next place otherwise, in the order of arrival, and is told for how long', async () => {
    const lab = admissionLab();
    lab.add('f', 2);
    const one = atOnce(lab.enter('f'));
    const two = atOnce(lab.enter('f'));
    const third = later(lab.enter('f'));
    const fourth = later(lab.enter('f'));
    expect(lab.admission.waiting).toBe(2);
    await lab.clock.advance(40);
    one.release();
    await settle();
    expect(third.place?.queuedMs).toBe(40);
    expect(fourth.place).toBeUndefined();
    two.release();
    await settle();
    expect(fourth.place).toBeDefined();
    expect(lab.admission.waiting).toBe(0);
    expect(lab.clock.pending()).toBe(0);
  });

  it('is refused when the queue is full', () => {
    const lab = admissionLab();
    lab.add('f', 2, { queueDepth: 1 });
    void lab.enter('f');
    void lab.enter('f');
    later(lab.enter('f'));
    expect(() => lab.enter('f')).toThrow(expect.objectContaining(busy));
  });

  it('is refused when it has waited for too long, and leaves the queue', async () => {
    const lab = admissionLab({ maxWaitMs: 5_000 });
    lab.add('f', 2, { queueDepth: 1 });
    void lab.enter('f');
    void lab.enter('f');
    const third = later(lab.enter('f'));
    await lab.clock.advance(5_000);
    expect(third.error).toMatchObject(busy);
    later(lab.enter('f'));
  });

  it('leaves the queue when its caller hangs up', { tags: ['G7'] }, async () => {
    const lab = admissionLab();
    lab.add('f', 2);
    const one = atOnce(lab.enter('f'));
    void lab.enter('f');
    const caller = new Caller();
    const gone = later(lab.enter('f', caller));
    const next = later(lab.enter('f'));
    caller.hangUp();
    one.release();
    await settle();
    expect(gone).toMatchObject({ place: undefined, error: { status: 503 } });
    expect(next.place).toBeDefined();
  });

  it('is refused when its function is switched off, waiting or not', { tags: ['G5'] }, async () => {
    const lab = admissionLab();
    lab.add('f', 2);
    void lab.enter('f');
    void lab.enter('f');
    const waiting = later(lab.enter('f'));
    lab.add('f', 1, { reserved: 0 });
    await settle();
    expect(waiting.error).toMatchObject(busy);
    expect(() => lab.enter('f')).toThrow(expect.objectContaining(busy));
  });

  it('is let in when a worker is added, or more are reserved', async () => {
    const lab = admissionLab();
    lab.add('f', 3, { reserved: 1 });
    atOnce(lab.enter('f'));
    const second = later(lab.enter('f'));
    const third = later(lab.enter('f'));
    lab.add('f', 1, { reserved: 2 });
    await settle();
    expect(second.place).toBeDefined();
    expect(third.place).toBeUndefined();
    lab.add('f', 1, { reserved: 3 });
    await settle();
    expect(third.place).toBeDefined();
  });

  it('is let go when the function is removed: whoever runs it finds that out', async () => {
    const lab = admissionLab();
    lab.add('f', 2);
    void lab.enter('f');
    void lab.enter('f');
    const third = later(lab.enter('f'));
    for (const name of ['f-0', 'f-1']) {
      lab.view.removeResource(`uid-of-${name}`);
    }
    await settle();
    expect(third.place).toBeDefined();
    atOnce(lab.enter('f')).release();
  });
});

describe('a call of a version', () => {
  const loadMeter = {
    expect: ({ qualifier }: { readonly qualifier?: string | undefined }) => ({
      version: Number(qualifier),
      count: () => {
        let version: number | undefined = Number(qualifier);
        return {
          draw: () => 0,
          version: () => version,
          move: (next: number | undefined) => {
            version = next;
          },
          end: () => undefined,
        };
      },
    }),
  };
  const versionsLab = (
    options: {
      readonly reserved?: number;
      readonly shares?: readonly number[];
      readonly loadMeter?: NonNullable<AdmissionOptions['loadMeter']>;
    } = {},
  ) => {
    const lab = admissionLab({ loadMeter: options.loadMeter ?? loadMeter });
    const { reserved, shares } = options;
    for (const version of [1, 2]) {
      const share = shares?.[version - 1];
      lab.view.applyResource(
        workerFixture({
          name: `f-${version}-0`,
          spec: {
            functionName: 'f',
            version,
            concurrency: { queueDepth: 2, ...(reserved === undefined ? {} : { reserved }) },
          },
          status: { assignment: { nodeName: 'node-1', epoch: 1, ...(share === undefined ? {} : { share }) } },
        }),
      );
    }
    const call = (version: number): FunctionCall => ({
      ...callOf('f'),
      reference: { name: 'f', qualifier: String(version) },
    });
    return { ...lab, enter: (version: number) => lab.admission.enter(call(version), new Caller('192.0.2.1')) };
  };

  it('has a place beside those that wait for another version, also where these fill the queue', async () => {
    const lab = versionsLab();
    const one = atOnce(lab.enter(1));
    const waiting = later(lab.enter(1));
    later(lab.enter(1));
    expect(() => lab.enter(1)).toThrow(expect.objectContaining(busy));
    atOnce(lab.enter(2)).release();
    await settle();
    expect(waiting.place).toBeUndefined();
    one.release();
    await settle();
    expect(waiting.place).toBeDefined();
  });

  it('has its part of the reserved concurrency where each version has shares', () => {
    const lab = versionsLab({ reserved: 2, shares: [1, 1] });
    atOnce(lab.enter(1));
    later(lab.enter(1));
    atOnce(lab.enter(2));
  });

  it('waits for what is reserved where no version has shares, whichever has it', async () => {
    const lab = versionsLab({ reserved: 1 });
    const one = atOnce(lab.enter(1));
    const other = later(lab.enter(2));
    one.release();
    await settle();
    expect(other.place).toBeDefined();
  });

  it.each(['PHASE_RUNNING', 'PHASE_CREATING', 'PHASE_PULLING'] as const)(
    'asks at each worker where calls of other gateways have all that is reserved, at workers in %s',
    (phase) => {
      const lab = admissionLab();
      const names = ['f-0', 'f-1', 'f-2'];
      for (const name of names) {
        const spec = { functionName: 'f', concurrency: { reserved: 3, queueDepth: 100 } };
        const status = { assignment: { nodeName: 'node-1', epoch: 1, share: 1 } };
        lab.view.applyResource(workerFixture({ name, spec, status }));
      }
      const states = names.map((name) => ({
        worker: { namespace: 'default', name, uid: `uid-of-${name}` },
        functionName: 'f',
        epoch: 1,
        phase,
        inFlight: 1,
        others: 1,
        othersPlaced: 1,
        containerId: '',
        callable: true,
        places: 1,
        usage: null,
      }));
      lab.view.replaceHoldings('node-1', states);
      const entered = Array.from({ length: 8 }, () => lab.enter('f')).filter((each) => !(each instanceof Promise));
      expect(entered).toHaveLength(4);
    },
  );

  it('goes over to the place of another version, before those that have not had one', async () => {
    const lab = versionsLab();
    const one = atOnce(lab.enter(1));
    const two = atOnce(lab.enter(2));
    const next = later(lab.enter(2));
    const target = lab.view.function('f');
    if (target === undefined) {
      throw new Error('there is no function');
    }
    expect(one.move(target, 1, new Caller())).toBeUndefined();
    let moved = false;
    void one.move(target, 2, new Caller())?.then(() => {
      moved = true;
    });
    atOnce(lab.enter(1));
    two.release();
    await settle();
    expect([moved, next.place]).toEqual([true, undefined]);
    one.release();
    await settle();
    expect(next.place).toBeDefined();
  });

  it('comes back to the version that its alias names by now', async () => {
    const named = new Map([['1', 1]]);
    const expecting = ({ qualifier = '' }: { readonly qualifier?: string | undefined }) => ({
      version: named.get(qualifier),
      count: () => ({
        draw: () => 0,
        version: () => named.get(qualifier),
        move: () => undefined,
        end: () => undefined,
      }),
    });
    const lab = versionsLab({ loadMeter: { expect: expecting } });
    const away = atOnce(lab.enter(1));
    away.stepAside();
    const other = atOnce(lab.enter(1));
    named.set('1', 2);
    expect(away.stepBack(new Caller())).toBeUndefined();
    other.release();
    away.release();
  });

  it('is let go where its version has no workers: whoever runs it waits for some', async () => {
    const lab = versionsLab();
    atOnce(lab.enter(1));
    const waiting = later(lab.enter(1));
    lab.view.removeResource('uid-of-f-1-0');
    await settle();
    expect(waiting.place).toBeDefined();
    atOnce(lab.enter(3));
  });
});

describe('a call whose worker is away', () => {
  it('lets others have its place meanwhile, and comes back before those that have not had one', async () => {
    const lab = admissionLab();
    lab.add('f', 2);
    const away = atOnce(lab.enter('f'));
    const running = atOnce(lab.enter('f'));
    const next = later(lab.enter('f'));
    const last = later(lab.enter('f'));
    away.stepAside();
    await settle();
    expect(next.place).toBeDefined();
    let back = false;
    const returning = away.stepBack(new Caller())?.then(() => {
      back = true;
    });
    expect(returning).toBeDefined();
    running.release();
    await settle();
    expect(back).toBe(true);
    expect(last.place).toBeUndefined();
    away.release();
    await settle();
    expect(last.place).toBeDefined();
  });

  it('has its place back at once where there is one', () => {
    const lab = admissionLab();
    lab.add('f', 2);
    const away = atOnce(lab.enter('f'));
    away.stepAside();
    expect(away.stepBack(new Caller())).toBeUndefined();
    away.release();
    atOnce(lab.enter('f'));
    atOnce(lab.enter('f'));
  });

  it('is let go when its function was removed meanwhile, or replaced by another of its name', async () => {
    const lab = admissionLab();
    lab.add('f', 2);
    const away = atOnce(lab.enter('f'));
    away.stepAside();
    for (const name of ['f-0', 'f-1']) {
      lab.view.removeResource(`uid-of-${name}`);
    }
    lab.add('f', 2);
    await away.stepBack(new Caller());
    away.release();
  });

  it('is refused when its function was switched off meanwhile', async () => {
    const lab = admissionLab();
    lab.add('f', 2);
    const away = atOnce(lab.enter('f'));
    away.stepAside();
    lab.add('f', 1, { reserved: 0 });
    await expect(away.stepBack(new Caller())).rejects.toMatchObject(busy);
    away.release();
  });

  it('holds no place after it was given up while away', async () => {
    const lab = admissionLab();
    lab.add('f', 2);
    const away = atOnce(lab.enter('f'));
    away.stepAside();
    away.release();
    atOnce(lab.enter('f'));
    atOnce(lab.enter('f'));
    later(lab.enter('f'));
  });

  it('does not count against the queue of those that come new', () => {
    const lab = admissionLab();
    lab.add('f', 2, { queueDepth: 1 });
    for (let call = 0; call < 50; call += 1) {
      atOnce(lab.enter('f')).stepAside();
    }
    expect(lab.enter('f')).not.toBeInstanceOf(Promise);
  });
});

describe('functions beside each other', () => {
  it('have queues of their own: a slow one does not hold up another', () => {
    const lab = admissionLab();
    lab.add('slow', 2);
    lab.add('quick', 2);
    for (let call = 0; call < 50; call += 1) {
      void lab.enter('slow');
    }
    atOnce(lab.enter('quick'));
  });

  it('share the room of the gateway: one that holds as much as is free gets no more', () => {
    const lab = admissionLab({ load: { maxRequests: 100 } });
    lab.add('greedy', 2, { queueDepth: 10_000 });
    lab.add('other', 2);
    let taken = 0;
    const fill = (): void => {
      for (;;) {
        const hold = lab.room.open();
        try {
          void lab.enter('greedy');
          taken += 1;
        } catch (error) {
          hold.close();
          throw error;
        }
      }
    };
    expect(fill).toThrow(expect.objectContaining({ reason: 'FunctionInvocationRateLimitExceeded' }));
    expect(taken).toBe(50);
    atOnce(lab.enter('other'));
  });

  it('share its bytes', () => {
    const lab = admissionLab({ load: { maxBytes: 1_000 } });
    lab.add('greedy', 2);
    lab.add('other', 2);
    const payload = Buffer.alloc(400, 'a');
    const send = (name: string): unknown => {
      lab.room.open().take(payload.length);
      return lab.enter(name, new Caller(), payload);
    };
    send('greedy');
    expect(() => send('greedy')).toThrow(expect.objectContaining({ reason: 'FunctionInvocationRateLimitExceeded' }));
    send('other');
  });
});

describe('a gateway that holds as many bytes as it may', () => {
  const full = { code: 'TooManyRequestsException', reason: 'ConcurrentInvocationLimitExceeded' };

  it('lets in none of those that wait, whose answers it could not hold', async () => {
    const lab = admissionLab({ load: { maxBytes: 1_000 } });
    lab.add('f', 2);
    const one = atOnce(lab.enter('f'));
    atOnce(lab.enter('f'));
    const waiting = [later(lab.enter('f')), later(lab.enter('f'))];
    const answer = lab.room.open();
    answer.add(2_000);
    one.release();
    await settle();
    expect(waiting).toMatchObject([{ error: full }, { error: full }]);
    expect(() => lab.enter('f')).toThrow(expect.objectContaining(full));
    answer.close();
    atOnce(lab.enter('f'));
  });

  it.each([
    { full: 'own', result: { place: undefined, error: expect.objectContaining({ status: 429 }) } },
    { full: 'other', result: { place: expect.anything(), error: undefined } },
  ])('goes by the room that the request is in ($full room full)', async ({ full, result }) => {
    const { add, admission, enter, room } = admissionLab();
    add('hello', 2, { reserved: 1 });
    const own = new Room(room.limits, { loopDelayMs: 0, heapUse: 0 });
    const first = atOnce(enter('hello'));
    const waiting = later(admission.enter(callOf('hello'), new Caller(''), own));
    (full === 'own' ? own : room).open().add(2 * room.limits.maxBytes);
    first.release();
    await settle();
    expect(waiting).toMatchObject(result);
  });
});

describe('callers', () => {
  const callerRate = { perSecond: 1, burst: 2 };
  const limited = {
    code: 'TooManyRequestsException',
    reason: 'CallerRateLimitExceeded',
    retryAfterSeconds: 1,
  };

  it('are told apart by their address when they are anonymous', async () => {
    const { admission, clock } = admissionLab({ callerRate });
    admission.pass(ANONYMOUS, new Caller('192.0.2.1'));
    admission.look(ANONYMOUS, new Caller('192.0.2.1'));
    admission.pass(ANONYMOUS, new Caller('::ffff:192.0.2.1'));
    for (const refuse of ['look', 'pass'] as const) {
      expect(() => admission[refuse](ANONYMOUS, new Caller('192.0.2.1'))).toThrow(expect.objectContaining(limited));
    }
    admission.pass(ANONYMOUS, new Caller('192.0.2.2'));
    await clock.advance(1_000);
    admission.pass(ANONYMOUS, new Caller('192.0.2.1'));
  });

  it('are told apart by who they are otherwise, wherever they call from', () => {
    const lab = admissionLab({ callerRate });
    lab.add('f', 50);
    const ann: Principal = { kind: 'Certificate', user: 'ann', groups: [] };
    const token: Principal = { kind: 'Token', user: 'ann', uid: '', groups: [], extra: {} };
    lab.admission.pass(ann, new Caller('192.0.2.1'));
    lab.admission.pass(ann, new Caller('192.0.2.2'));
    expect(() => lab.admission.pass(ann, new Caller('192.0.2.3'))).toThrow(expect.objectContaining(limited));
    lab.admission.pass(token, new Caller('192.0.2.1'));
  });

  it('have gone when their events are run, which counts for nobody', () => {
    const lab = admissionLab({ callerRate });
    lab.add('f', 50);
    for (let event = 0; event < 10; event += 1) {
      atOnce(lab.admission.enterEvent(callOf('f'), new Caller(), lab.room));
    }
  });
});

it('puts events off while the gateway has too much on its hands', () => {
  const lab = admissionLab({ load: { maxRequests: 1 } });
  lab.add('f', 2);
  const hold = lab.room.open();
  expect(() => lab.admission.enterEvent(callOf('f'), new Caller(), lab.room)).toThrow(
    expect.objectContaining({ reason: 'ConcurrentInvocationLimitExceeded' }),
  );
  hold.close();
  atOnce(lab.admission.enterEvent(callOf('f'), new Caller(), lab.room));
});
