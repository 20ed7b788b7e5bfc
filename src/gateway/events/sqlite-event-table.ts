import { DatabaseSync } from 'node:sqlite';
import { EsbError, messageOf } from '../../common/errors.ts';
import {
  type ClaimLimits,
  type EventLimits,
  type EventLoad,
  type EventPartition,
  type EventRow,
  fullnessFor,
  NO_LOAD,
  storeFull,
} from './event-store.ts';

/** Layout of the file, kept in its `user_version`. */
const LAYOUT = 1;
/** Bytes beyond which the write-ahead log is cut after a checkpoint. */
const LOG_LIMIT_BYTES = 64 * 1024 * 1024;
/** SQLite's result codes for a file that another connection has locked. */
const BUSY = 5;
const LOCKED = 6;
/** SQLite's result codes for a full disk: of the disk itself, and of a limit on the size of a file. */
const FULL = 13;
const IOERR_WRITE = 778;
/** SQLite's result codes for a file that is damaged, or none of its own. */
const CORRUPT = 11;
const NOT_A_DATABASE = 26;

export interface ClaimedRow extends EventRow {
  readonly claim: string;
  /** JSON of the try that was under way. */
  readonly sent?: string;
}

export interface NewRow extends EventRow {
  readonly partition: string;
}

/**
 * The events of a gateway in an SQLite file. Synchronous: the table needs a thread of its own. Each method must be
 * called within {@link SqliteEventTable.transaction}, and is durable when that has returned.
 *
 * The file has a write-ahead log and `synchronous=FULL`: a transaction is on the disk when it is over. The connection
 * locks the file for its whole life, which the kernel ends with the process.
 */
export class SqliteEventTable {
  readonly #database: DatabaseSync;
  readonly #limits: EventLimits;
  readonly #now: () => number;
  readonly #owner: string;
  readonly #statements: ReturnType<typeof prepare>;
  #load: EventLoad;
  /** Load by partition. */
  #byPartition = new Map<string, EventLoad>();
  #claims = 0;

  /**
   * Opens the file and gives back the events that an earlier process had claimed.
   *
   * @param now wall-clock milliseconds
   * @param owner name of this process. Claims of its own from before stay: their events are under way
   * @param isSuspect whether to check the whole file, because it was damaged a moment ago
   * @throws {EsbError} `EventStoreLocked` when another process has it, `EventStoreUnreadable` when it is
   *   damaged or of a newer version
   */
  constructor(file: string, limits: EventLimits, now: () => number, owner: string, isSuspect = false) {
    this.#limits = limits;
    this.#now = now;
    this.#owner = owner;
    this.#database = open(file);
    this.#load = NO_LOAD;
    try {
      if (isSuspect) {
        check(this.#database);
      }
      this.#statements = prepare(this.#database);
      this.#giveBack();
      const partitions = this.#database
        .prepare(
          'SELECT lane, count(*) AS events, coalesce(sum(length(payload)), 0) AS bytes FROM events GROUP BY lane',
        )
        .all();
      for (const { lane, events, bytes } of partitions) {
        this.#count(String(lane), Number(events), Number(bytes));
      }
    } catch (error) {
      this.#database.close();
      throw openError(file, error);
    }
  }

  /** The load of the store, including the open transaction. */
  get load(): EventLoad {
    return this.#load;
  }

  /**
   * Runs `work`, and makes all of it durable, or nothing.
   *
   * @throws {Error} those of SQLite, such as a disk that is full
   */
  transaction<T>(work: () => T): T {
    const before = this.#load;
    const partitionsBefore = new Map(this.#byPartition);
    this.#database.exec('BEGIN IMMEDIATE');
    try {
      const result = work();
      this.#database.exec('COMMIT');
      return result;
    } catch (error) {
      this.#load = before;
      this.#byPartition = partitionsBefore;
      // SQLite has ended some failed transactions by itself.
      if (this.#database.isTransaction) {
        this.#database.exec('ROLLBACK');
      }
      throw error;
    }
  }

  /** @throws {EsbError} `EventStoreFull` */
  put(row: NewRow): void {
    const ofPartition = this.#byPartition.get(row.partition) ?? NO_LOAD;
    const fullness = fullnessFor(this.#limits, this.#load, ofPartition, row.payload.length);
    if (fullness !== undefined) {
      throw storeFull(fullness, this.#limits);
    }
    this.#insert(row);
  }

  partitions(): readonly EventPartition[] {
    const now = this.#now();
    return this.#statements.partitions
      .all()
      .map((row) => ({ partition: String(row.lane), dueInMs: Number(row.due) - now }));
  }

  claim(partition: string, limits: ClaimLimits, leaseMs: number): readonly ClaimedRow[] {
    const now = this.#now();
    return this.#statements.due.all(partition, now, limits.events, limits.bytes).map((row) => {
      this.#claims += 1;
      const claim = `${this.#owner}:${this.#claims}`;
      this.#statements.claim.run(now + leaseMs, claim, row.seq ?? null);
      return {
        id: String(row.id),
        head: String(row.head),
        progress: String(row.progress),
        acceptedAt: Number(row.accepted_at),
        payload: row.payload as Uint8Array,
        claim,
        ...(row.sent === null ? {} : { sent: String(row.sent) }),
      };
    });
  }

  renew(claims: readonly { readonly id: string; readonly claim: string }[], leaseMs: number): void {
    const until = this.#now() + leaseMs;
    for (const { id, claim } of claims) {
      this.#statements.renew.run(until, id, claim);
    }
  }

  finish(id: string): void {
    const removed = this.#statements.finish.get(id);
    if (removed !== undefined) {
      this.#count(String(removed.lane), -1, -Number(removed.bytes));
    }
  }

  /** @param sent JSON of the try that is under way from now on */
  note(id: string, claim: string, sent: string): void {
    this.#statements.note.run(sent, id, claim);
  }

  postpone(id: string, claim: string, progress: string, delayMs: number): boolean {
    return this.#statements.postpone.run(this.#now() + delayMs, progress, id, claim).changes > 0;
  }

  park(id: string, claim: string, delayMs: number): void {
    this.#statements.park.run(this.#now() + delayMs, id, claim);
  }

  exchange(id: string, claim: string, successor: NewRow): boolean {
    const isOwned = this.#statements.owned.get(id, claim) !== undefined;
    if (isOwned) {
      this.#insert(successor);
      this.finish(id);
    }
    return isOwned;
  }

  close(): void {
    this.#database.close();
  }

  #insert({ id, partition, head, progress, acceptedAt, payload }: NewRow): void {
    const now = this.#now();
    if (this.#statements.insert.run(id, partition, now, acceptedAt, head, progress, payload).changes > 0) {
      this.#count(partition, 1, payload.length);
    }
  }

  #count(partition: string, events: number, bytes: number): void {
    const ofPartition = this.#byPartition.get(partition) ?? NO_LOAD;
    const left = { events: ofPartition.events + events, bytes: ofPartition.bytes + bytes };
    if (left.events > 0) {
      this.#byPartition.set(partition, left);
    } else {
      this.#byPartition.delete(partition);
    }
    this.#load = { events: this.#load.events + events, bytes: this.#load.bytes + bytes };
  }

  /** Ends the claims of an earlier process, and leaves a note of each try that was under way. On a full disk the claims stay, and lapse a lease later. */
  #giveBack(): void {
    try {
      this.#database
        .prepare('UPDATE events SET visible_at = ?, claim = NULL WHERE claim NOT LIKE ?')
        .run(this.#now(), `${this.#owner}:%`);
    } catch (error) {
      if (!isDiskFull(error)) {
        throw error;
      }
    }
  }
}

function open(file: string): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(file, { timeout: 0 });
    // Exclusive before the log is first used: then there is no shared memory beside the file, and the lock is held from
    // the first transaction until the connection ends.
    database.exec('PRAGMA locking_mode = EXCLUSIVE');
    database.exec('PRAGMA journal_mode = WAL');
    database.exec('PRAGMA synchronous = FULL');
    database.exec(`PRAGMA journal_size_limit = ${LOG_LIMIT_BYTES}`);
    database.exec('BEGIN EXCLUSIVE');
    const layout = Number(database.prepare('PRAGMA user_version').get()?.user_version);
    if (layout > LAYOUT) {
      throw new EsbError(`${file} has layout ${layout} and this program knows ${LAYOUT}: use a newer one`, {
        code: 'EventStoreUnreadable',
      });
    }
    if (layout === 0) {
      database.exec(`
        CREATE TABLE events (
          seq INTEGER PRIMARY KEY AUTOINCREMENT,
          id TEXT NOT NULL UNIQUE,
          lane TEXT NOT NULL,
          visible_at INTEGER NOT NULL,
          accepted_at INTEGER NOT NULL,
          claim TEXT,
          sent TEXT,
          head TEXT NOT NULL,
          progress TEXT NOT NULL,
          payload BLOB NOT NULL
        ) STRICT;
        CREATE INDEX events_due ON events (lane, visible_at, seq);
        PRAGMA user_version = ${LAYOUT};
      `);
    }
    database.exec('COMMIT');
    return database;
  } catch (error) {
    database?.close();
    throw error instanceof EsbError ? error : openError(file, error);
  }
}

/** Whether an error of SQLite says that the disk has no room. */
export function isDiskFull(error: unknown): boolean {
  const code = sqliteCode(error);
  return code === FULL || code === IOERR_WRITE;
}

/** Whether an error of SQLite says that the file is damaged. */
export function isDamage(error: unknown): boolean {
  const code = sqliteCode(error) & 0xff;
  return code === CORRUPT || code === NOT_A_DATABASE;
}

/** @throws {Error} with the first damage that SQLite finds in the whole file */
function check(database: DatabaseSync): void {
  const found = database.prepare('PRAGMA quick_check(1)').get()?.quick_check;
  if (found !== 'ok') {
    throw new Error(String(found));
  }
}

function sqliteCode(error: unknown): number {
  return error instanceof Error && 'errcode' in error ? Number(error.errcode) : 0;
}

function openError(file: string, error: unknown): EsbError {
  const code = sqliteCode(error);
  // The low byte is the class of an extended code.
  if ((code & 0xff) === BUSY || (code & 0xff) === LOCKED) {
    return new EsbError(
      `another process has the event store ${file}: a state folder belongs to one gateway; give each its own --state-dir, or let several share a database with --event-store=postgres`,
      { code: 'EventStoreLocked', cause: error },
    );
  }
  return new EsbError(`cannot open the event store ${file}: ${messageOf(error)}`, {
    code: 'EventStoreUnreadable',
    cause: error,
  });
}

function prepare(database: DatabaseSync) {
  return {
    insert: database.prepare(
      'INSERT INTO events (id, lane, visible_at, accepted_at, head, progress, payload) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING',
    ),
    // From partition to partition along the index, however many events each has.
    partitions: database.prepare(`
      WITH RECURSIVE known (lane) AS (
        SELECT min(lane) FROM events
        UNION ALL
        SELECT (SELECT min(lane) FROM events WHERE lane > known.lane) FROM known WHERE known.lane IS NOT NULL
      )
      SELECT lane, (SELECT min(visible_at) FROM events WHERE events.lane = known.lane) AS due
      FROM known WHERE lane IS NOT NULL
    `),
    // The length of a payload is read without the payload.
    due: database.prepare(`
      WITH due AS (
        SELECT seq, visible_at, sum(length(payload)) OVER (ORDER BY visible_at, seq) AS total
        FROM (SELECT seq, visible_at, payload FROM events WHERE lane = ? AND visible_at <= ? ORDER BY visible_at, seq LIMIT ?)
      )
      SELECT seq, id, head, progress, accepted_at, sent, payload FROM events JOIN due USING (seq)
      WHERE due.total <= ? ORDER BY due.visible_at, seq
    `),
    claim: database.prepare('UPDATE events SET visible_at = ?, claim = ? WHERE seq = ?'),
    renew: database.prepare('UPDATE events SET visible_at = ? WHERE id = ? AND claim = ?'),
    finish: database.prepare('DELETE FROM events WHERE id = ? RETURNING lane, length(payload) AS bytes'),
    postpone: database.prepare(
      'UPDATE events SET visible_at = ?, progress = ?, claim = NULL, sent = NULL WHERE id = ? AND claim = ?',
    ),
    note: database.prepare('UPDATE events SET sent = ? WHERE id = ? AND claim = ?'),
    park: database.prepare('UPDATE events SET visible_at = ?, claim = NULL WHERE id = ? AND claim = ?'),
    owned: database.prepare('SELECT 1 AS owned FROM events WHERE id = ? AND claim = ?'),
  };
}
