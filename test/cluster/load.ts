import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { waitFor } from '../support/wait-for.ts';
import type { ClusterNode } from './cluster-node.ts';
import type { LoadCallOptions, LoadResult } from './steady-load.ts';

const program = fileURLToPath(new URL('steady-load.ts', import.meta.url));

/** A steady load of calls that runs until it is asked for its result. */
export interface Load {
  /** Waits until so many calls more than now have been answered. */
  goOn(calls: number): Promise<void>;
  /** Ends it; waits for the calls that run. */
  result(): Promise<LoadResult>;
}

export interface LoadOptions {
  /** Where the gateway is, such as `http://10.96.12.7:9080`. */
  readonly origin: string;
  /** Shown with every call. */
  readonly token: string;
  readonly functions: readonly string[];
  readonly clients: number;
  readonly calls?: LoadCallOptions | undefined;
}

/** Starts it on a node. */
export async function startLoad(node: ClusterNode, options: LoadOptions): Promise<Load> {
  const caller = await node.start(
    `load-${randomUUID()}`,
    process.execPath,
    [
      '--disable-warning=ExperimentalWarning',
      program,
      options.origin,
      options.functions.join(','),
      String(options.clients),
      JSON.stringify(options.calls ?? {}),
    ],
    { ESB_LOAD_TOKEN: options.token },
  );
  const answered = (): number =>
    Number(
      caller
        .output()
        .trim()
        .split('\n')
        .findLast((line) => /^\d+$/.test(line)) ?? '0',
    );
  return {
    async goOn(calls) {
      const goal = answered() + calls;
      await waitFor(`${calls} answers more`, () => answered() >= goal, { timeoutMs: 120_000 });
    },
    async result() {
      caller.signal('SIGTERM');
      await waitFor('the load to end', () => caller.ended(), { timeoutMs: 150_000 });
      const line = caller.output().trim().split('\n').at(-1) ?? '';
      if (!line.startsWith('{')) {
        throw new Error(`the load ended without a result:\n${caller.output()}`);
      }
      return JSON.parse(line) as LoadResult;
    },
  };
}

/** Throws when a call failed, or there was too little load to tell. */
export function expectNoFailure(result: LoadResult, atLeast: number): string {
  if (result.failed > 0) {
    const shown = result.failures
      .slice(0, 10)
      .map(({ at, functionName, afterMs, why }) => `${at} ${functionName} after ${afterMs} ms: ${why}`);
    throw new Error(`${result.failed} of ${result.failed + result.answered} calls failed:\n${shown.join('\n')}`);
  }
  if (result.answered < atLeast) {
    throw new Error(
      `only ${result.answered} calls were answered, the longest after ${result.longestMs} ms, which shows nothing`,
    );
  }
  return `${result.answered} calls, the longest ${result.longestMs} ms`;
}
