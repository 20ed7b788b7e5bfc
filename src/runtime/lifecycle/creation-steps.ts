import type { Clock } from '../../common/clock.ts';
import { AbortedError, isAborted } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { RuntimeObserver, StartStage } from '../contract/instrumentation.ts';
import type { WorkerAddress } from '../contract/runtime.ts';
import { type WorkerExit, WorkerExitError } from '../contract/worker-exit-error.ts';
import type { WorkerLogs } from '../logs/worker-logs.ts';
import { isShared, listensOn } from '../start/port-owner.ts';
import { type Connect, waitForPort } from '../start/port-probe.ts';

export interface CreationStepsOptions {
  readonly logs: Pick<WorkerLogs, 'read' | 'size'>;
  /** Milliseconds that a new process may take until its port is open. */
  readonly listenDeadlineMs: number;
  readonly connect: Connect;
  readonly observer: RuntimeObserver | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Where a started worker is expected to listen. */
export interface WorkerPlace {
  readonly address: WorkerAddress;
  /** First process of the worker. */
  readonly pid: number;
}

const LOG_TAIL_BYTES = 2048;
const WAITING = 'waiting for the port';

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
   * Waits until a running worker listens.
   *
   * @param exited settles when the first process has ended; rejects when its signal fires
   * @param exitOf describes that end
   * @throws {WorkerExitError} when the process ends first
   * @throws {EsbError} `NotListening` after the deadline
   */
  async untilListening<Exit>(
    containerId: string,
    { address, pid }: WorkerPlace,
    exited: (signal: AbortSignal) => Promise<Exit>,
    exitOf: (exit: Exit) => Promise<Omit<WorkerExit, 'output'>>,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, connect, listenDeadlineMs } = this.#options;
    if (signal.aborted) {
      throw new AbortedError(WAITING, signal.reason);
    }
    const connectOwn: Connect = async (to, ended) =>
      (await connect(to, ended)) && (!isShared(address) || (await listensOn(pid, to.port)));
    const controller = new AbortController();
    const ended = AbortSignal.any([signal, controller.signal]);
    let isLate = false;
    const timer = clock.setTimer(() => {
      isLate = true;
      controller.abort(new AbortedError(WAITING));
    }, listenDeadlineMs);
    const exit = exited(ended).then((value) => ({ value }));
    // The signal below ends the slower of the two.
    exit.catch(() => undefined);
    let first: { readonly value: Exit } | undefined;
    try {
      first = await Promise.race([waitForPort(address, connectOwn, clock, ended).then(() => undefined), exit]);
    } catch (error) {
      throw isLate && isAborted(error) ? await this.#notListening(containerId, address) : error;
    } finally {
      timer.cancel();
      controller.abort(new AbortedError(WAITING));
    }
    if (first !== undefined) {
      throw await this.exitError(containerId, await exitOf(first.value));
    }
  }

  /** The error for a first process that ended before its port was open, with its last output. */
  async exitError(containerId: string, exit: Omit<WorkerExit, 'output'>): Promise<WorkerExitError> {
    return new WorkerExitError(containerId, { ...exit, output: await this.#tail(containerId) });
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

  async #notListening(containerId: string, { port }: WorkerAddress): Promise<EsbError> {
    const last = (await this.#tail(containerId)).trim();
    const seconds = Math.round(this.#options.listenDeadlineMs / 1000);
    return new EsbError(
      `nothing listens on port ${port} of ${containerId} after ${seconds} s: is spec.port the port of the emulator, and does the command begin with the emulator?${last === '' ? '' : ` Its last output: ${last}`}`,
      { code: 'NotListening' },
    );
  }

  async #tail(containerId: string): Promise<string> {
    return (await this.#options.logs.read(containerId, 0, LOG_TAIL_BYTES)).toString('utf8');
  }
}
