/** A thread that runs one seed after the other. */
import { parentPort, workerData } from 'node:worker_threads';
import type { SourceChange } from './hooks.ts';
import { type RunRequest, runOne } from './run-one.ts';

// Errors are made by the thousand, and most of them are part of the game.
Error.stackTraceLimit = 2;

const { changes, inits } = workerData as {
  readonly changes: readonly SourceChange[];
  readonly inits: boolean | undefined;
};

parentPort?.on('message', (request: Pick<RunRequest, 'seed' | 'steps' | 'killAfter'>) => {
  runOne({ ...request, changes, inits }).then(
    (result) => parentPort?.postMessage(result),
    (error: unknown) => {
      throw error;
    },
  );
});
