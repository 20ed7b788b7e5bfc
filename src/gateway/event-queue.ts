import type { Clock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import { EsbError } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import { TaskGroup } from '../common/task-group.ts';
import { Caller } from './caller.ts';
import type { FunctionCall, InvokeResult } from './invoker.ts';
import { LambdaError, throttled } from './lambda-error.ts';

/** Events that are kept, and bytes of their payloads, all functions together. */
const MAX_EVENTS = 1_000;
const MAX_BYTES = 64 * 1024 * 1024;
/** Events of one function under way at a time. */
const MAX_PER_FUNCTION = 64;
/** Milliseconds before an event that nobody took is tried again, at first and, doubling, at most. */
const MIN_RETRY_MS = 1_000;
const MAX_RETRY_MS = 60_000;
/** Milliseconds after which an event that nobody took is given up: 6 hours, as in Lambda. */
const MAX_AGE_MS = 6 * 60 * 60 * 1000;

export interface EventQueueOptions {
  readonly invoke: (call: FunctionCall, caller: Caller) => Promise<InvokeResult>;
  /** Workers of a function: that many of its events are tried at a time. */
  readonly concurrencyOf: (functionName: string) => number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told of the end of each event: how it was answered, or the name of the error that it was given up for. */
  readonly onEnded?: (result: string) => void;
  readonly maxEvents?: number;
}

interface Lane {
  readonly waiting: FunctionCall[];
  active: number;
}

/**
 * The calls of type `Event`: answered with 202 at once and run in the background, in the order in which they came. An event that
 * nobody took is tried again; one that may have run is not.
 *
 * They are kept in memory alone, so that they are lost with the process.
 */
export class EventQueue {
  readonly #options: EventQueueOptions;
  readonly #maxEvents: number;
  readonly #lanes = new Map<string, Lane>();
  readonly #tasks: TaskGroup;
  readonly #idle: (() => void)[] = [];
  #count = 0;
  #bytes = 0;

  constructor(options: EventQueueOptions) {
    this.#options = options;
    this.#maxEvents = options.maxEvents ?? MAX_EVENTS;
    this.#tasks = new TaskGroup((_name, error) => {
      options.logger.error({ err: error }, 'event failed');
    });
  }

  /** Events waiting or under way. */
  get size(): number {
    return this.#count;
  }

  /**
   * Takes an event over.
   *
   * @throws {LambdaError} TooManyRequestsException when there is no room
   */
  accept(call: FunctionCall): void {
    if (this.#count >= this.#maxEvents || this.#bytes + call.payload.length > MAX_BYTES) {
      throw throttled('Rate Exceeded. Too many events are waiting.', 'ConcurrentInvocationLimitExceeded');
    }
    this.#count += 1;
    this.#bytes += call.payload.length;
    const { name } = call.reference;
    let lane = this.#lanes.get(name);
    if (lane === undefined) {
      lane = { waiting: [], active: 0 };
      this.#lanes.set(name, lane);
    }
    lane.waiting.push(call);
    this.#startNext(name, lane);
  }

  /** Lets events end, and gives up those that have not within `deadlineMs`. */
  async stop(deadlineMs: number): Promise<void> {
    if (this.#count > 0) {
      const idle = Promise.withResolvers<void>();
      this.#idle.push(idle.resolve);
      const timer = this.#options.clock.setTimer(idle.resolve, deadlineMs);
      await idle.promise;
      timer.cancel();
    }
    if (this.#count > 0) {
      this.#options.logger.error({ events: this.#count }, 'events were lost: the gateway is ending');
    }
    for (const lane of this.#lanes.values()) {
      lane.waiting.length = 0;
    }
    await this.#tasks.stop();
  }

  #startNext(name: string, lane: Lane): void {
    const room = Math.min(MAX_PER_FUNCTION, Math.max(1, this.#options.concurrencyOf(name)));
    while (lane.active < room) {
      const call = lane.waiting.shift();
      if (call === undefined) {
        break;
      }
      lane.active += 1;
      this.#tasks.run('event', async (signal) => {
        try {
          await this.#run(call, signal);
        } finally {
          lane.active -= 1;
          this.#count -= 1;
          this.#bytes -= call.payload.length;
          this.#ended(name, lane);
        }
      });
    }
  }

  #ended(name: string, lane: Lane): void {
    this.#startNext(name, lane);
    if (lane.active === 0 && lane.waiting.length === 0) {
      this.#lanes.delete(name);
    }
    if (this.#count === 0) {
      for (const resolve of this.#idle.splice(0)) {
        resolve();
      }
    }
  }

  async #run(call: FunctionCall, signal: AbortSignal): Promise<void> {
    const { clock, logger, onEnded } = this.#options;
    const giveUpAt = clock.monotonic() + MAX_AGE_MS;
    const caller = new Caller();
    const hangUp = (): void => caller.hangUp();
    signal.addEventListener('abort', hangUp, { once: true });
    try {
      for (let retryMs = MIN_RETRY_MS; ; retryMs = Math.min(MAX_RETRY_MS, retryMs * 2)) {
        try {
          const result = await this.#options.invoke(call, caller);
          onEnded?.(result.functionError ? 'function_error' : result.outcome);
          return;
        } catch (error) {
          signal.throwIfAborted();
          const known = EsbError.from(error);
          const isGone = error instanceof LambdaError && error.errorName === 'ResourceNotFoundException';
          if (!(error instanceof LambdaError) || isGone || clock.monotonic() + retryMs > giveUpAt) {
            logger.warn(
              { err: error, function: call.reference.name, requestId: call.requestId },
              'event was given up',
            );
            onEnded?.(known.code);
            return;
          }
          await sleep(clock, retryMs, signal);
        }
      }
    } finally {
      signal.removeEventListener('abort', hangUp);
    }
  }
}
