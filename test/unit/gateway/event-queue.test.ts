import { describe, expect, it } from 'vitest';
import { silentLogger } from '../../../src/common/logger.ts';
import { EventQueue } from '../../../src/gateway/event-queue.ts';
import type { FunctionCall, InvokeResult } from '../../../src/gateway/invoker.ts';
import { LambdaError, throttled, unavailable } from '../../../src/gateway/lambda-error.ts';
import { manualClock, settle } from '../../support/manual-clock.ts';

function event(requestId: string, name = 'f'): FunctionCall {
  return {
    reference: { name },
    requestId,
    payload: Buffer.from('{}'),
    clientContext: '',
    tailLog: false,
    traceId: '',
  };
}

const done: InvokeResult = {
  body: Buffer.from('{}'),
  functionError: false,
  outcome: 'answered',
  timings: undefined,
  logTail: undefined,
};

function lab(options: { readonly workers?: number; readonly maxEvents?: number } = {}) {
  const clock = manualClock();
  const calls: { readonly id: string; end(result: InvokeResult): void; fail(error: Error): void }[] = [];
  const ended: string[] = [];
  const queue = new EventQueue({
    invoke: (call) => {
      const answer = Promise.withResolvers<InvokeResult>();
      calls.push({ id: call.requestId, end: answer.resolve, fail: answer.reject });
      return answer.promise;
    },
    concurrencyOf: () => options.workers ?? 1,
    clock,
    logger: silentLogger(),
    onEnded: (result) => ended.push(result),
    ...(options.maxEvents === undefined ? {} : { maxEvents: options.maxEvents }),
  });
  return { clock, queue, calls, ended };
}

describe('EventQueue', () => {
  it('runs as many events of a function at a time as it has workers, in order', async () => {
    const { queue, calls } = lab({ workers: 2 });
    for (const id of ['1', '2', '3', '4']) {
      queue.accept(event(id));
    }
    queue.accept(event('other', 'g'));
    await settle();
    expect(calls.map(({ id }) => id)).toEqual(['1', '2', 'other']);
    calls[0]?.end(done);
    await settle();
    expect(calls.map(({ id }) => id)).toEqual(['1', '2', 'other', '3']);
    expect(queue.size).toBe(4);
  });

  it('tries again what nobody took, and never what may have run', async () => {
    const { clock, queue, calls, ended } = lab();
    queue.accept(event('1'));
    await settle();
    calls[0]?.fail(throttled('full', 'ConcurrentInvocationLimitExceeded'));
    await clock.advance(1_000);
    calls[1]?.fail(unavailable('away'));
    await clock.advance(2_000);
    calls[2]?.end({ ...done, functionError: true, outcome: 'unknown' });
    await clock.advance(100_000);
    expect(calls).toHaveLength(3);
    expect(ended).toEqual(['function_error']);
    expect(queue.size).toBe(0);
  });

  it('gives up an event whose function is gone', async () => {
    const { clock, queue, calls, ended } = lab();
    queue.accept(event('1'));
    await settle();
    calls[0]?.fail(new LambdaError('ResourceNotFoundException', 'no such function'));
    await clock.advance(100_000);
    expect(calls).toHaveLength(1);
    expect(ended).toEqual(['ResourceNotFoundException']);
  });

  it('gives up an event that nobody took for six hours', async () => {
    const { clock, queue, calls, ended } = lab();
    queue.accept(event('1'));
    for (let hour = 0; hour < 7 && ended.length === 0; hour += 1) {
      for (let minute = 0; minute < 60; minute += 1) {
        await settle();
        calls.at(-1)?.fail(unavailable('away'));
        await clock.advance(60_000);
      }
    }
    expect(ended).toEqual(['ServiceException']);
    expect(queue.size).toBe(0);
  });

  it('refuses what it has no room for', async () => {
    const { queue } = lab({ maxEvents: 2 });
    queue.accept(event('1'));
    queue.accept(event('2'));
    expect(() => queue.accept(event('3'))).toThrow(
      expect.objectContaining({ code: 'TooManyRequestsException', status: 429 }),
    );
  });

  it('waits for its events at the end, for as long as it may', async () => {
    const { clock, queue, calls } = lab();
    queue.accept(event('1'));
    queue.accept(event('2'));
    await settle();
    const stopped = queue.stop(5_000);
    calls[0]?.end(done);
    await settle();
    expect(calls).toHaveLength(2);
    await clock.advance(5_000);
    calls[1]?.end(done);
    await stopped;
  });
});
