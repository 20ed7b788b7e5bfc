import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import type { Clock } from '../../common/clock.ts';
import { errnoOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { fileMarks, type MarkStore } from '../invoke/mark-store.ts';
import { OUTDATED_FOLDER, OutdatedRecords } from './outdated-records.ts';
import { RecordStore } from './record-store.ts';
import type { SetAside, SetAsideStore } from './set-aside.ts';

/** Keeps the records of workers. */
export type Records = Pick<RecordStore, 'load' | 'save' | 'remove' | 'forgetProcess' | 'saved' | 'flush' | 'health'>;

/** Where a fleet keeps what must outlive its agent. */
export interface FleetStorage {
  readonly records: Records;
  readonly marks: MarkStore;
  readonly setAsides: SetAsideStore;
}

/** Files: what outlives a boot in `stateDir`, what must not in `runDir`, on a tmpfs. */
export function fileStorage(
  { runDir, stateDir }: { readonly runDir: string; readonly stateDir: string },
  clock: Clock,
  logger: Logger,
): FleetStorage {
  const file = join(stateDir, 'set-aside.json');
  return {
    records: new RecordStore({
      folder: join(stateDir, 'workers'),
      outdated: new OutdatedRecords(join(runDir, OUTDATED_FOLDER), logger),
      clock,
      logger,
    }),
    marks: fileMarks(runDir),
    setAsides: {
      load: async () => {
        try {
          return JSON.parse(await readFile(file, 'utf8')) as readonly SetAside[];
        } catch (error) {
          if (errnoOf(error) !== 'ENOENT') {
            logger.error({ path: file, err: error }, 'cannot read which containers were set aside');
          }
          return [];
        }
      },
      save: async (all) => await writeFileAtomically(file, JSON.stringify(all)),
    },
  };
}
