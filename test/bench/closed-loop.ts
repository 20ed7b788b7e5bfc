import { Agent } from 'node:http';
import { timedPost } from './timed-call.ts';

/** Result of a closed loop: each client waits for its answer before it calls again. */
export interface ClosedLoop {
  /** Milliseconds of each call, from the request to the end of its answer. */
  readonly latencies: readonly number[];
  readonly callsPerSecond: number;
}

/** When a closed loop ends: after a time, or after a number of calls. */
export type Until = { readonly ms: number } | { readonly calls: number };

/**
 * Calls `url` over that many kept-alive connections; rejects with the first call that is not answered as it should be.
 */
export async function closedLoop(url: string, connections: number, until: Until): Promise<ClosedLoop> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const latencies: number[] = [];
  const began = performance.now();
  let begun = 0;
  const goesOn = (): boolean => {
    begun += 1;
    return 'calls' in until ? begun <= until.calls : performance.now() - began < until.ms;
  };
  try {
    await Promise.all(
      Array.from({ length: connections }, async () => {
        while (goesOn()) {
          latencies.push((await timedPost(agent, url, '{}')).totalMs);
        }
      }),
    );
  } finally {
    agent.destroy();
  }
  return { latencies, callsPerSecond: latencies.length / ((performance.now() - began) / 1000) };
}
