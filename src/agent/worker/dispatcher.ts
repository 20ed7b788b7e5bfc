import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { runtimeErrorIn, timedOutAfter } from '../../common/emulator-answer.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { InitLink } from '../../init/contract.ts';
import type { ContainerRuntime, WorkerAddress } from '../../runtime/contract/runtime.ts';
import type { WorkerAnswer, WorkerLink } from '../invoke/emulator-client.ts';
import type { IssuedStamps, SharedMarker } from '../invoke/in-flight-marker.ts';
import { InitClient } from '../invoke/init-client.ts';
import { LOG_TAIL_BYTES, logTailOf, readUntil } from '../logs/log-tail.ts';
import type { Invocation } from '../model/invocation.ts';
import type { MarkedCall } from '../model/marked-call.ts';
import { boundOf, type Container, interfaceOf, type Load, pidOf, takesSeveral } from '../step/container.ts';
import type { CallOutcome } from '../step/events.ts';
import { MAX_ATTEMPTS } from '../step/reduce-calls.ts';

/** Milliseconds between two looks at a runtime that is busy. */
const busyEveryMs = 20;
/** Line of the emulator when a call runs out of time before the runtime has loaded the function. */
const endedInInit = /INIT RTDONE\(status: error\)/;
const endedForItsTime = 'Reset initiated: Timeout';

export interface DispatcherOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly runtime: Pick<ContainerRuntime, 'readLog' | 'readLogSince' | 'logOffset'>;
  readonly connect: (address: WorkerAddress, pid: number) => WorkerLink;
  /** The way to the init of a container, where there is one. */
  readonly initOf: (containerId: string) => InitLink | undefined;
  readonly mark: SharedMarker;
  /** Stamps of the worker. */
  readonly stamps: IssuedStamps;
}

/** A call for one container. */
export interface CallOrder {
  readonly container: Container;
  readonly functionName: string;
  /** Number of the version of the function; absent for $LATEST. */
  readonly version?: number | undefined;
  readonly invocation: Pick<
    Invocation,
    | 'payload'
    | 'requestId'
    | 'clientContext'
    | 'invokedFunctionArn'
    | 'traceId'
    | 'trace'
    | 'tailLog'
    | 'onHead'
    | 'onChunk'
    | 'room'
    | 'arrival'
  > & { readonly signal?: AbortSignal };
  /** Whether an agent that ends in the middle of it is to leave a mark of it, where no init tells the next one. */
  readonly marked: boolean;
  /** How often it was about to be sent, this time included. After the last attempt there is no other. */
  readonly attempt: number;
}

/** A call of which not a byte was sent yet. */
interface Unsent {
  readonly containerId: string;
  readonly requestId: string;
  /** Why none is to be sent any more. */
  withheld: string | undefined;
}

/** Makes calls into the containers of one worker, over connections that it keeps, and leaves the marks of them. */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  /** Ways to containers, each with what it leads to. */
  readonly #links = new Map<string, { readonly link: WorkerLink; readonly to: WorkerAddress | InitLink }>();
  /** Calls of which not a byte was sent yet. */
  readonly #unsent = new Set<Unsent>();

  constructor(options: DispatcherOptions) {
    this.#options = options;
  }

  /** Never rejects. Leaves the mark of the call in the very step in which the first byte is sent. */
  async call(order: CallOrder): Promise<CallOutcome> {
    const { requestId } = order.invocation;
    const unsent: Unsent = { containerId: order.container.make.id, requestId, withheld: undefined };
    this.#unsent.add(unsent);
    try {
      return await this.#call(order, unsent);
    } catch (error) {
      this.#options.logger.error({ err: error, requestId }, 'serving a call failed');
      return {
        kind: 'Unknown',
        message: messageOf(error),
        fault: true,
        load: 'Unloaded',
        warmed: false,
        stamp: this.#options.stamps.next(),
      };
    } finally {
      this.#unsent.delete(unsent);
    }
  }

  /** Ends the calls in a container. */
  abort(containerId: string, message: string): void {
    this.#withhold(containerId, message);
    this.#links.get(containerId)?.link.abort(message);
  }

  /** Ends a call for a container if not a byte of it was sent. Returns whether that is so. */
  withdraw(containerId: string, requestId: string, message: string): boolean {
    const unsent = [...this.#unsent].find((each) => each.containerId === containerId && each.requestId === requestId);
    if (unsent === undefined) {
      return false;
    }
    unsent.withheld ??= message;
    const { link, to } = this.#links.get(containerId) ?? {};
    if (to !== undefined && 'ip' in to) {
      // The one call there waits for its connection. A call to an init is sent at once, or not at all.
      link?.abort(message);
    }
    return true;
  }

  /** Closes the connection to a container, and ends the calls in it. */
  close(containerId: string): void {
    this.#withhold(containerId, 'the connection was closed');
    this.#links.get(containerId)?.link.close();
    this.#links.delete(containerId);
  }

  /** The process of a container is gone, and with it the call that may have been in it. */
  forget(containerId: string): void {
    this.#options.mark.remove(containerId);
    this.close(containerId);
  }

  /** A container is frozen: what was kept open for its calls is given back, and its mark says what it said. */
  release(containerId: string): void {
    this.#options.mark.release(containerId);
  }

  /** The agent ends. */
  closeAll(): void {
    for (const { link } of this.#links.values()) {
      link.leave?.();
      link.close();
    }
    this.#links.clear();
  }

  #withhold(containerId: string, message: string): void {
    for (const unsent of this.#unsent) {
      if (unsent.containerId === containerId) {
        unsent.withheld ??= message;
      }
    }
  }

  async #call(order: CallOrder, unsent: Unsent): Promise<CallOutcome> {
    const { clock, mark, stamps } = this.#options;
    const { container, functionName, invocation, version } = order;
    const { id, timeoutSeconds } = container.make;
    const { load, warm } = container.process;
    const boundMs = boundOf(container);
    const isMarked = order.marked && interfaceOf(container) === 'Emulator';
    const logOffset = invocation.tailLog ? await this.#logOffset(id) : 0;
    if (unsent.withheld !== undefined) {
      return await this.#notSent(order, unsent, { kind: 'NotSent', message: unsent.withheld });
    }
    const run = invocation.trace?.running();
    let status = 0;
    let sentAt = clock.monotonic();
    let first: Buffer | undefined;
    const answer = await this.#link(container).call({
      functionName,
      version,
      payload: invocation.payload,
      requestId: invocation.requestId,
      clientContext: invocation.clientContext,
      invokedFunctionArn: invocation.invokedFunctionArn,
      traceId: run?.traceId ?? invocation.traceId,
      timeoutSeconds,
      timeoutMs: boundMs,
      onSending: () => {
        this.#unsent.delete(unsent);
        sentAt = clock.monotonic();
        if (isMarked) {
          this.#mark(id, { requestId: invocation.requestId, until: clock.now() + boundMs });
        }
      },
      onHead: (head) => {
        status = head.status;
        invocation.onHead(head);
      },
      onChunk: (chunk) => {
        first ??= chunk;
        invocation.onChunk(chunk);
      },
      room: invocation.room,
      arrival: invocation.arrival,
    });
    const answeredAt = clock.monotonic();
    run?.end(answer.kind === 'Answered' ? undefined : answer.kind);
    if (answer.kind === 'NotSent') {
      this.#unsent.add(unsent);
      return await this.#notSent(order, unsent, answer);
    }
    const end = answer.kind === 'Answered' ? answer.end : undefined;
    const isOk = answer.kind === 'Answered' && status >= 200 && status < 300;
    const ranOut = isOk && timedOutAfter(first ?? Buffer.alloc(0)) !== undefined;
    const inTime = answer.kind === 'Answered' && answeredAt - sentAt < timeoutSeconds * 1_000;
    const told =
      interfaceOf(container) === 'Lambda'
        ? ({ load: 'Loaded', warmed: !warm && end?.outcome === 'Answered' } as const)
        : ({
            load: inTime ? (isOk ? 'Loaded' : 'Unloaded') : await this.#loadAfter(id, load, ranOut),
            warmed: !warm && isOk && !ranOut && !isOfRuntime(first),
          } as const);
    if (answer.kind === 'Unknown') {
      return { ...answer, ...told, fault: false, stamp: stamps.next() };
    }
    const logged = { containerId: id, requestId: invocation.requestId, several: takesSeveral(container) };
    const logTail = invocation.tailLog ? await logTailOf(this.#options, { ...logged, offset: logOffset }) : undefined;
    const outcome = { kind: answer.kind, ...told, sentAt, answeredAt, logTail, end, stamp: stamps.next() };
    if (answer.kind === 'Answered') {
      mark.end(id, outcome.stamp);
    }
    return outcome;
  }

  /** Waits a moment, so that the next attempt finds what has become of the worker. */
  async #notSent(
    { attempt, container, invocation }: CallOrder,
    unsent: Unsent,
    { message, own = false }: Extract<WorkerAnswer, { kind: 'NotSent' }>,
  ): Promise<CallOutcome> {
    const { clock } = this.#options;
    const { id, timeoutSeconds } = container.make;
    if (attempt < MAX_ATTEMPTS) {
      await sleep(clock, 10 * attempt);
      // A runtime may be at work after its last answer, for as long as that call had.
      const end = clock.monotonic() + timeoutSeconds * 1_000;
      while (this.#isBusy(container, unsent) && invocation.signal?.aborted !== true && clock.monotonic() < end) {
        await sleep(clock, busyEveryMs);
      }
      if (interfaceOf(container) === 'Emulator') {
        this.close(id);
      }
    }
    return { kind: 'NotSent', message, own, gone: invocation.signal?.aborted === true };
  }

  /** Whether the init of a container tells that its runtime does not wait for a call yet, and one may be sent. */
  #isBusy(container: Container, { withheld }: Unsent): boolean {
    const { id } = container.make;
    // Where it takes several calls, the others keep it busy.
    const isTold = interfaceOf(container) === 'Lambda' && !takesSeveral(container) && withheld === undefined;
    const state = isTold ? this.#options.initOf(id)?.state : undefined;
    return state?.phase === 'Ready' && !state.idle;
  }

  /** The way to a container, kept from call to call. */
  #link(container: Container): WorkerLink {
    const { id } = container.make;
    const { connect, initOf } = this.#options;
    const to = interfaceOf(container) === 'Lambda' ? initOf(id) : container.sight.info?.address;
    if (to === undefined) {
      throw new EsbError('the way to the worker is not known', { code: 'Internal' });
    }
    const kept = this.#links.get(id);
    if (kept !== undefined && isSame(kept.to, to)) {
      return kept.link;
    }
    kept?.link.close();
    const link = 'ip' in to ? connect(to, pidOf(container)) : new InitClient(to);
    this.#links.set(id, { link, to });
    return link;
  }

  #mark(containerId: string, call: MarkedCall): void {
    try {
      this.#options.mark.begin(containerId, call);
    } catch (error) {
      // Without it a crash of the agent in the middle of this call goes unnoticed; refusing all calls is worse.
      this.#options.logger.error({ err: error }, 'cannot write the mark of a call');
    }
  }

  /** After a timeout or a crash of the runtime the emulator loads the function again. */
  async #loadAfter(containerId: string, before: Load, ranOut: boolean): Promise<Load> {
    if (!ranOut || before === 'Loaded') {
      return before === 'TimedOut' ? 'TimedOut' : 'Unloaded';
    }
    return endedInInit.test(await this.#lastStart(containerId)) ? 'TimedOut' : 'Unloaded';
  }

  /** Output since the last start of the runtime, once the line about its end for its time is in it. */
  async #lastStart(containerId: string): Promise<string> {
    const tail = await readUntil(
      this.#options,
      () => this.#options.runtime.readLog(containerId, LOG_TAIL_BYTES),
      (text) => text.includes(endedForItsTime),
    );
    return tail.subarray(Math.max(0, tail.lastIndexOf('INIT START'))).toString('utf8');
  }

  async #logOffset(containerId: string): Promise<number> {
    const { logger, runtime } = this.#options;
    try {
      return await runtime.logOffset(containerId);
    } catch (error) {
      logger.debug({ err: error }, 'cannot read the log of a worker');
      return 0;
    }
  }
}

function isSame(one: WorkerAddress | InitLink, other: WorkerAddress | InitLink): boolean {
  return one === other || ('ip' in one && 'ip' in other && one.ip === other.ip && one.port === other.port);
}

/** Whether an answer is an error of the runtime itself, after which the function is not loaded, or not any more. */
function isOfRuntime(answer: Buffer | undefined): boolean {
  return answer !== undefined && (runtimeErrorIn(answer)?.errorType.startsWith('Runtime.') ?? false);
}
