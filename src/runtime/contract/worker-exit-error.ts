import { EsbError } from '../../common/errors.ts';

/** How a worker's first process ended. */
export interface WorkerExit {
  readonly exitCode: number;
  readonly oomKilled: boolean;
  readonly finishedAt: Date;
  /** The last lines that it wrote. */
  readonly output: string;
}

/**
 * `ExitedAtOnce`: the process ended before its port was open. Nothing of the container is left then but its log, so
 * what a status wants to tell of the end is told here.
 */
export class WorkerExitError extends EsbError {
  readonly exit: WorkerExit;

  constructor(containerId: string, exit: WorkerExit) {
    const how = exit.oomKilled
      ? 'was killed for using more memory than its limit'
      : `exited with code ${exit.exitCode}`;
    const output = exit.output.trim();
    super(
      `the process of ${containerId} ${how} before its port was open${output === '' ? '' : `; its last output: ${output}`}`,
      { code: 'ExitedAtOnce' },
    );
    this.exit = exit;
  }
}
