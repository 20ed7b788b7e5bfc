import type { Clock, Timer } from '../../common/clock.ts';
import { AbortedError, isAborted, sleep } from '../../common/deadline.ts';
import { EsbError, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { WorkerInits } from '../../init/contract.ts';
import { InitFailedError } from '../../init/init-failed-error.ts';
import type { SpecInit } from '../../oci/spec-init.ts';
import type { RuntimeObserver, StartStage } from '../contract/instrumentation.ts';
import type { RuntimeInterface, WorkerAddress, WorkerInfo, WorkerShape } from '../contract/runtime.ts';
import { type WorkerExit, WorkerExitError } from '../contract/worker-exit-error.ts';
import type { WorkerLogs } from '../logs/worker-logs.ts';
import { isShared, listensOn } from '../start/port-owner.ts';
import { type Connect, waitForPort } from '../start/port-probe.ts';

export interface CreationStepsOptions {
  readonly logs: Pick<WorkerLogs, 'read' | 'size'>;
  /** Milliseconds that a new process may take until its port is open. */
  readonly listenDeadlineMs: number;
  readonly connect: Connect;
  /** Absent on a node without inits, which makes no worker of interface `Lambda`. */
  readonly inits: WorkerInits | undefined;
  readonly observer: RuntimeObserver | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** How a started worker shows that it can take calls: it listens on its port, or its init says so. */
export type WorkerPlace =
  | {
      readonly kind: 'Port';
      readonly address: WorkerAddress;
      /** First process of the worker. */
      readonly pid: number;
    }
  | { readonly kind: 'Init'; readonly startupTimeoutSeconds: number };

/** The wait for a started worker. */
interface Wait {
  /** Rejects when its signal fires. */
  readonly ready: (signal: AbortSignal) => Promise<unknown>;
  readonly deadlineMs: number;
  /** The error after that time. */
  readonly late: () => Promise<EsbError>;
  readonly runtimeInterface: RuntimeInterface;
}

/** Milliseconds that the last word of an init may come later than the news of its end, on a busy machine. */
const LAST_WORDS_MS = 1_000;
const LOG_TAIL_BYTES = 2048;
/** Lines of the init about an initialization, as text and as JSON. */
const INIT_LINE = /^(EXTENSION\t|INIT_REPORT |\{"time":"[^"]*","type":"platform\.)/;
/** Line about an extension which failed. */
const FAILED_EXTENSION = /^EXTENSION\t.*\tError Type: |"type":"platform\.extension".*"errorType":/;
const WAITING = 'waiting for the worker';
/** Milliseconds in which an init is started and says that its own deadline is over. */
const INIT_MARGIN_MS = 10_000;
const THAW_EVERY_MS = 500;

/**
 * The way in which a container shows that it can take calls.
 *
 * @throws {EsbError} `NetworkFailed` for a port without an address
 */
export function placeOf(
  { address, containerId, runtimeInterface }: Pick<WorkerInfo, 'address' | 'containerId' | 'runtimeInterface'>,
  pid: number,
  { startupTimeoutSeconds }: Pick<WorkerShape, 'startupTimeoutSeconds'>,
): WorkerPlace {
  if (runtimeInterface === 'Lambda') {
    return { kind: 'Init', startupTimeoutSeconds };
  }
  if (address === undefined) {
    throw new EsbError(`${containerId} has been given no address`, { code: 'NetworkFailed' });
  }
  return { kind: 'Port', address, pid };
}

/** The first process of a container, and what its runtime can tell of it. */
export interface FirstProcess<Exit> {
  /** Settles when the process has ended; rejects when its signal fires. */
  readonly exited: (signal: AbortSignal) => Promise<Exit>;
  /** Describes that end. */
  readonly exitOf: (exit: Exit) => Promise<Omit<WorkerExit, 'output'>>;
  /** Whether the kernel has ended a process of the container for want of memory. */
  readonly isStarved: () => boolean | Promise<boolean>;
  /** Thaws the container where it is frozen. Absent where the engine alone can. */
  readonly thaw?: () => void;
}

/** Steps of a creation that are the same in every runtime. */
export class CreationSteps {
  readonly #options: CreationStepsOptions;

  constructor(options: CreationStepsOptions) {
    this.#options = options;
  }

  /** Runs a stage of a start and reports its duration when it succeeds. */
  async observed<T>(stage: StartStage, work: Promise<T>): Promise<T> {
    const { clock, observer } = this.#options;
    const begun = clock.monotonic();
    const result = await work;
    observer?.stage(stage, clock.monotonic() - begun);
    return result;
  }

  /**
   * Our init in the spec of a container; undefined for the interface `Emulator`. Makes the files of the init, which go
   * with the container.
   *
   * @throws {EsbError} `CreateFailed` on a node without inits
   */
  async init(containerId: string, namespace: string, shape: WorkerShape): Promise<SpecInit | undefined> {
    const { clock, inits } = this.#options;
    const { perWorker, runtimeInterface, startupTimeoutSeconds, terminationGraceSeconds } = shape;
    if (runtimeInterface !== 'Lambda') {
      return undefined;
    }
    if (inits === undefined) {
      throw new EsbError('there is no init on this node for the interface Lambda', { code: 'CreateFailed' });
    }
    return {
      ...(await inits.open(containerId, namespace)),
      timeoutMs: startupTimeoutSeconds * 1000,
      graceMs: terminationGraceSeconds * 1000,
      madeAt: new Date(clock.now()),
      perWorker,
    };
  }

  /**
   * Waits until a running worker can take calls. One that somebody else froze is thawed: its time runs on.
   *
   * @throws {WorkerExitError} when the process ends first
   * @throws {InitFailedError} when its init fails, or says nothing in time
   * @throws {EsbError} `NotListening` after the deadline of a port
   */
  async untilReady<Exit>(
    containerId: string,
    place: WorkerPlace,
    { exited, exitOf, isStarved, thaw }: FirstProcess<Exit>,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock } = this.#options;
    if (signal.aborted) {
      throw new AbortedError(WAITING, signal.reason);
    }
    const { deadlineMs, late, ready, runtimeInterface } = this.#waitFor(containerId, place);
    const controller = new AbortController();
    const ended = AbortSignal.any([signal, controller.signal]);
    let isLate = false;
    const timer = clock.setTimer(() => {
      isLate = true;
      controller.abort(new AbortedError(WAITING));
    }, deadlineMs);
    let thawing: Timer | undefined;
    const keepThawed = (): void => {
      thawing = clock.setTimer(() => {
        keepThawed();
        thaw?.();
      }, THAW_EVERY_MS);
    };
    keepThawed();
    const exit = exited(ended).then((value) => ({ value }));
    const isReady = ready(ended).then(() => undefined);
    // The signal below ends the slower of the two.
    exit.catch(() => undefined);
    isReady.catch(() => undefined);
    let first: { readonly value: Exit } | undefined;
    try {
      first = await Promise.race([isReady, exit]);
      if (first !== undefined && runtimeInterface === 'Lambda') {
        await Promise.race([isReady, sleep(clock, LAST_WORDS_MS, ended)]);
      }
    } catch (error) {
      const failure = isLate && isAborted(error) ? await late() : await this.#explained(containerId, error);
      // An init knows no more of a runtime than its signal.
      throw failure instanceof InitFailedError && (await isStarved()) ? failure.starved() : failure;
    } finally {
      timer.cancel();
      thawing?.cancel();
      controller.abort(new AbortedError(WAITING));
    }
    if (first !== undefined) {
      throw await this.exitError(containerId, await exitOf(first.value), runtimeInterface);
    }
  }

  /** The error for a first process that ended before its worker could take a call, with its last output. */
  async exitError(
    containerId: string,
    exit: Omit<WorkerExit, 'output'>,
    runtimeInterface: RuntimeInterface,
  ): Promise<WorkerExitError> {
    return new WorkerExitError(containerId, { ...exit, output: await this.#tail(containerId) }, runtimeInterface);
  }

  /** Removes the rest of a failed creation. Never rejects: the next list shows a rest that stays as half-made. */
  async undo(containerId: string, cause: unknown, remove: (keepLog: boolean) => Promise<void>): Promise<void> {
    const { logger, logs } = this.#options;
    try {
      // The output alone tells the cause of a failure; a caller that gave up has no use for the output.
      await remove(!isAborted(cause) && (await logs.size(containerId)) > 0);
    } catch (error) {
      logger.error({ containerId, err: error }, 'the rest of a failed creation cannot be removed');
    }
  }

  #waitFor(containerId: string, place: WorkerPlace): Wait {
    const { clock, connect, inits, listenDeadlineMs } = this.#options;
    switch (place.kind) {
      case 'Port': {
        const { address, pid } = place;
        const connectOwn: Connect = async (to, ended) =>
          (await connect(to, ended)) && (!isShared(address) || (await listensOn(pid, to.port)));
        return {
          ready: (ended) => waitForPort(address, connectOwn, clock, ended),
          deadlineMs: listenDeadlineMs,
          late: () => this.#notListening(containerId, address),
          runtimeInterface: 'Emulator',
        };
      }
      case 'Init': {
        const deadlineMs = place.startupTimeoutSeconds * 1000 + INIT_MARGIN_MS;
        const words = `the init of ${containerId} has not said within ${deadlineMs / 1000} s that the worker is ready`;
        const silent = InitFailedError.untold(words);
        return {
          ready: (ended) => inits?.untilReady(containerId, ended) ?? Promise.reject(silent),
          deadlineMs,
          late: () => Promise.resolve(silent),
          runtimeInterface: 'Lambda',
        };
      }
      default:
        return unreachable(place);
    }
  }

  async #notListening(containerId: string, { port }: WorkerAddress): Promise<EsbError> {
    const last = (await this.#tail(containerId)).trim();
    const seconds = Math.round(this.#options.listenDeadlineMs / 1000);
    return new EsbError(
      `nothing listens on port ${port} of ${containerId} after ${seconds} s: is spec.port the port of the emulator, and does the command begin with the emulator?${last === '' ? '' : ` Its last output: ${last}`}`,
      { code: 'NotListening' },
    );
  }

  /** A runtime that ended before it was ready may have said why, where its init knows the exit alone. */
  async #explained(containerId: string, error: unknown): Promise<unknown> {
    const isOfExtension = error instanceof InitFailedError && error.message.startsWith('Extension.');
    if (!(error instanceof InitFailedError) || !(isOfExtension || error.message.startsWith('Runtime.ExitError'))) {
      return error;
    }
    const lines = (await this.#tail(containerId)).trimEnd().split('\n');
    const last = lines.findLast((line) => (isOfExtension ? FAILED_EXTENSION.test(line) : !INIT_LINE.test(line)));
    return (last ?? '') === '' ? error : error.explained(`its last output: ${last}`);
  }

  async #tail(containerId: string): Promise<string> {
    return (await this.#options.logs.read(containerId, 0, LOG_TAIL_BYTES)).toString('utf8');
  }
}
