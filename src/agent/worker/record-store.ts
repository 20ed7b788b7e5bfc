import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FolderSync, writeFileAtomically } from '../../common/atomic-file.ts';
import type { Clock, Timer } from '../../common/clock.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import type { Logger } from '../../common/logger.ts';
import { RECORD_VERSION, type WorkerRecord } from '../model/worker-record.ts';
import type { RecordChange } from '../step/effects.ts';
import type { Outdated, OutdatedRecords } from './outdated-records.ts';

/** Ends the name of a record that cannot be read, and milliseconds for which it is kept. */
const SET_ASIDE_SUFFIX = '.unreadable';
const KEEP_SET_ASIDE_MS = 30 * 24 * 60 * 60_000;
/** Ends the name of each record. */
export const RECORD_SUFFIX = '.json';

/** Milliseconds between two attempts to write what could not be written. */
const retryMs = 2_000;

export interface RecordStoreOptions {
  readonly folder: string;
  readonly outdated: OutdatedRecords;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Wanted {
  /** Undefined for no file. */
  readonly record: WorkerRecord | undefined;
  /** Containers whose process the record does not tell of as those before it did. */
  readonly outdated: readonly Outdated[] | undefined;
}

/**
 * One file per worker, written in the background: saves while a write is under way are gathered to one more. A failed
 * write is tried again until it succeeds.
 */
export class RecordStore {
  readonly #folder: string;
  readonly #names: FolderSync;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #outdated: OutdatedRecords;
  /** Content that each file should have. */
  readonly #wanted = new Map<string, Wanted>();
  readonly #writing = new Map<string, Promise<void>>();
  /** Workers of whom more than the rest has changed since their record was made durable. */
  readonly #owed = new Set<string>();
  /** Attempts to come, each at what was wanted when it failed: anything newer cancels it. */
  readonly #retries = new Map<string, Timer>();
  #fault: EsbError | undefined;
  /** Records that could not be read, and are there yet. */
  #setAside = 0;

  constructor(options: RecordStoreOptions) {
    this.#folder = options.folder;
    this.#names = new FolderSync(options.folder);
    this.#outdated = options.outdated;
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  /** Whether the folder takes what is written to it. */
  get health(): Health {
    if (this.#fault !== undefined) {
      return { ok: false, reason: this.#fault.code, message: this.#fault.message };
    }
    if (this.#setAside > 0) {
      const message = `${this.#setAside} records of workers could not be read and are kept as *${SET_ASIDE_SUFFIX} in ${this.#folder} for 30 days`;
      return { ok: true, warning: { reason: 'RecordsSetAside', message } };
    }
    return { ok: true };
  }

  /**
   * Reads every record. One that cannot be read is logged and set aside under another name.
   *
   * @throws {EsbError} `StateUnreadable` when the folder itself cannot be read
   */
  async load(): Promise<readonly WorkerRecord[]> {
    try {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      this.#outdated.load();
      const records: WorkerRecord[] = [];
      for (const name of await readdir(this.#folder)) {
        if (name.endsWith(RECORD_SUFFIX)) {
          const record = await this.#read(name);
          if (record !== undefined) {
            records.push(record);
          }
        } else if (name.endsWith('.tmp')) {
          await rm(join(this.#folder, name), { force: true });
        }
      }
      const uids = new Set(records.map(({ desired }) => desired.identity.uid));
      for (const [uid, containerIds] of this.#outdated.containers) {
        if (!uids.has(uid)) {
          this.#outdated.remove(uid, containerIds);
        }
      }
      this.#setAside = await this.#pruneSetAside();
      return records;
    } catch (error) {
      throw new EsbError(`cannot read ${this.#folder}: ${messageOf(error)}`, {
        code: 'StateUnreadable',
        cause: error,
      });
    }
  }

  /** Removes records that were set aside long ago. Returns how many are left. */
  async #pruneSetAside(): Promise<number> {
    let left = 0;
    for (const name of await readdir(this.#folder)) {
      if (name.endsWith(SET_ASIDE_SUFFIX)) {
        const path = join(this.#folder, name);
        const { mtimeMs } = await stat(path);
        if (this.#clock.now() - mtimeMs > KEEP_SET_ASIDE_MS) {
          await rm(path, { force: true });
        } else {
          left += 1;
        }
      }
    }
    return left;
  }

  /**
   * Keeps a record. A change of rest alone outlives this process and not a loss of power, with which every container is
   * lost: its worker would be made again to rest as it did before. Each wake and pause so costs one fsync in place of
   * two.
   */
  save(uid: string, record: WorkerRecord, change: RecordChange = 'Any'): void {
    if (change === 'Any') {
      this.#owed.add(uid);
    }
    this.#want(uid, { record, outdated: this.#outdated.containers.get(uid) });
  }

  remove(uid: string): void {
    this.#owed.delete(uid);
    this.#want(uid, { record: undefined, outdated: this.#outdated.containers.get(uid) });
  }

  /** A container is about to have another process than a record may tell of, with another address. */
  forgetProcess(uid: string, containerId: string): void {
    this.#outdated.add(uid, containerId);
  }

  /** Waits until the record of a worker is on disk, or cannot be written. */
  async saved(uid: string): Promise<void> {
    await this.#writing.get(uid);
  }

  /** Waits until everything is on disk, or cannot be written. */
  async flush(): Promise<void> {
    await Promise.all(this.#writing.values());
  }

  #want(uid: string, wanted: Wanted): void {
    this.#retries.get(uid)?.cancel();
    this.#retries.delete(uid);
    this.#wanted.set(uid, wanted);
    if (!this.#writing.has(uid)) {
      this.#writing.set(uid, this.#write(uid));
    }
  }

  /** Never rejects. */
  async #write(uid: string): Promise<void> {
    // One turn later, so that several changes of one step become one file.
    await Promise.resolve();
    for (let wanted = this.#wanted.get(uid); wanted !== undefined; wanted = this.#wanted.get(uid)) {
      this.#wanted.delete(uid);
      const durable = this.#owed.delete(uid);
      try {
        await this.#put(uid, wanted.record, durable);
        if (wanted.outdated !== undefined) {
          this.#outdated.remove(uid, wanted.outdated);
        }
        this.#fault = undefined;
      } catch (error) {
        if (durable) {
          this.#owed.add(uid);
        }
        this.#fault = storageError(this.#folder, error);
        this.#logger.error({ uid, err: error }, 'cannot write the record of a worker');
        if (!this.#wanted.has(uid)) {
          this.#retry(uid, wanted);
          break;
        }
      }
    }
    this.#writing.delete(uid);
  }

  #retry(uid: string, wanted: Wanted): void {
    this.#retries.set(
      uid,
      this.#clock.setTimer(() => this.#want(uid, wanted), retryMs),
    );
  }

  async #put(uid: string, record: WorkerRecord | undefined, durable: boolean): Promise<void> {
    const path = join(this.#folder, `${uid}${RECORD_SUFFIX}`);
    if (record === undefined) {
      await rm(path, { force: true });
    } else {
      await writeFileAtomically(path, JSON.stringify(record), { durable: false });
      if (durable) {
        await this.#names.sync();
      }
    }
  }

  #withoutOutdated({ served, ...record }: WorkerRecord): WorkerRecord {
    const outdated = this.#outdated.containers.get(record.desired.identity.uid) ?? [];
    // A file that was being written when an agent ended names no container.
    const isOutdated = outdated.some(({ containerId }) => containerId === record.container.id || containerId === '');
    return served === undefined || isOutdated ? record : { ...record, served };
  }

  async #read(name: string): Promise<WorkerRecord | undefined> {
    const path = join(this.#folder, name);
    try {
      const record = JSON.parse(await readFile(path, 'utf8')) as Partial<WorkerRecord>;
      if (record.version === RECORD_VERSION && `${record.desired?.identity.uid}${RECORD_SUFFIX}` === name) {
        return this.#withoutOutdated(record as WorkerRecord);
      }
      throw new EsbError(`it has version ${record.version}, this agent knows ${RECORD_VERSION}`, {
        code: 'RecordUnreadable',
      });
    } catch (error) {
      this.#logger.error({ path, err: error }, 'set aside a record that cannot be read');
      await rename(path, `${path}${SET_ASIDE_SUFFIX}`);
      return undefined;
    }
  }
}

function storageError(folder: string, error: unknown): EsbError {
  const full = error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
  return new EsbError(full ? `no space left for ${folder}` : `cannot write to ${folder}: ${messageOf(error)}`, {
    code: full ? 'DiskFull' : 'StateUnwritable',
    retryable: true,
    cause: error,
  });
}
