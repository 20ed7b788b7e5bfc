import type { Logger } from './logger.ts';

/** The surroundings that a process gives to its role. */
export interface RoleContext {
  /** Fires when the process is to end; the role then stops in order and returns. */
  readonly signal: AbortSignal;
  readonly logger: Logger;
}
