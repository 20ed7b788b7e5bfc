import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import type { Clock, Timer } from '../../common/clock.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import type { Logger } from '../../common/logger.ts';
import { RECORD_VERSION, type WorkerRecord } from '../model/worker-record.ts';
import type { RecordChange } from '../step/effects.ts';

/** Ends the name of a record that cannot be read, and milliseconds for which it is kept. */
const SET_ASIDE_SUFFIX = '.unreadable';
const KEEP_SET_ASIDE_MS = 30 * 24 * 60 * 60_000;
/** Ends the name of each record. */
export const RECORD_SUFFIX = '.json';

/** Milliseconds between two attempts to write what could not be written. */
const retryMs = 2_000;

export interface RecordStoreOptions {
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * One file per worker, written in the background: saves while a write is under way are gathered to one more. A failed
 * write is tried again until it succeeds.
 */
export class RecordStore {
  readonly #folder: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** Content that each file should have; undefined for no file. */
  readonly #wanted = new Map<string, WorkerRecord | undefined>();
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
    this.#want(uid, record);
  }

  remove(uid: string): void {
    this.#owed.delete(uid);
    this.#want(uid, undefined);
  }

  /** Waits until the record of a worker is on disk, or cannot be written. */
  async saved(uid: string): Promise<void> {
    await this.#writing.get(uid);
  }

  /** Waits until everything is on disk, or cannot be written. */
  async flush(): Promise<void> {
    await Promise.all(this.#writing.values());
  }

  #want(uid: string, record: WorkerRecord | undefined): void {
    this.#retries.get(uid)?.cancel();
    this.#retries.delete(uid);
    this.#wanted.set(uid, record);
    if (!this.#writing.has(uid)) {
      this.#writing.set(uid, this.#write(uid));
    }
  }

  /** Never rejects. */
  async #write(uid: string): Promise<void> {
    // One turn later, so that several changes of one step become one file.
    await Promise.resolve();
    while (this.#wanted.has(uid)) {
      const record = this.#wanted.get(uid);
      this.#wanted.delete(uid);
      const durable = this.#owed.delete(uid);
      try {
        await this.#put(uid, record, durable);
        this.#fault = undefined;
      } catch (error) {
        if (durable) {
          this.#owed.add(uid);
        }
        this.#fault = storageError(this.#folder, error);
        this.#logger.error({ uid, err: error }, 'cannot write the record of a worker');
        if (!this.#wanted.has(uid)) {
          this.#retry(uid, record);
          break;
        }
      }
    }
    this.#writing.delete(uid);
  }

  #retry(uid: string, record: WorkerRecord | undefined): void {
    this.#retries.set(
      uid,
      this.#clock.setTimer(() => this.#want(uid, record), retryMs),
    );
  }

  async #put(uid: string, record: WorkerRecord | undefined, durable: boolean): Promise<void> {
    const path = join(this.#folder, `${uid}${RECORD_SUFFIX}`);
    if (record === undefined) {
      await rm(path, { force: true });
    } else {
      await writeFileAtomically(path, JSON.stringify(record), { durable });
    }
  }

  async #read(name: string): Promise<WorkerRecord | undefined> {
    const path = join(this.#folder, name);
    try {
      const record = JSON.parse(await readFile(path, 'utf8')) as Partial<WorkerRecord>;
      if (record.version === RECORD_VERSION && `${record.desired?.identity.uid}${RECORD_SUFFIX}` === name) {
        return record as WorkerRecord;
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
