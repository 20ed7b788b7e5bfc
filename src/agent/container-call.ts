import type { Clock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import type { Logger } from '../common/logger.ts';
import type { ContainerRuntime } from '../runtime/container-runtime.ts';
import type { Invocation } from './invocation.ts';
import type { WorkerContainer } from './worker-container.ts';
import type { WorkerAnswer } from './worker-http.ts';

/** Milliseconds after its timeout until a worker counts as silent: the emulator's own answer to it comes first. */
const timeoutMarginMs = 1_500;
/** Milliseconds that the first call after a start may take on top, for the runtime and the function to load. */
const initialisationMs = 10_000;
const logTailBytes = 4 * 1024;
/** Milliseconds, and how often in them, that the last line of a call is waited for. */
const logTailWaitMs = 250;
const logTailEveryMs = 10;

export interface ContainerCall {
  readonly request: Pick<Invocation, 'payload' | 'requestId' | 'clientContext' | 'traceId'>;
  /** Whether an agent that ends in the middle of it is to leave a mark of it. */
  readonly marked: boolean;
  readonly onSending: () => void;
  readonly onHead: Invocation['onHead'];
  readonly onChunk: Invocation['onChunk'];
}

/** Makes calls into containers, and keeps what they tell of the container. */
export class ContainerCaller {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #runtime: ContainerRuntime;
  readonly #onWarm: () => void;

  /** @param onWarm told when a container has answered its first call */
  constructor(
    context: { readonly clock: Clock; readonly runtime: ContainerRuntime },
    logger: Logger,
    onWarm: () => void,
  ) {
    this.#clock = context.clock;
    this.#runtime = context.runtime;
    this.#logger = logger;
    this.#onWarm = onWarm;
  }

  /** Leaves the mark of a call in the very step in which the first byte is sent. */
  async call(container: WorkerContainer, call: ContainerCall): Promise<WorkerAnswer> {
    const { request } = call;
    const timeoutMs = container.make.timeoutSeconds * 1_000;
    let status = 0;
    let sentAt = 0;
    const answer = await container.connect().call({
      payload: request.payload,
      requestId: request.requestId,
      clientContext: request.clientContext,
      traceId: request.traceId,
      timeoutMs: timeoutMs + timeoutMarginMs + (container.loaded ? 0 : initialisationMs),
      onSending: () => {
        sentAt = this.#clock.monotonic();
        if (call.marked) {
          this.#mark(container);
        }
        call.onSending();
      },
      onHead: (head) => {
        status = head.status;
        call.onHead(head);
      },
      onChunk: call.onChunk,
    });
    // After a timeout or a crash of the runtime the emulator loads the function anew.
    container.loaded =
      answer.kind === 'Answered' &&
      status >= 200 &&
      status < 300 &&
      this.#clock.monotonic() - sentAt < timeoutMs;
    if (answer.kind === 'Answered' && !container.warm) {
      container.warm = true;
      this.#onWarm();
    }
    return answer;
  }

  async logOffset(container: WorkerContainer): Promise<number> {
    try {
      return await this.#runtime.logOffset(container.id);
    } catch (error) {
      this.#logger.debug({ err: error }, 'cannot read the log of a worker');
      return 0;
    }
  }

  /** What was written during the call. The shim writes it down a moment after the emulator has answered. */
  async logTail(container: WorkerContainer, offset: number): Promise<Buffer> {
    let tail: Buffer = Buffer.alloc(0);
    try {
      const end = this.#clock.monotonic() + logTailWaitMs;
      for (;;) {
        tail = await this.#runtime.readLogSince(container.id, offset, logTailBytes);
        if (tail.includes('REPORT RequestId') || this.#clock.monotonic() >= end) {
          break;
        }
        await sleep(this.#clock, logTailEveryMs);
      }
    } catch (error) {
      this.#logger.debug({ err: error }, 'cannot read the log of a worker');
    }
    return tail;
  }

  #mark(container: WorkerContainer): void {
    try {
      container.mark.begin(container.id);
    } catch (error) {
      // Without it a crash of the agent in the middle of this call goes unnoticed; refusing all calls is worse.
      this.#logger.error({ err: error }, 'cannot write the mark of a call');
    }
  }
}
