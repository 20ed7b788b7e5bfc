import { aborted } from '../common/deadline.ts';
import type { RoleContext } from '../common/role-context.ts';

/** A timer is what keeps a process without any work alive; how often it fires does not matter. */
const HEARTBEAT_MS = 60 * 60_000;

/**
 * Does nothing until it is told to end: what runs in the hold Pod of a node, whose request for memory is what makes the
 * workers' share visible to the scheduler.
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
