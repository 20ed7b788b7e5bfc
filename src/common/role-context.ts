import type { Logger } from './logger.ts';

/** What a role is given by the process that runs it. */
export interface RoleContext {
  /** Fires when the process is to end; the role then stops in order and returns. */
  readonly signal: AbortSignal;
  readonly logger: Logger;
}
