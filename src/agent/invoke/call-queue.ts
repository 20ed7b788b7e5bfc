import { unreachable } from '../../common/errors.ts';
import type { Invocation, InvocationResult, InvocationTimings, RefusalReason } from '../model/invocation.ts';

/** A call that waits for its worker or is in it. Answered exactly once. */
export class PendingCall {
  readonly invocation: Invocation;
  /** Monotonic milliseconds. */
  readonly arrivedAt: number;
  /** What it found. */
  readonly start: InvocationTimings['start'];
  readonly result: Promise<InvocationResult>;
  /** Monotonic milliseconds; when the worker was ready for calls. */
  readyAt: number | undefined;
  /** How often it was about to be sent, and not a byte was. */
  attempts = 0;
  readonly #resolve: (result: InvocationResult) => void;
  #settled = false;

  constructor(invocation: Invocation, arrivedAt: number, start: InvocationTimings['start']) {
    this.invocation = invocation;
    this.arrivedAt = arrivedAt;
    this.start = start;
    this.readyAt = start === 'running' ? arrivedAt : undefined;
    const { promise, resolve } = Promise.withResolvers<InvocationResult>();
    this.result = promise;
    this.#resolve = resolve;
  }

  get settled(): boolean {
    return this.#settled;
  }

  /** The first result counts: a call that was told of the agent's end may still be answered by its worker. */
  settle(result: InvocationResult): void {
    if (!this.#settled) {
      this.#settled = true;
      this.#resolve(result);
    }
  }

  refuse(reason: RefusalReason, message: string): void {
    this.settle({ kind: 'Refused', reason, message });
  }

  /** What the call took, sent and answered at these monotonic milliseconds. */
  timings(sentAt: number, answeredAt: number): InvocationTimings {
    const readyAt = this.readyAt ?? sentAt;
    return {
      wake: microseconds(readyAt - this.arrivedAt),
      queued: microseconds(sentAt - readyAt),
      run: microseconds(answeredAt - sentAt),
      start: this.start,
    };
  }
}

/** How much may wait for one worker. Once either is reached, no further call may. */
export interface QueueLimits {
  readonly calls: number;
  /** Bytes of payload. */
  readonly bytes: number;
}

/** Calls that wait for their worker, first come, first served, within limits. */
export class CallQueue {
  readonly #limits: QueueLimits;
  #bytes = 0;
  readonly #onChanged: () => void;
  /** In order of arrival; entries are taken out in the middle when callers hang up. */
  readonly #waiting = new Set<PendingCall>();
  readonly #hangUps = new Map<PendingCall, () => void>();
  /** One that was taken out and is to be the next again. */
  #first: PendingCall | undefined;

  /** @param onChanged told when a caller hung up */
  constructor(limits: QueueLimits, onChanged: () => void) {
    this.#limits = limits;
    this.#onChanged = onChanged;
  }

  get length(): number {
    return this.#waiting.size + (this.#first === undefined ? 0 : 1);
  }

  get full(): boolean {
    return this.length >= this.#limits.calls || this.#bytes >= this.#limits.bytes;
  }

  push(call: PendingCall): void {
    this.#waiting.add(call);
    this.#watch(call);
  }

  /** Puts one back that {@link CallQueue.shift} gave out. */
  unshift(call: PendingCall): void {
    this.#first = call;
    this.#watch(call);
  }

  shift(): PendingCall | undefined {
    const call = this.#first ?? this.#waiting.values().next().value;
    if (call !== undefined) {
      this.#remove(call);
    }
    return call;
  }

  /** Takes out every call of which `condition` holds. */
  extract(condition: (call: PendingCall) => boolean): readonly PendingCall[] {
    const taken = [...this].filter(condition);
    for (const call of taken) {
      this.#remove(call);
    }
    return taken;
  }

  *[Symbol.iterator](): Generator<PendingCall> {
    if (this.#first !== undefined) {
      yield this.#first;
    }
    yield* this.#waiting;
  }

  #watch(call: PendingCall): void {
    const { signal, payload } = call.invocation;
    this.#bytes += payload.length;
    const onAbort = (): void => {
      this.#remove(call);
      call.refuse('CallerGone', 'the caller hung up while the call was waiting');
      this.#onChanged();
    };
    this.#hangUps.set(call, onAbort);
    signal.addEventListener('abort', onAbort, { once: true });
  }

  #remove(call: PendingCall): void {
    if (this.#first === call) {
      this.#first = undefined;
    } else {
      this.#waiting.delete(call);
    }
    const onAbort = this.#hangUps.get(call);
    if (onAbort !== undefined) {
      this.#hangUps.delete(call);
      this.#bytes -= call.invocation.payload.length;
      call.invocation.signal.removeEventListener('abort', onAbort);
    }
  }
}

/** What a call that arrives now would find. */
export function startOf(
  state: 'Running' | 'Paused' | 'Unknown' | 'Missing' | 'Created' | 'Stopped',
): InvocationTimings['start'] {
  switch (state) {
    case 'Running':
      return 'running';
    case 'Paused':
      return 'paused';
    case 'Unknown':
    case 'Missing':
    case 'Created':
    case 'Stopped':
      return 'absent';
    default:
      return unreachable(state);
  }
}

function microseconds(milliseconds: number): number {
  return Math.max(0, Math.round(milliseconds * 1_000));
}
