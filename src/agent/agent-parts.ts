import type { Clock } from '../common/clock.ts';
import type { Logger } from '../common/logger.ts';
import { repeat } from '../common/repeat.ts';
import type { StopStack } from '../common/stop-in-order.ts';
import type { TaskGroup } from '../common/task-group.ts';
import type { AgentConfig } from '../options/agent.ts';
import type { AgentMetrics } from './metrics.ts';

/** The base of every phase of the start. */
export interface AgentParts {
  readonly config: AgentConfig;
  /** Absolute path of the folder for what outlives a restart. */
  readonly stateDir: string;
  /** Absolute path of the folder on tmpfs. */
  readonly runDir: string;
  /** File mounted over `/etc/resolv.conf` of workers. */
  readonly resolvConfPath: string;
  readonly metrics: AgentMetrics;
  readonly tasks: TaskGroup;
  /** Takes the end of each part that a phase makes. */
  readonly stops: StopStack;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Fires when the agent is to end. */
  readonly signal: AbortSignal;
}

/**
 * Runs a chore of the agent: `work` periodically, until `work` returns true or the agent ends. A failed run is repeated
 * at its next time, or after `retryMs`.
 */
export function every(
  { clock, logger, tasks }: AgentParts,
  name: string,
  periodMs: number,
  work: (signal: AbortSignal) => Promise<unknown>,
  retryMs = periodMs,
): void {
  const onError = (error: unknown): void =>
    logger.debug({ err: error, task: name }, 'chore failed; trying again later');
  tasks.run(name, (signal) => repeat({ clock, everyMs: periodMs, retryMs, onError }, signal, () => work(signal)));
}
