import { describe, expect, it, onTestFinished } from 'vitest';
import { silentLogger } from '../../../../src/common/logger.ts';
import type { FunctionCall, InvokeResult, SentTry } from '../../../../src/gateway/agents/function-call.ts';
import type { PostResult } from '../../../../src/gateway/events/event-destination.ts';
import { EventQueue } from '../../../../src/gateway/events/event-queue.ts';
import {
  DEFAULT_EVENT_SETTINGS,
  type EventSettings,
  NO_PROGRESS,
  type StoredEvent,
  storeUnavailable,
  storeUncertain,
} from '../../../../src/gateway/events/event-store.ts';
import { LambdaError, throttled, unavailable } from '../../../../src/gateway/lambda/lambda-error.ts';
import { inThreadEventStore } from '../../../support/in-thread-event-store.ts';
import { manualClock, settle } from '../../../support/manual-clock.ts';

function event(requestId: string, name = 'f'): FunctionCall {
  return {
    reference: { name },
    requestId,
    payload: Buffer.from('{"n":1}'),
    clientContext: '',
    tailLog: false,
    traceId: 'Root=1',
    traceParent: '',
  };
}

const done: InvokeResult = {
  body: Buffer.from('{}'),
  functionError: false,
  outcome: 'answered',
  executedVersion: '$LATEST',
  timings: undefined,
  logTail: undefined,
};
const failed: InvokeResult = {
  ...done,
  functionError: true,
  body: Buffer.from('{"errorType":"E","errorMessage":"m"}'),
};
const unknown: InvokeResult = { ...failed, outcome: 'unknown' };

const sent: SentTry = {
  nodeName: 'node-1',
  worker: { namespace: 'default', name: 'f-0', uid: 'uid-of-f-0' },
  run: 'run-1',
  sentAt: 1,
  version: '$LATEST',
  timeoutSeconds: 900,
};

interface LabOptions {
  readonly workers?: number | (() => number);
  /** The answer of a worker that is asked for a try of an earlier process. */
  readonly ask?: (sent: SentTry) => InvokeResult | undefined;
  readonly maxEvents?: number;
  readonly maxRunningBytes?: number;
  /** By function; those that are not named have the defaults. */
  readonly settings?: Readonly<Record<string, Partial<EventSettings>>>;
  readonly gone?: ReadonlySet<string>;
  readonly switchedOff?: boolean;
  readonly post?: (url: string) => PostResult;
}

function lab(options: LabOptions = {}) {
  const clock = manualClock();
  const calls: {
    readonly id: string;
    readonly call: FunctionCall;
    readonly ended: boolean;
    end(result: InvokeResult): void;
    fail(error: Error): void;
  }[] = [];
  const ended: string[] = [];
  const posts: { readonly url: string; readonly record: unknown }[] = [];
  let ready = true;
  let broken: string | undefined;
  let breakage: Error = storeUnavailable('the disk is away');
  let letters = 0;
  const changes = new Map<string, () => void>();
  const store = inThreadEventStore({
    now: () => clock.now(),
    ...(options.maxEvents === undefined ? { maxEvents: 10_000 } : { maxEvents: options.maxEvents }),
    before: (kind) => {
      if (broken === kind) {
        throw breakage;
      }
    },
  });
  const makeQueue = (): EventQueue => {
    const queue = new EventQueue({
      store,
      ask: async (_call, sent) => options.ask?.(sent),
      onNextChange: (name, listener) => {
        changes.set(name, listener);
        return () => changes.delete(name);
      },
      invoke: (call, caller) => {
        const answer = Promise.withResolvers<InvokeResult>();
        const made = {
          id: call.requestId,
          call,
          ended: false,
          end: (result: InvokeResult): void => {
            made.ended = true;
            answer.resolve(result);
          },
          fail: (error: Error): void => {
            made.ended = true;
            answer.reject(error);
          },
        };
        calls.push(made);
        caller.onGone = () => made.fail(unavailable('The caller hung up.'));
        if (caller.gone) {
          made.fail(unavailable('The caller hung up.'));
        }
        return answer.promise;
      },
      post: async (url, record) => {
        posts.push({ url, record: JSON.parse(record.payload.toString()) });
        return options.post?.(url) ?? { kind: 'Taken' };
      },
      settingsOf: (name) =>
        options.gone?.has(name) === true ? undefined : { ...DEFAULT_EVENT_SETTINGS, ...options.settings?.[name] },
      isSwitchedOff: () => options.switchedOff === true,
      isReady: () => ready,
      newRequestId: () => {
        letters += 1;
        return `letter-${letters}`;
      },
      concurrencyOf: () => (typeof options.workers === 'function' ? options.workers() : (options.workers ?? 1)),
      ...(options.maxRunningBytes === undefined ? {} : { maxRunningBytes: options.maxRunningBytes }),
      clock,
      logger: silentLogger(),
      onEnded: (result) => ended.push(result),
    });
    queue.start();
    onTestFinished(async () => {
      const stopped = queue.stop(0);
      await clock.advance(0);
      await stopped;
    });
    return queue;
  };
  const queue = makeQueue();
  return {
    clock,
    queue,
    makeQueue,
    store,
    calls,
    ended,
    posts,
    /** Something about a function has changed. */
    change: (name: string) => changes.get(name)?.(),
    setReady: (is: boolean) => {
      ready = is;
    },
    /** Has one kind of write fail until it is told otherwise. */
    breakStore: (kind: string | undefined, error: Error = storeUnavailable('the disk is away')) => {
      broken = kind;
      breakage = error;
    },
  };
}

describe('EventQueue', () => {
  it('runs as many events of a function at a time as it has workers, in order', async () => {
    const { queue, calls } = lab({ workers: 2 });
    for (const id of ['1', '2', '3', '4']) {
      await queue.accept(event(id));
    }
    await queue.accept(event('other', 'g'));
    await settle();
    expect(calls.map(({ id }) => id)).toEqual(['1', '2', 'other']);
    calls[0]?.end(done);
    await settle();
    expect(calls.map(({ id }) => id)).toEqual(['1', '2', 'other', '3']);
    expect(queue.size).toBe(4);
  });

  it('gives the function what its caller sent, and the same request id at each try', async () => {
    const { queue, calls, clock } = lab();
    await queue.accept(event('1'));
    await settle();
    calls[0]?.end(failed);
    await clock.advance(60_000);
    expect(calls.map(({ id }) => id)).toEqual(['1', '1']);
    expect(calls[1]?.call).toMatchObject({ ...event('1'), isRepeated: true });
  });

  it('tries a function error twice more, after one minute and after two', async () => {
    const { queue, calls, clock, ended } = lab();
    await queue.accept(event('1'));
    await settle();
    calls[0]?.end(failed);
    await clock.advance(59_999);
    expect(calls).toHaveLength(1);
    await clock.advance(1);
    calls[1]?.end({ ...failed, outcome: 'timed-out' });
    await clock.advance(119_999);
    expect(calls).toHaveLength(2);
    await clock.advance(1);
    calls[2]?.end(failed);
    await settle();
    expect(ended).toEqual(['RetriesExhausted']);
    expect(queue.size).toBe(0);
  });

  it('tries again what nobody took, from one second to five minutes apart', async () => {
    const { queue, calls, clock } = lab();
    await queue.accept(event('1'));
    await settle();
    for (const seconds of [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]) {
      const before = calls.length;
      calls
        .at(-1)
        ?.fail(before % 2 === 0 ? unavailable('away') : throttled('full', 'ConcurrentInvocationLimitExceeded'));
      await clock.advance(seconds * 1000 - 1);
      expect(calls).toHaveLength(before);
      await clock.advance(1);
      expect(calls).toHaveLength(before + 1);
    }
  });

  it('tries again what may have run, since at least once is what Event means', async () => {
    const { queue, calls, clock, ended } = lab({ settings: { f: { maximumRetryAttempts: 0 } } });
    await queue.accept(event('1'));
    await settle();
    calls[0]?.end(unknown);
    await clock.advance(1_000);
    calls[1]?.end(done);
    await settle();
    expect(ended).toEqual(['ok']);
  });

  it('gives up an event whose function is gone, and not one whose function is away for half a minute', async () => {
    const gone = new LambdaError('ResourceNotFoundException', 'no such function');
    const { queue, calls, clock, ended } = lab({ gone: new Set(['f']) });
    await queue.accept(event('1'));
    await settle();
    for (let seconds = 1; seconds <= 16; seconds *= 2) {
      calls.at(-1)?.fail(gone);
      await clock.advance(seconds * 1000);
    }
    expect(ended).toEqual([]);
    calls.at(-1)?.fail(gone);
    await clock.advance(32_000);
    calls.at(-1)?.fail(gone);
    await settle();
    expect(ended).toEqual(['RetriesExhausted']);
    expect(calls).toHaveLength(7);
  });

  it('keeps an event whose function is there, and lacks the version or alias of the event', async () => {
    const { queue, calls, clock, ended } = lab();
    await queue.accept(event('1'));
    await settle();
    for (let tries = 1; tries <= 10; tries += 1) {
      calls.at(-1)?.fail(new LambdaError('ResourceNotFoundException', 'no such alias'));
      await clock.advance(300_000);
    }
    expect(ended).toEqual([]);
    expect(calls).toHaveLength(11);
  });

  it('gives up an event that is too old, at the latest before it would be tried', async () => {
    const { queue, calls, clock, ended } = lab({ settings: { f: { maximumEventAgeSeconds: 60 } } });
    await queue.accept(event('1'));
    await queue.accept(event('2'));
    await settle();
    calls[0]?.end(failed);
    await settle();
    expect(ended).toEqual(['EventAgeExceeded']);
    // The second is under way; a third waits for it for too long.
    await calls[1]?.call.follower?.sending(sent);
    await queue.accept(event('3'));
    await clock.advance(61_000);
    calls[1]?.end(done);
    await settle();
    expect(ended).toEqual(['EventAgeExceeded', 'ok', 'EventAgeExceeded']);
    expect(calls).toHaveLength(2);
  });

  it('gives up at once where the function is switched off', async () => {
    const { queue, calls, ended } = lab({ switchedOff: true });
    await queue.accept(event('1'));
    await settle();
    expect(ended).toEqual(['RetriesExhausted']);
    expect(calls).toEqual([]);
  });

  it('sends what was given up to another function, as an event of its own', async () => {
    const { queue, calls, clock, ended, posts } = lab({
      settings: {
        f: { maximumRetryAttempts: 0, onFailure: { kind: 'Function', functionName: 'letters' } },
        letters: { onFailure: { kind: 'Endpoint', url: 'http://letters.example/' } },
      },
    });
    await queue.accept(event('1'));
    await settle();
    calls[0]?.end(failed);
    await settle();
    expect(calls[1]?.call).toMatchObject({ reference: { name: 'letters' }, requestId: 'letter-1' });
    expect(JSON.parse(calls[1]?.call.payload.toString() ?? '')).toMatchObject({
      requestContext: { requestId: '1', condition: 'RetriesExhausted', approximateInvokeCount: 1 },
      requestPayload: { n: 1 },
      responseContext: { statusCode: 200, functionError: 'Unhandled' },
      responsePayload: { errorType: 'E', errorMessage: 'm' },
    });
    // The record is retried like any event, and has a destination of its own.
    calls[1]?.end(failed);
    await clock.advance(60_000);
    calls[2]?.end(failed);
    await clock.advance(120_000);
    calls[3]?.end(failed);
    await settle();
    expect(posts).toHaveLength(1);
    expect(ended).toEqual(['RetriesExhausted', 'RetriesExhausted', 'ok']);
    expect(queue.size).toBe(0);
  });

  it('sends the record of an event that succeeded to its destination, once the function has answered', async () => {
    const { queue, calls, clock, ended, posts } = lab({
      settings: {
        f: { onSuccess: { kind: 'Function', functionName: 'next' }, onFailure: { kind: 'Endpoint', url: 'http://a/' } },
        next: { onSuccess: { kind: 'Endpoint', url: 'http://letters.example/done' } },
      },
    });
    await queue.accept(event('1'));
    await settle();
    calls[0]?.end(failed);
    await clock.advance(60_000);
    calls[1]?.end({ ...done, body: Buffer.from('{"sum":3}') });
    await settle();
    expect(calls[2]?.call).toMatchObject({ reference: { name: 'next' }, requestId: 'letter-1' });
    const record = {
      requestContext: { requestId: '1', condition: 'Success', approximateInvokeCount: 2 },
      requestPayload: { n: 1 },
      responseContext: { statusCode: 200, executedVersion: '$LATEST' },
      responsePayload: { sum: 3 },
    };
    expect(JSON.parse(calls[2]?.call.payload.toString() ?? '')).toMatchObject(record);
    calls[2]?.end(done);
    await settle();
    expect(posts).toMatchObject([
      {
        url: 'http://letters.example/done',
        record: { requestContext: { requestId: 'letter-1', condition: 'Success' }, requestPayload: record },
      },
    ]);
    expect(ended).toEqual(['ok', 'ok', 'ok']);
    expect(queue.size).toBe(0);
  });

  it('ends a circle of functions that succeed into each other', async () => {
    const { queue, calls, ended } = lab({
      settings: {
        a: { onSuccess: { kind: 'Function', functionName: 'b' } },
        b: { onSuccess: { kind: 'Function', functionName: 'a' } },
      },
    });
    await queue.accept(event('1', 'a'));
    for (let turn = 0; turn < 40; turn += 1) {
      await settle();
      calls[turn]?.end(done);
    }
    await settle();
    expect(calls).toHaveLength(17);
    expect(ended.filter((result) => result === 'ok')).toHaveLength(17);
    // The record that would have gone on.
    expect(ended.filter((result) => result !== 'ok')).toEqual(['TooManyHops']);
    expect(queue.size).toBe(0);
  });

  it('tries an endpoint again until it takes the record', async () => {
    let answers = 0;
    const { queue, calls, clock, posts, ended } = lab({
      settings: {
        f: { maximumRetryAttempts: 0, onFailure: { kind: 'Endpoint', url: 'http://letters.example/x' } },
      },
      post: () => {
        answers += 1;
        return answers < 3 ? { kind: 'NotTaken', message: 'status 500' } : { kind: 'Taken' };
      },
    });
    await queue.accept(event('1'));
    await settle();
    calls[0]?.end(failed);
    await settle();
    expect(posts).toHaveLength(1);
    await clock.advance(1_000);
    expect(posts).toHaveLength(2);
    await clock.advance(2_000);
    expect(posts.map(({ url }) => url)).toEqual(Array.from({ length: 3 }, () => 'http://letters.example/x'));
    expect(ended).toEqual(['RetriesExhausted', 'ok']);
  });

  it('ends a circle of functions that fail into each other', async () => {
    const { queue, calls, ended } = lab({
      settings: {
        a: { maximumRetryAttempts: 0, onFailure: { kind: 'Function', functionName: 'b' } },
        b: { maximumRetryAttempts: 0, onFailure: { kind: 'Function', functionName: 'a' } },
      },
    });
    await queue.accept(event('1', 'a'));
    for (let turn = 0; turn < 40; turn += 1) {
      await settle();
      calls[turn]?.end(failed);
    }
    await settle();
    expect(calls).toHaveLength(17);
    expect(ended.filter((result) => result === 'RetriesExhausted')).toHaveLength(17);
    expect(ended.filter((result) => result !== 'RetriesExhausted')).toEqual(['TooManyHops']);
    expect(queue.size).toBe(0);
  });

  it('keeps to the settings at the acceptance when the function is gone', async () => {
    const gone = new Set<string>();
    const { queue, calls, posts } = lab({
      gone,
      settings: {
        f: { maximumRetryAttempts: 0, onFailure: { kind: 'Endpoint', url: 'http://letters.example/' } },
      },
    });
    await queue.accept(event('1'));
    gone.add('f');
    await settle();
    calls[0]?.end(failed);
    await settle();
    expect(posts).toHaveLength(1);
  });

  it('refuses what it has no room for, and what it could not keep', async () => {
    const { queue, breakStore } = lab({ maxEvents: 2 });
    await queue.accept(event('1'));
    await queue.accept(event('2', 'g'));
    await expect(queue.accept(event('3', 'h'))).rejects.toMatchObject({
      code: 'TooManyRequestsException',
      status: 429,
    });
    breakStore('put');
    await expect(queue.accept(event('4'))).rejects.toMatchObject({ code: 'ServiceException', status: 503 });
    expect(queue.size).toBe(2);
  });

  it('holds no more bytes of events than its bound, however many functions have some', async () => {
    const bound = 20 * 2 ** 20;
    const { queue, calls, setReady, clock } = lab({ workers: 64, maxRunningBytes: bound });
    setReady(false);
    const payload = Buffer.alloc(2 ** 20, 0x20);
    for (let index = 0; index < 30; index += 1) {
      await queue.accept({ ...event(String(index), `f${index % 10}`), payload });
    }
    setReady(true);
    await clock.advance(1_000);
    const running = calls.length;
    expect(running * payload.length).toBeLessThanOrEqual(bound);
    expect(running).toBeGreaterThan(10);
    while (calls.some(({ ended }) => !ended)) {
      for (const call of calls.filter(({ ended }) => !ended)) {
        call.end(done);
      }
      await clock.advance(1_000);
      expect(calls.filter(({ ended }) => !ended).length * payload.length).toBeLessThanOrEqual(bound);
    }
    expect(calls).toHaveLength(30);
  });

  it('tells that an event may have been kept whose write had no answer', async () => {
    const { queue, breakStore } = lab();
    breakStore('put', storeUncertain('the database did not answer'));
    await expect(queue.accept(event('1'))).rejects.toMatchObject({
      code: 'ServiceException',
      status: 503,
      message: expect.stringContaining('not known'),
    });
  });

  it('does not try an event again whose end could not be written at first', async () => {
    const { queue, calls, clock, ended, breakStore } = lab();
    await queue.accept(event('1'));
    await settle();
    breakStore('finish');
    calls[0]?.end(done);
    await clock.advance(40_000);
    expect(ended).toEqual([]);
    breakStore(undefined);
    await clock.advance(5_000);
    expect(ended).toEqual(['ok']);
    expect(calls).toHaveLength(1);
  });

  it('goes on when the store could not be read', async () => {
    const { queue, calls, clock, breakStore } = lab();
    breakStore('partitions');
    await queue.accept(event('1'));
    await clock.advance(2_000);
    expect(calls).toHaveLength(0);
    breakStore(undefined);
    await clock.advance(5_000);
    expect(calls).toHaveLength(1);
  });

  it('tries nothing before the functions are known', async () => {
    const { queue, calls, clock, setReady } = lab();
    setReady(false);
    await queue.accept(event('1'));
    await clock.advance(1_000);
    setReady(true);
    await clock.advance(1_000);
    expect(calls).toHaveLength(1);
  });

  it('keeps the claim on a long call, and runs it once also when it could not be renewed for a while', async () => {
    const { queue, calls, clock, store, ended, breakStore } = lab();
    await queue.accept(event('1'));
    await settle();
    await clock.advance(120_000);
    expect((await store.claim('function:f', { events: 10, bytes: 1_000 }, 1_000)).events).toEqual([]);
    breakStore('renew');
    await clock.advance(60_000);
    breakStore(undefined);
    await clock.advance(60_000);
    expect(calls).toHaveLength(1);
    calls[0]?.end(done);
    await settle();
    expect(ended).toEqual(['ok']);
    expect(queue.size).toBe(0);
  });

  it('waits as long as it has to before the next try of a call whose claim could not be renewed', async () => {
    const { queue, calls, clock, breakStore } = lab({ workers: 2 });
    await queue.accept(event('1'));
    await settle();
    breakStore('renew');
    await clock.advance(60_000);
    breakStore(undefined);
    await clock.advance(20_000);
    calls[0]?.end(failed);
    await clock.advance(59_000);
    expect(calls).toHaveLength(1);
    await clock.advance(1_000);
    expect(calls).toHaveLength(2);
  });

  it('finds what a killed gateway had under way, once its claim is over', async () => {
    const { queue, calls, clock, store, setReady } = lab();
    setReady(false);
    await queue.accept(event('1'));
    await clock.advance(200);
    expect((await store.claim('function:f', { events: 10, bytes: 1_000 }, 30_000)).events).toHaveLength(1);
    setReady(true);
    await clock.advance(29_000);
    expect(calls).toEqual([]);
    await clock.advance(1_000);
    expect(calls.map(({ id }) => id)).toEqual(['1']);
  });

  it('takes the events of quiet functions before more of busy ones', async () => {
    const { queue, calls } = lab({ workers: 64 });
    const busy = Array.from({ length: 33 }, (_, index) => `busy-${String(index).padStart(2, '0')}`);
    for (const name of busy) {
      for (let index = 0; index < 64; index += 1) {
        await queue.accept(event(`${name}-${index}`, name));
      }
    }
    await settle();
    expect(calls.length).toBeGreaterThan(1_900);
    await queue.accept(event('quiet', 'quiet'));
    await settle();
    expect(calls.at(-1)?.id).toBe('quiet');
  });

  it('waits for the end of its events when it ends, for as long as it may, and begins no other', async () => {
    const { clock, queue, makeQueue, calls, ended } = lab({ workers: 2, ask: () => done });
    for (const id of ['1', '2', '3']) {
      await queue.accept(event(id));
    }
    await settle();
    await calls[0]?.call.follower?.sending(sent);
    await calls[1]?.call.follower?.sending(sent);
    const stopped = queue.stop(60_000);
    calls[0]?.end(done);
    await clock.advance(59_999);
    expect(ended).toEqual(['ok']);
    await clock.advance(1);
    await stopped;
    expect(calls.map(({ id }) => id)).toEqual(['1', '2']);
    makeQueue();
    // The claims of this process lapse.
    await clock.advance(31_000);
    expect(ended).toEqual(['ok', 'ok']);
    expect(calls.map(({ id }) => id)).toEqual(['1', '2', '3']);
  });

  it('withdraws events that no worker has when it ends, and has the next process try them at once', async () => {
    const { queue, makeQueue, calls, store } = lab({ workers: 2 });
    await queue.accept(event('waiting'));
    await queue.accept(event('refused'));
    await settle();
    await calls[1]?.call.follower?.sending(sent);
    const stopped = queue.stop(60_000);
    await settle();
    expect(calls.map((call) => call.ended)).toEqual([true, false]);
    calls[1]?.call.follower?.refused();
    await stopped;
    expect(await store.partitions()).toMatchObject([{ dueInMs: 0 }]);
    makeQueue();
    await settle();
    expect(calls.map(({ id }) => id)).toEqual(['waiting', 'refused', 'waiting', 'refused']);
    // Neither counts as a try that was refused.
    calls[2]?.fail(unavailable('away'));
  });

  it('accepts events while those under way end, for the next process', async () => {
    const { queue, makeQueue, calls } = lab({ workers: 2 });
    await queue.accept(event('1'));
    await settle();
    await calls[0]?.call.follower?.sending(sent);
    const stopped = queue.stop(60_000);
    await settle();
    await queue.accept(event('2'));
    calls[0]?.end(done);
    await stopped;
    expect(calls).toHaveLength(1);
    makeQueue();
    await settle();
    expect(calls.map(({ id }) => id)).toEqual(['1', '2']);
  });

  it.each([
    ['ends with the answer that its worker has', done, ['ok'], 1],
    ['counts the error that its worker has', failed, [], 1],
    ['tries it again where its worker knows nothing', undefined, [], 2],
  ])('asks for an event that a killed process had sent, and %s', async (_, answer, expected, tries) => {
    const asked: SentTry[] = [];
    const { queue, calls, clock, makeQueue, ended } = lab({
      ask: (which) => {
        asked.push(which);
        return answer;
      },
    });
    await queue.accept(event('1'));
    await settle();
    await calls[0]?.call.follower?.sending(sent);
    const stopped = queue.stop(0);
    await clock.advance(0);
    await stopped;
    makeQueue();
    await clock.advance(31_000);
    expect(asked).toEqual([sent]);
    expect(ended).toEqual(expected);
    expect(calls).toHaveLength(tries);
    if (answer === failed) {
      // As a try of this process: the next one is sent again.
      await clock.advance(60_000);
      expect(calls[1]?.call.isRepeated).toBe(true);
      expect(asked).toHaveLength(1);
    }
  });

  it('gives up an event at its age while it waits for a worker, and not once a worker has it', async () => {
    const { queue, calls, clock, ended } = lab({ workers: 2, settings: { f: { maximumEventAgeSeconds: 60 } } });
    await queue.accept(event('waits'));
    await queue.accept(event('runs'));
    await settle();
    await calls[1]?.call.follower?.sending(sent);
    await clock.advance(60_000);
    expect(ended).toEqual(['EventAgeExceeded']);
    await clock.advance(60_000);
    calls[1]?.end(done);
    await settle();
    expect(ended).toEqual(['EventAgeExceeded', 'ok']);
  });

  it('tries as many events as a function takes, and leaves as much room to others', async () => {
    const { queue, calls, setReady, clock } = lab({ workers: 5_000 });
    setReady(false);
    for (let index = 0; index < 900; index += 1) {
      await queue.accept(event(String(index)));
    }
    setReady(true);
    await clock.advance(200);
    expect(calls).toHaveLength(900);
    for (let index = 900; index < 1_200; index += 1) {
      await queue.accept(event(String(index)));
    }
    await settle();
    expect(calls).toHaveLength(1_024);
    await queue.accept(event('other', 'g'));
    await settle();
    expect(calls).toHaveLength(1_025);
  });

  it('tries more events of a function as soon as it has grown', async () => {
    let workers = 1;
    const { queue, calls, change } = lab({ workers: () => workers });
    for (const id of ['1', '2', '3']) {
      await queue.accept(event(id));
    }
    await settle();
    change('f');
    await settle();
    expect(calls).toHaveLength(1);
    workers = 3;
    change('f');
    await settle();
    expect(calls).toHaveLength(3);
  });

  it('says that the end of a try counts for nothing where another process has the event', async () => {
    const { queue, calls, clock, ended, store, breakStore } = lab();
    await queue.accept(event('1'));
    await settle();
    breakStore('renew');
    await clock.advance(31_000);
    expect((await store.claim('function:f', { events: 1, bytes: 100 }, 30_000)).events).toHaveLength(1);
    calls[0]?.end(failed);
    await settle();
    expect(ended).toEqual(['ClaimLost']);
  });

  it('puts an event off that cannot be read, and drops it when it is a week old', async () => {
    const { clock, store, ended } = lab();
    const hour = 3_600_000;
    // As a newer version writes: a function that this one finds no name of.
    await store.put({
      requestId: 'odd',
      target: { kind: 'Function' } as StoredEvent['target'],
      payload: Buffer.from('{}'),
      traceId: '',
      traceParent: '',
      acceptedAt: clock.now() - 7 * 24 * hour + 1.5 * hour,
      hops: 0,
      settings: DEFAULT_EVENT_SETTINGS,
      progress: NO_PROGRESS,
    });
    await clock.advance(60_000);
    expect(ended).toEqual(['Unreadable']);
    await clock.advance(hour);
    expect(ended).toEqual(['Unreadable', 'Unreadable']);
    expect(store.load().events).toBe(1);
    await clock.advance(hour);
    expect(ended).toEqual(['Unreadable', 'Unreadable', 'UnreadableDropped']);
    expect(store.load().events).toBe(0);
  });
});
