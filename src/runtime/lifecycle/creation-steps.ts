import type { Clock } from '../../common/clock.ts';
import { isAborted } from '../../common/deadline.ts';
import { unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { RuntimeObserver, StartStage } from '../contract/instrumentation.ts';
import type { WorkerAddress } from '../contract/runtime.ts';
import { type WorkerExit, WorkerExitError } from '../contract/worker-exit-error.ts';
import type { WorkerLogs } from '../logs/worker-logs.ts';
import type { Connect } from '../start/port-probe.ts';
import { notListening, waitUntilListening } from '../start/readiness.ts';

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
    place: WorkerPlace,
    exited: (signal: AbortSignal) => Promise<Exit>,
    exitOf: (exit: Exit) => Promise<Omit<WorkerExit, 'output'>>,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, connect, listenDeadlineMs: deadlineMs } = this.#options;
    const wait = { ...place, connect, clock, deadlineMs, exited };
    const outcome = await waitUntilListening(wait, signal);
    switch (outcome.kind) {
      case 'Listening':
        return;
      case 'Exited':
        throw await this.exitError(containerId, await exitOf(outcome.exit));
      case 'Late':
        throw notListening(containerId, wait, await this.#tail(containerId));
      default:
        unreachable(outcome);
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

  async #tail(containerId: string): Promise<string> {
    return (await this.#options.logs.read(containerId, 0, LOG_TAIL_BYTES)).toString('utf8');
  }
}
