import { aborted } from '../common/deadline.ts';
import type { RoleContext } from '../common/role-context.ts';

/** Milliseconds between two ticks of a timer that only keeps the process alive. */
const HEARTBEAT_MS = 60 * 60_000;

/**
 * Does nothing until it has to end: the program of the one Pod that each node with workers had in the release before.
 */
export async function runHold(context: RoleContext): Promise<void> {
  const { signal, logger } = context;
  const heartbeat = setInterval(() => undefined, HEARTBEAT_MS);
  try {
    logger.info('holding the memory of the workers of this node');
    await aborted(signal);
    logger.info('told to end');
  } finally {
    clearInterval(heartbeat);
  }
}
