import { readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { errnoOf, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRuntime } from '../../runtime/contract/runtime.ts';
import { MARK_SUFFIX } from '../invoke/in-flight-marker.ts';
import { OUTDATED_FOLDER } from '../worker/outdated-records.ts';
import { CLUSTER_RANGES_FILE } from './cluster-cidrs.ts';
import type { NodeHealth } from './node-health.ts';
import type { NodeRegistration } from './node-registration.ts';
import { RESERVATION_FILE } from './reservation.ts';

/** Milliseconds until a failed removal or write is tried again. */
const retryMs = 5_000;
const maxNamed = 5;
/** Entries of the agent in its state folder; other entries there are not its own. */
const stateNames: readonly string[] = [
  'client-ca.pem',
  CLUSTER_RANGES_FILE,
  'cni',
  'docker',
  'host-ports',
  'image-proofs.json',
  'images.json',
  'init',
  'logs',
  RESERVATION_FILE,
  'resolv.conf',
  'server-next.pem',
  'server.pem',
  'set-aside.json',
  'tmp',
  'workers',
];
/** Entries in its folder on tmpfs, beside the marks of calls. */
const runNames: readonly string[] = ['hosts', 'inits', OUTDATED_FOLDER, 'runc', 'secrets'];

interface UninstallOptions {
  readonly runtime: Pick<ContainerRuntime, 'leave' | 'stop'>;
  readonly health: Pick<NodeHealth, 'note' | 'retirement'>;
  readonly registration: Pick<NodeRegistration, 'takeLeave'>;
  readonly stateDir: string;
  readonly runDir: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Removes everything that the agent ever made from its node, and then says so in the condition `Retired`. All other
 * parts of the agent must be stopped before. A failed removal is shown in the condition and tried again until `signal`
 * fires; the next run of the agent goes on then. The runtime is stopped in any case.
 */
export async function uninstall(options: UninstallOptions, signal: AbortSignal): Promise<void> {
  const { health, logger, runDir, runtime, stateDir } = options;
  health.note('start', { ok: false, reason: 'Retired', message: 'ESB leaves this node' });
  try {
    await untilNothingIsLeft(options, signal, () =>
      runtime.leave({ signal }).catch((error: unknown) => [messageOf(error)]),
    );
  } finally {
    await runtime.stop();
  }
  await untilNothingIsLeft(options, signal, () => removeFiles(stateDir, runDir));
  health.retirement({ ok: true });
  logger.info('everything of ESB was removed from the node');
  while (!(await tell(options, signal))) {
    await sleep(options.clock, retryMs, signal);
  }
}

/** @param remove resolves to the failures, one message each */
async function untilNothingIsLeft(
  options: UninstallOptions,
  signal: AbortSignal,
  remove: () => Promise<readonly string[]>,
): Promise<void> {
  const { clock, health, logger } = options;
  for (;;) {
    const left = await remove();
    signal.throwIfAborted();
    if (left.length === 0) {
      return;
    }
    const more = left.length > maxNamed ? `; and ${left.length - maxNamed} more` : '';
    const message = `what ESB made cannot be removed: ${left.slice(0, maxNamed).join('; ')}${more}`;
    logger.error({ left }, 'the node cannot be left yet; trying again');
    health.retirement({ ok: false, reason: 'RemovalFailed', message });
    await tell(options, signal);
    await sleep(clock, retryMs, signal);
  }
}

/** Writes the condition. Returns whether it is written, or the LambdaNode is gone. */
async function tell(options: UninstallOptions, signal: AbortSignal): Promise<boolean> {
  try {
    await options.registration.takeLeave(signal);
    return true;
  } catch (error) {
    signal.throwIfAborted();
    options.logger.warn({ err: error }, 'the LambdaNode cannot be written; trying again');
    return false;
  }
}

async function removeFiles(stateDir: string, runDir: string): Promise<readonly string[]> {
  const marks = (await readdir(runDir).catch(() => [])).filter((name) => name.endsWith(MARK_SUFFIX));
  const paths = [
    ...stateNames.map((name) => join(stateDir, name)),
    ...[...runNames, ...marks].map((name) => join(runDir, name)),
  ];
  const failures: string[] = [];
  for (const path of paths) {
    try {
      await rm(path, { recursive: true, force: true });
    } catch (error) {
      failures.push(`${path}: ${messageOf(error)}`);
    }
  }
  for (const folder of [stateDir, runDir]) {
    try {
      await rmdir(folder);
    } catch (error) {
      // A mounted folder, as in a Pod, cannot be removed, nor one in which others keep files.
      if (!['EBUSY', 'ENOENT', 'ENOTEMPTY', 'EEXIST', 'EROFS'].includes(errnoOf(error) ?? '')) {
        failures.push(`${folder}: ${messageOf(error)}`);
      }
    }
  }
  return failures;
}
