import { EsbError } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import type { Logger } from '../../common/logger.ts';
import { insideAddresses, type NamespaceKeeper } from '../host/netns.ts';
import { cniTarget, INTERFACE, type NetworkSetup } from '../host/network-setup.ts';
import type { AttachmentIndex } from './attachment-index.ts';
import type { ReadyRecord } from './attachment-store.ts';
import type { SlotPool } from './slot-pool.ts';

export interface TakeoverOptions {
  readonly book: AttachmentIndex;
  readonly namespaces: NamespaceKeeper;
  readonly pool: SlotPool;
  readonly runner: CommandRunner;
  readonly logger: Logger;
  /** Addresses to which a slot with these addresses has no way. */
  readonly closedFor: (ips: readonly string[]) => Promise<readonly string[]>;
}

/**
 * Takes over the records of an earlier run: slots that still work go into the pool. Records of a reboot or a crash are
 * marked for removal, which follows one by one: after a reboot there may be a thousand.
 */
export async function takeOverRecords(setup: NetworkSetup, options: TakeoverOptions): Promise<void> {
  const { book, logger, namespaces, pool } = options;
  await Promise.all(
    book.records().map(async (record) => {
      if (book.isDiscarded(record.id) || pool.holds(record.id) || record.state === 'Making') {
        return;
      }
      if (!(await namespaces.isPinned(namespaces.path(record.id)))) {
        book.discard(record.id);
      } else if (record.state === 'Ready') {
        try {
          await checkSlot(setup, record, options);
          pool.hand(record);
        } catch (error) {
          logger.info({ err: error, netns: record.id }, 'a prepared slot no longer works');
          book.discard(record.id);
        }
      }
    }),
  );
}

/** Checks that namespace, interface and addresses are still as the record and the plugins' result say. */
async function checkSlot(setup: NetworkSetup, record: ReadyRecord, options: TakeoverOptions): Promise<void> {
  const { closedFor, namespaces, runner } = options;
  if (record.segment >= setup.planned.length) {
    throw new EsbError('its bridge is no longer wanted', { code: 'SlotInvalid' });
  }
  const inside = await insideAddresses(runner, record.id, INTERFACE);
  if (inside.join() !== record.ips.join()) {
    throw new EsbError(`it has ${inside.join(', ') || 'no address'}, not ${record.ips.join(', ')}`, {
      code: 'SlotInvalid',
    });
  }
  await namespaces.closeWays(record.id, await closedFor(record.ips));
  await setup.at(record.segment).cni.check(cniTarget(record.id, namespaces.path(record.id)));
}
