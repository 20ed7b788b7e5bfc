import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { messageOf, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { CallQueue, PendingCall, type QueueLimits } from '../invoke/call-queue.ts';
import type { WorkerAnswer } from '../invoke/emulator-client.ts';
import type {
  Closing,
  Invocation,
  InvocationResult,
  RefusalReason,
  UnknownReason,
} from '../model/invocation.ts';
import type { ActionRunner } from './action-runner.ts';
import type { WorkerContainer } from './container.ts';
import type { ContainerCaller } from './container-call.ts';

const maxAttempts = 3;

/** What the slot asks of its worker, and tells it. */
export interface DispatcherHost {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly caller: ContainerCaller;
  readonly queueLimits: QueueLimits;
  /** Who takes a call now; undefined when nobody does. */
  taker(): ActionRunner | undefined;
  /** Why a call that came back unsent is not to wait again; undefined when it is. */
  closing(): Closing | undefined;
  /** Why the connection of a call broke. */
  diagnose(lane: ActionRunner): Promise<UnknownReason>;
  /** A new stamp of activity. */
  stamp(): string;
  /** The worker was active just now. */
  touch(): void;
  /** Something is to be decided anew. */
  kick(): void;
  /** Another number of calls waits or runs. */
  changed(): void;
}

/** The calls of one worker: one is in it at a time, the others wait in line. */
export class Dispatcher {
  readonly queue: CallQueue;
  readonly #host: DispatcherHost;
  #current: PendingCall | undefined;
  #lane: ActionRunner | undefined;

  constructor(host: DispatcherHost) {
    this.#host = host;
    this.queue = new CallQueue(host.queueLimits, () => host.changed());
  }

  /** The call that is in the worker. */
  get current(): PendingCall | undefined {
    return this.#current;
  }

  /** Whether a call is in the container of that lane. */
  occupies(lane: ActionRunner): boolean {
    return this.#current !== undefined && this.#lane === lane;
  }

  /** Calls that wait or run. */
  get inFlight(): number {
    return this.queue.length + (this.#current === undefined ? 0 : 1);
  }

  /** Lets a new call in. */
  take(invocation: Invocation, start: PendingCall['start']): Promise<InvocationResult> {
    const host = this.#host;
    const call = new PendingCall(invocation, host.clock.monotonic(), start);
    host.touch();
    const lane = this.queue.length === 0 ? this.#taker() : undefined;
    if (lane !== undefined) {
      this.#enter(call, lane);
    } else {
      this.queue.push(call);
      if (!this.pump()) {
        host.kick();
      }
    }
    host.changed();
    return call.result;
  }

  /** Sends the next call if the worker can take one now. */
  pump(): boolean {
    const lane = this.#taker();
    if (lane === undefined) {
      return false;
    }
    const call = this.queue.shift();
    if (call === undefined) {
      return false;
    }
    this.#enter(call, lane);
    return true;
  }

  /** The worker is ready: from now on those in line wait for each other only. */
  markReady(): void {
    const now = this.#host.clock.monotonic();
    for (const call of this.queue) {
      call.readyAt ??= now;
    }
  }

  #taker(): ActionRunner | undefined {
    return this.#current === undefined ? this.#host.taker() : undefined;
  }

  #enter(call: PendingCall, lane: ActionRunner): void {
    this.#current = call;
    this.#lane = lane;
    call.readyAt ??= this.#host.clock.monotonic();
    this.#serve(call, lane).catch((error: unknown) => {
      const { requestId } = call.invocation;
      this.#host.logger.error({ err: error, requestId }, 'serving a call failed');
      lane.container.unusable = 'serving a call failed';
      this.#finish(call, {
        kind: 'Unknown',
        reason: 'ConnectionLost',
        message: messageOf(error),
        stamp: this.#host.stamp(),
      });
    });
  }

  async #serve(call: PendingCall, lane: ActionRunner): Promise<void> {
    const host = this.#host;
    const { clock, caller } = host;
    const { container } = lane;
    const { invocation } = call;
    const logOffset = invocation.tailLog ? await caller.logOffset(container) : 0;
    let sentAt = clock.monotonic();
    const run = invocation.trace?.running();
    const answer = await caller.call(container, {
      request: run === undefined ? invocation : { ...invocation, traceId: run.traceId },
      marked: true,
      onSending: () => {
        sentAt = clock.monotonic();
      },
      onHead: invocation.onHead,
      onChunk: invocation.onChunk,
      room: invocation.room,
    });
    const answeredAt = clock.monotonic();
    run?.end(answer.kind === 'Answered' ? undefined : answer.kind);
    switch (answer.kind) {
      case 'NotSent':
        await this.#notSent(call, container, answer);
        return;
      case 'Unknown': {
        const reason = await host.diagnose(lane);
        if (reason === 'ConnectionLost') {
          container.unusable = 'the connection was lost in the middle of a call';
        }
        this.#finish(call, { kind: 'Unknown', reason, message: answer.message, stamp: host.stamp() });
        return;
      }
      case 'TimedOut':
      case 'CutOff':
      case 'Answered': {
        const logTail = invocation.tailLog
          ? await caller.logTail(container, logOffset, invocation.requestId)
          : undefined;
        const stamp = host.stamp();
        const rest = {
          stamp,
          timings: call.timings(sentAt, answeredAt),
          ...(logTail === undefined ? {} : { logTail }),
        };
        if (answer.kind === 'Answered') {
          container.mark.end(container.id, stamp);
          this.#finish(call, { kind: 'Answered', ...rest });
        } else if (answer.kind === 'CutOff') {
          // Somebody in it still writes. The caller sees by the size what is wrong.
          container.unusable = 'an answer was larger than a function may give';
          this.#finish(call, { kind: 'Answered', ...rest });
        } else {
          container.unusable = 'a call was not answered in time';
          const message = `Task timed out after ${container.make.timeoutSeconds}.00 seconds`;
          this.#finish(call, { kind: 'TimedOut', message, ...rest });
        }
        return;
      }
      default:
        unreachable(answer);
    }
  }

  /** Frees the worker for the next call, then tells the caller. */
  #finish(call: PendingCall, result: InvocationResult): void {
    this.#current = undefined;
    this.#host.touch();
    if (!this.pump()) {
      this.#host.kick();
    }
    call.settle(result);
    this.#host.changed();
  }

  /** Nothing was sent: the call is still ours, and goes first once it is known what the worker is. */
  async #notSent(
    call: PendingCall,
    container: WorkerContainer,
    { message, own = false }: Extract<WorkerAnswer, { kind: 'NotSent' }>,
  ): Promise<void> {
    const host = this.#host;
    call.attempts += 1;
    if (call.attempts >= maxAttempts && own) {
      this.#finishUnsent(call);
      call.refuse('Unavailable', `the node cannot connect to the worker now: ${message}`);
      host.changed();
      return;
    }
    if (call.attempts >= maxAttempts) {
      container.unusable = 'it does not listen';
      container.known = false;
      this.#finishUnsent(call);
      call.refuse('StartFailed', `the worker does not listen: ${message}`);
      host.changed();
      return;
    }
    await sleep(host.clock, 10 * call.attempts);
    if (call.settled) {
      this.#finishUnsent(call);
      return;
    }
    container.known = own && container.known;
    container.disconnect();
    const closing = host.closing();
    if (call.invocation.signal.aborted) {
      call.refuse('CallerGone', 'the caller hung up');
    } else if (closing !== undefined) {
      call.refuse(...closing);
    } else {
      this.queue.unshift(call);
    }
    this.#finishUnsent(call);
  }

  #finishUnsent(call: PendingCall): void {
    if (this.#current === call) {
      this.#current = undefined;
    }
    if (!this.pump()) {
      this.#host.kick();
    }
    this.#host.changed();
  }

  /** Refuses those in line of whom `condition` holds; whether there were any. */
  refuseWhere(condition: (call: PendingCall) => boolean, reason: RefusalReason, message: string): boolean {
    const refused = this.queue.extract(condition);
    for (const call of refused) {
      call.refuse(reason, message);
    }
    return refused.length > 0;
  }
}
