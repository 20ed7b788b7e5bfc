import { describe, expect, it } from 'vitest';
import { Room } from '../../../../src/gateway/admission/room.ts';
import { Caller } from '../../../../src/gateway/lambda/caller.ts';
import { functionFixture } from '../../../support/function-fixture.ts';
import { atOnce, callOf, type InvokerLab, invokerLab, later } from '../../../support/invoker-lab.ts';
import { settle } from '../../../support/manual-clock.ts';

const busy = {
  code: 'TooManyRequestsException',
  reason: 'ReservedFunctionConcurrentInvocationLimitExceeded',
};

describe('the load of a function', () => {
  it('has calls from their arrival to their end, whether they wait or run, and none that was refused', async () => {
    let counted = 0;
    const loadMeter = {
      count: () => {
        counted += 1;
        return {
          move: () => undefined,
          end: () => {
            counted -= 1;
          },
        };
      },
    };
    const lab = invokerLab({ loadMeter, mayGrow: () => true });
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
    expect([counted, waiting.place === undefined]).toEqual([1, false]);
    waiting.place?.release();
    expect(counted).toBe(0);
  });
});

describe('a call of a function', () => {
  it('is let in at once, without a promise, while a worker is free', () => {
    const lab = invokerLab();
    lab.add('f', 2);
    expect(atOnce(lab.enter('f')).queuedMs).toBe(0);
    atOnce(lab.enter('f'));
  });

  it('waits for the next place otherwise, in the order of arrival, and is told for how long', async () => {
    const lab = invokerLab();
    lab.add('f', 2);
    const one = atOnce(lab.enter('f'));
    const two = atOnce(lab.enter('f'));
    const third = later(lab.enter('f'));
    const fourth = later(lab.enter('f'));
    expect(lab.invoker.waiting).toBe(2);
    await lab.clock.advance(40);
    one.release();
    await settle();
    expect(third.place?.queuedMs).toBe(40);
    expect(fourth.place).toBeUndefined();
    two.release();
    await settle();
    expect(fourth.place).toBeDefined();
    expect(lab.invoker.waiting).toBe(0);
    expect(lab.clock.pending()).toBe(0);
  });

  it('is refused when the queue is full', () => {
    const lab = invokerLab();
    lab.add('f', 2, { queueDepth: 1 });
    void lab.enter('f');
    void lab.enter('f');
    later(lab.enter('f'));
    expect(() => lab.enter('f')).toThrow(expect.objectContaining(busy));
  });

  it('is refused when it has waited for too long, and leaves the queue', async () => {
    const lab = invokerLab({ maxQueueWaitMs: 5_000 });
    lab.add('f', 2, { queueDepth: 1 });
    void lab.enter('f');
    void lab.enter('f');
    const third = later(lab.enter('f'));
    await lab.clock.advance(5_000);
    expect(third.error).toMatchObject(busy);
    later(lab.enter('f'));
  });

  it('leaves the queue when its caller hangs up', { tags: ['G7'] }, async () => {
    const lab = invokerLab();
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
    const lab = invokerLab();
    lab.add('f', 2);
    void lab.enter('f');
    void lab.enter('f');
    const waiting = later(lab.enter('f'));
    lab.add('f', 1, { reserved: 0 });
    await settle();
    expect(waiting.error).toMatchObject(busy);
    expect(() => lab.enter('f')).toThrow(expect.objectContaining(busy));
  });

  it('is refused as one of a function that is switched off, also where the function is to have no worker', () => {
    const lab = invokerLab();
    const { template } = functionFixture().spec;
    const spec = { ...template.spec, concurrency: { reserved: 0, queueDepth: 100 } };
    lab.functions.put(functionFixture({ name: 'f', minWorkers: 0, spec: { template: { ...template, spec } } }));
    expect(() => lab.enter('f')).toThrow(expect.objectContaining(busy));
  });

  it('is let in when a worker is added, or more are reserved', async () => {
    const lab = invokerLab();
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

  it('is refused when the function is removed', async () => {
    // No call is sent ahead to the last worker.
    const lab = invokerLab({ mayGrow: () => true });
    lab.add('f', 2);
    void lab.enter('f');
    void lab.enter('f');
    const third = later(lab.enter('f'));
    for (const name of ['f-0', 'f-1']) {
      lab.view.removeResource(`uid-of-${name}`);
    }
    await settle();
    expect(third.error).toMatchObject({ code: 'ResourceNotFoundException' });
    expect(() => lab.enter('f')).toThrow(expect.objectContaining({ code: 'ResourceNotFoundException' }));
    expect(lab.clock.pending()).toBe(0);
  });
});

describe('a call of a version', () => {
  const versionsLab = (
    options: { readonly reserved?: number; readonly shares?: readonly number[] } = {},
  ): InvokerLab => {
    const lab = invokerLab();
    const { reserved, shares } = options;
    for (const version of [1, 2]) {
      const concurrency = { queueDepth: 2, ...(reserved === undefined ? {} : { reserved }) };
      lab.put(`f-${version}-0`, { functionName: 'f', version, concurrency, share: shares?.[version - 1] });
    }
    return lab;
  };

  it('has a place beside those that wait for another version, also where these fill the queue', async () => {
    const lab = versionsLab();
    const one = atOnce(lab.enterAs('f', '1'));
    const waiting = later(lab.enterAs('f', '1'));
    later(lab.enterAs('f', '1'));
    expect(() => lab.enterAs('f', '1')).toThrow(expect.objectContaining(busy));
    atOnce(lab.enterAs('f', '2')).release();
    await settle();
    expect(waiting.place).toBeUndefined();
    one.release();
    await settle();
    expect(waiting.place).toBeDefined();
  });

  it('has its part of the reserved concurrency where each version has shares', () => {
    const lab = versionsLab({ reserved: 2, shares: [1, 1] });
    atOnce(lab.enterAs('f', '1'));
    later(lab.enterAs('f', '1'));
    atOnce(lab.enterAs('f', '2'));
  });

  it('waits for what is reserved where no version has shares, whichever has it', async () => {
    const lab = versionsLab({ reserved: 1 });
    const one = atOnce(lab.enterAs('f', '1'));
    const other = later(lab.enterAs('f', '2'));
    one.release();
    await settle();
    expect(other.place).toBeDefined();
  });

  it.each(['PHASE_RUNNING', 'PHASE_CREATING', 'PHASE_PULLING'] as const)(
    'asks at each worker where calls of other gateways have all that is reserved, at workers in %s',
    (phase) => {
      const lab = invokerLab();
      for (const name of ['f-0', 'f-1', 'f-2']) {
        const holding = { phase, inFlight: 1, others: 1, othersPlaced: 1 };
        lab.put(name, { functionName: 'f', concurrency: { reserved: 3, queueDepth: 100 }, share: 1, holding });
      }
      const entered = Array.from({ length: 8 }, () => lab.enter('f')).filter((each) => !(each instanceof Promise));
      expect(entered).toHaveLength(4);
    },
  );

  it('has a place where its version has no workers: it waits for some', async () => {
    const lab = versionsLab();
    lab.name('f', { one: 1, three: 3 });
    atOnce(lab.enterAs('f', 'one'));
    const waiting = later(lab.enterAs('f', 'one'));
    lab.view.removeResource('uid-of-f-1-0');
    await settle();
    expect(waiting.place).toBeDefined();
    atOnce(lab.enterAs('f', 'three'));
  });

  it('goes to the version that is drawn for it, once', () => {
    const draws = [0.05, 0.99, 0.99];
    const lab = invokerLab({ random: () => draws.shift() ?? 0 });
    for (const version of [1, 2]) {
      lab.put(`f-${version}-0`, { functionName: 'f', version });
    }
    lab.functions.put(
      functionFixture({
        name: 'f',
        status: { aliases: [{ name: 'live', version: 1, routing: [{ version: 2, permille: 100 }] }] },
      }),
    );
    const [tenth, main] = [atOnce(lab.enterAs('f', 'live')), atOnce(lab.enterAs('f', 'live'))];
    expect([tenth.queued.version, main.queued.version]).toEqual([2, 1]);
    expect([tenth.queued.draw(), tenth.queued.draw(), draws]).toEqual([50, 50, [0.99]]);
  });

  it('waits for the version that its alias names by now, among the calls of that version', async () => {
    const lab = versionsLab();
    lab.name('f', { live: 1 });
    const [one, two] = [atOnce(lab.enterAs('f', '1')), atOnce(lab.enterAs('f', '2'))];
    const waiting = later(lab.enterAs('f', 'live'));
    const next = later(lab.enterAs('f', '2'));
    lab.name('f', { live: 2 });
    await settle();
    one.release();
    await settle();
    expect(waiting.place).toBeUndefined();
    two.release();
    await settle();
    expect([waiting.place?.queued.version, next.place]).toEqual([2, undefined]);
  });

  it('waits on while its alias is gone, and hears of that once it has a place', async () => {
    const lab = versionsLab();
    lab.name('f', { live: 1 });
    const one = atOnce(lab.enterAs('f', '1'));
    const waiting = later(lab.enterAs('f', 'live'));
    lab.name('f', {});
    await settle();
    expect(waiting).toEqual({ place: undefined, error: undefined });
    one.release();
    await settle();
    expect(waiting.place).toBeDefined();
  });
});

describe('functions beside each other', () => {
  it('have queues of their own: a slow one does not hold up another', () => {
    const lab = invokerLab();
    lab.add('slow', 2);
    lab.add('quick', 2);
    for (let call = 0; call < 50; call += 1) {
      void lab.enter('slow');
    }
    atOnce(lab.enter('quick'));
  });

  it('share the room of the gateway: one that holds as much as is free gets no more', () => {
    const lab = invokerLab({ load: { maxRequests: 100 } });
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
    const lab = invokerLab({ load: { maxBytes: 1_000 } });
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
    const lab = invokerLab({ load: { maxBytes: 1_000 } });
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
    const { add, enter, invoker, room } = invokerLab();
    add('hello', 2, { reserved: 1 });
    const own = new Room(room.limits, { loopDelayMs: 0, heapUse: 0 });
    const first = atOnce(enter('hello'));
    const waiting = later(invoker.enter(callOf('hello'), new Caller(''), own));
    (full === 'own' ? own : room).open().add(2 * room.limits.maxBytes);
    first.release();
    await settle();
    expect(waiting).toMatchObject(result);
  });
});
