import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { runtimeErrorIn, timedOutAfter } from '../../common/emulator-answer.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRuntime } from '../../runtime/contract/runtime.ts';
import type { WorkerAnswer } from '../invoke/emulator-client.ts';
import type { MarkedCall } from '../invoke/in-flight-marker.ts';
import { partOf, reportsEnd } from '../logs/invocation-splitter.ts';
import type { Invocation } from '../model/invocation.ts';
import type { WorkerContainer } from './container.ts';

/** Milliseconds after its timeout until a worker counts as silent: the emulator's own answer to it comes first. */
const timeoutMarginMs = 1_500;
/** Milliseconds that the first call after a start may take on top, for the runtime and the function to load. */
const initialisationMs = 10_000;

/** Milliseconds that a call in a container with that timeout takes at most, in the first call after a start. */
export function callBoundMs(timeoutSeconds: number): number {
  return timeoutSeconds * 1_000 + timeoutMarginMs + initialisationMs;
}

const logTailBytes = 4 * 1024;
/** Milliseconds, and how often in them, that the last line of a call is waited for. */
const logTailWaitMs = 250;
const logTailEveryMs = 10;
/** What the emulator logs when a call runs out of time before the runtime has loaded the function. */
const endedInInit = /INIT RTDONE\(status: error\)/;
const endedForItsTime = 'Reset initiated: Timeout';

export interface ContainerCall {
  readonly request: Pick<Invocation, 'payload' | 'requestId' | 'clientContext' | 'traceId'>;
  /** Whether an agent that ends in the middle of it is to leave a mark of it. */
  readonly marked: boolean;
  readonly onSending: () => void;
  readonly onHead: Invocation['onHead'];
  readonly onChunk: Invocation['onChunk'];
  readonly room?: Invocation['room'];
}

/** Whether an answer is an error of the runtime itself, after which the function is not loaded, or not any more. */
function isOfRuntime(answer: Buffer): boolean {
  return runtimeErrorIn(answer)?.errorType.startsWith('Runtime.') ?? false;
}

/** Makes calls into containers, and keeps what they tell of the container. */
export class ContainerCaller {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #runtime: ContainerRuntime;
  readonly #onWarm: () => void;
  readonly #onLoad: () => void;

  /**
   * @param onWarm told when a container has answered a call whose function was loaded
   * @param onLoad told when a container has turned out not to load its function in time, or to do so after all
   */
  constructor(
    context: { readonly clock: Clock; readonly runtime: ContainerRuntime },
    logger: Logger,
    onWarm: () => void,
    onLoad: () => void,
  ) {
    this.#clock = context.clock;
    this.#runtime = context.runtime;
    this.#logger = logger;
    this.#onWarm = onWarm;
    this.#onLoad = onLoad;
  }

  /** Leaves the mark of a call in the very step in which the first byte is sent. */
  async call(container: WorkerContainer, call: ContainerCall): Promise<WorkerAnswer> {
    const { request } = call;
    const timeoutMs = container.make.timeoutSeconds * 1_000;
    const boundMs = callBoundMs(container.make.timeoutSeconds) - (container.loaded ? initialisationMs : 0);
    let status = 0;
    let sentAt = 0;
    let first: Buffer = Buffer.alloc(0);
    const answer = await container.connect().call({
      payload: request.payload,
      requestId: request.requestId,
      clientContext: request.clientContext,
      traceId: request.traceId,
      timeoutMs: boundMs,
      onSending: () => {
        sentAt = this.#clock.monotonic();
        container.call = { requestId: request.requestId, until: this.#clock.now() + boundMs };
        if (call.marked) {
          this.#mark(container, container.call);
        }
        call.onSending();
      },
      onHead: (head) => {
        status = head.status;
        call.onHead(head);
      },
      onChunk: (chunk) => {
        first = first.length === 0 ? chunk : first;
        call.onChunk(chunk);
      },
      room: call.room,
    });
    container.call = undefined;
    const answered = answer.kind === 'Answered' && status >= 200 && status < 300;
    const inTime = this.#clock.monotonic() - sentAt < timeoutMs;
    const wasLoaded = container.loaded;
    // After a timeout or a crash of the runtime the emulator loads the function anew.
    container.loaded = answered && inTime;
    const ranOut = answered && timedOutAfter(first) !== undefined;
    if (answer.kind === 'Answered' && inTime) {
      // Whatever became of the call, loading did not take longer than it may.
      this.#tellLoad(container, false);
    } else if (ranOut && !wasLoaded) {
      this.#tellLoad(container, endedInInit.test(await this.#lastStart(container)));
    }
    if (!container.warm && answered && !ranOut && !isOfRuntime(first)) {
      container.warm = true;
      this.#onWarm();
    }
    return answer;
  }

  #tellLoad(container: WorkerContainer, timedOut: boolean): void {
    if (container.loadTimedOut !== timedOut) {
      container.loadTimedOut = timedOut;
      this.#onLoad();
    }
  }

  /** What was written since the runtime was started last, once that it was ended for its time is among it. */
  async #lastStart(container: WorkerContainer): Promise<string> {
    try {
      const end = this.#clock.monotonic() + logTailWaitMs;
      for (;;) {
        const tail = (await this.#runtime.readLog(container.id, logTailBytes)).toString('utf8');
        if (tail.includes(endedForItsTime) || this.#clock.monotonic() >= end) {
          return tail.slice(tail.lastIndexOf('INIT START'));
        }
        await sleep(this.#clock, logTailEveryMs);
      }
    } catch (error) {
      this.#logger.debug({ err: error }, 'cannot read the log of a worker');
      return '';
    }
  }

  async logOffset(container: WorkerContainer): Promise<number> {
    try {
      return await this.#runtime.logOffset(container.id);
    } catch (error) {
      this.#logger.debug({ err: error }, 'cannot read the log of a worker');
      return 0;
    }
  }

  /**
   * What was written during the call, from `offset` on. The shim writes it down a moment after the emulator has
   * answered; the last lines of the call before may come as late.
   */
  async logTail(container: WorkerContainer, offset: number, requestId: string): Promise<Buffer> {
    let tail: Buffer = Buffer.alloc(0);
    try {
      const end = this.#clock.monotonic() + logTailWaitMs;
      for (;;) {
        tail = await this.#runtime.readLogSince(container.id, offset, logTailBytes);
        if (reportsEnd(tail, requestId) || this.#clock.monotonic() >= end) {
          break;
        }
        await sleep(this.#clock, logTailEveryMs);
      }
    } catch (error) {
      this.#logger.debug({ err: error }, 'cannot read the log of a worker');
    }
    return partOf(tail, requestId);
  }

  #mark(container: WorkerContainer, call: MarkedCall): void {
    try {
      container.mark.begin(container.id, call);
    } catch (error) {
      // Without it a crash of the agent in the middle of this call goes unnoticed; refusing all calls is worse.
      this.#logger.error({ err: error }, 'cannot write the mark of a call');
    }
  }
}
