import { EsbError } from '../../common/errors.ts';
import type { RuntimeInterface } from './runtime.ts';

/** The end of a worker's first process. */
export interface WorkerExit {
  readonly exitCode: number;
  readonly oomKilled: boolean;
  readonly finishedAt: Date;
  readonly output: string;
}

/**
 * `ExitedAtOnce`: the process ended before it could take a call. Only the log is left of the container, so the error
 * carries the facts for a status.
 */
export class WorkerExitError extends EsbError {
  readonly exit: WorkerExit;

  constructor(containerId: string, exit: WorkerExit, runtimeInterface: RuntimeInterface = 'Emulator') {
    const how = exit.oomKilled
      ? 'was killed for using more memory than its limit'
      : `exited with code ${exit.exitCode}`;
    const awaited = runtimeInterface === 'Lambda' ? 'it was ready' : 'its port was open';
    const output = exit.output.trim();
    super(
      `the process of ${containerId} ${how} before ${awaited}${output === '' ? '' : `; its last output: ${output}`}`,
      { code: 'ExitedAtOnce' },
    );
    this.exit = exit;
  }
}
