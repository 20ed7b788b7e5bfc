import { watch } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { type Clock, systemClock } from '../../common/clock.ts';
import { type CommandRunner, systemCommandRunner } from '../../common/exec/command-runner.ts';
import { type Logger, silentLogger } from '../../common/logger.ts';
import type { WorkerLogReader } from '../contract/logs.ts';
import { LogFolder } from './log-folder.ts';
import { LogGrowth } from './log-growth.ts';
import { defaultLogLimits, formatLogFileName, type LogLimits } from './log-layout.ts';
import { LogReader } from './log-reader.ts';
import { formatLogPoint, joinedPoints, keptPoints, type LogPoint, LogTimes, thinned, writerOf } from './log-times.ts';
import { type FoundLog, findLogs, RotatingLog } from './rotating-log.ts';

export interface WorkerLogsOptions {
  readonly limits?: LogLimits | undefined;
  /** Bytes of the logs of removed containers that are kept, all together. Default 256 MiB. */
  readonly maxKeptBytes?: number | undefined;
  /** Default: programs are children of this process. */
  readonly runner?: CommandRunner | undefined;
  readonly clock?: Clock | undefined;
  readonly logger?: Logger | undefined;
}

/** Lines of a file of points between two times that it is thinned. */
const THIN_EVERY = 512;
const DEFAULT_MAX_KEPT_BYTES = 256 * 2 ** 20;

interface WorkerLog {
  readonly rotating: RotatingLog;
  readonly times: LogTimes;
  /** Lines appended to the file of points since it was thinned. */
  appended: number;
  end: number;
  /** Time of the last container that writes to the log, in milliseconds since the epoch; 0 for before this process. */
  begunAt: number;
  /** Containers of this process that write or wrote to the log. */
  begins: number;
  /** Worker of the last container; empty where unknown. */
  uid: string;
}

/**
 * The files that shims write the output of workers to, kept within limits. A shim opens its file once and appends, so
 * that neither a crash of the agent nor a chatty worker blocks a worker. {@link RotatingLog} rotates such a file,
 * {@link LogGrowth} decides when.
 */
export class WorkerLogs {
  readonly reader: WorkerLogReader;
  readonly #files: LogFolder;
  readonly #limits: LogLimits;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #growth: LogGrowth;
  readonly #logs = new Map<string, WorkerLog>();
  readonly #removals = new Map<string, Promise<void>>();
  /** Bytes of the logs of removed containers, in the order of their removal. */
  readonly #kept = new Map<string, number>();
  readonly #maxKeptBytes: number;
  #found: Promise<void> | undefined;

  constructor(folder: string, options: WorkerLogsOptions = {}) {
    this.#files = new LogFolder(folder, options.runner ?? systemCommandRunner);
    this.#limits = options.limits ?? defaultLogLimits;
    this.#maxKeptBytes = options.maxKeptBytes ?? DEFAULT_MAX_KEPT_BYTES;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger();
    this.reader = new LogReader({
      files: this.#files,
      containerIds: async () => {
        await this.#find();
        return this.#logs.keys();
      },
      layoutOf: async (containerId) => {
        const { rotating } = await this.#log(containerId);
        return () => rotating.layout;
      },
      pointsOf: async (containerId) => {
        const { times } = await this.#log(containerId);
        return joinedPoints(await keptPoints(this.#files, containerId), times.points);
      },
    });
    this.#growth = new LogGrowth({
      look: (containerId) => this.#look(containerId),
      onWrite: (containerId) => this.#onWrite(containerId),
      watch: (containerId, onWrite) => {
        const watcher = watch(this.path(containerId), { persistent: false }, onWrite);
        watcher.on('error', onWrite);
        return watcher;
      },
      budget: this.#limits.maxBytes / 4,
      clock: this.#clock,
      logger: this.#logger,
    });
  }

  /** Makes the folder, tries how files are rotated there, and reads the files of earlier runs. */
  async prepare(): Promise<void> {
    await this.#files.prepare();
    const { mode, why } = await this.#files.probe();
    if (mode === 'Truncate') {
      this.#logger.warn(
        { why },
        'holes cannot be punched in the folder of the logs: a line that is written in the moment of a rotation is lost',
      );
    }
    await this.#find();
  }

  /** Looks after all logs until {@link WorkerLogs.stop}. */
  watch(): void {
    for (const containerId of this.#logs.keys()) {
      this.#growth.add(containerId);
    }
  }

  async stop(): Promise<void> {
    await this.#growth.stop();
  }

  /** The log's file as containerd takes it. */
  uri(containerId: string): string {
    return pathToFileURL(this.path(containerId)).href;
  }

  path(containerId: string): string {
    return this.#files.path(formatLogFileName({ kind: 'Live', containerId }));
  }

  /** Notes that a container of a worker is about to write. */
  async begin(containerId: string, uid: string): Promise<void> {
    await this.#find();
    await this.#removals.get(containerId);
    const log = this.#logs.get(containerId) ?? this.#newLog(containerId);
    this.#logs.set(containerId, log);
    log.begunAt = this.#clock.now();
    log.begins += 1;
    log.uid = uid;
    this.#kept.delete(containerId);
    await this.#files.append(formatLogFileName({ kind: 'Live', containerId }), '');
    log.end = await this.size(containerId);
    await this.#note(containerId, log, { kind: 'Began', uid });
    this.#growth.add(containerId, log.end === 0);
  }

  /** Keeps the output of a removed container for a while: the last lines may tell why the container was removed. */
  async keep(containerId: string): Promise<void> {
    const { rotating } = await this.#log(containerId);
    this.#growth.delete(containerId);
    const live = await this.#files.state(formatLogFileName({ kind: 'Live', containerId }));
    if (live === undefined) {
      return;
    }
    const parts = rotating.layout.parts.reduce((sum, { start, end }) => sum + end - start, 0);
    this.#kept.set(containerId, live.allocated + parts);
    let total = [...this.#kept.values()].reduce((sum, bytes) => sum + bytes, 0);
    for (const [oldest, bytes] of [...this.#kept]) {
      if (total <= this.#maxKeptBytes) {
        return;
      }
      total -= bytes;
      await this.remove(oldest);
    }
  }

  /** Removes all output of a worker that is gone for good, with its containers. */
  async removeOf(uid: string): Promise<void> {
    await this.#find();
    const found = [...this.#logs].filter(([, log]) => log.uid === uid);
    for (const [containerId, log, begins] of found.map(([id, each]) => [id, each, each.begins] as const)) {
      // The worker may have come back.
      if (this.#logs.get(containerId) === log && log.begins === begins) {
        await this.remove(containerId);
      }
    }
  }

  /** Uids of the workers with output here. */
  async writers(): Promise<readonly string[]> {
    await this.#find();
    return [...new Set([...this.#logs.values()].map(({ uid }) => uid))].filter((uid) => uid !== '');
  }

  /** Offset after the last byte; 0 when there is no log. */
  async size(containerId: string): Promise<number> {
    return (await this.#files.state(formatLogFileName({ kind: 'Live', containerId })))?.size ?? 0;
  }

  /**
   * Whether a container that began before `until` wrote at or after `from` (milliseconds since the epoch). A write that
   * a full disk refuses sets the file's time as well (`file_update_time` precedes the copy in the kernel).
   */
  async wroteWithin(
    containerId: string,
    { from, until }: { readonly from: number; readonly until: number },
  ): Promise<boolean> {
    const live = await this.#files.state(formatLogFileName({ kind: 'Live', containerId }));
    const begunAt = this.#logs.get(containerId)?.begunAt ?? 0;
    return live !== undefined && live.mtimeMs >= from && begunAt < until;
  }

  /** Output after `offset`, at most the last `maxBytes`. */
  async read(containerId: string, offset: number, maxBytes: number): Promise<Buffer> {
    const end = await this.size(containerId);
    const pieces: Buffer[] = [];
    for (let at = Math.max(0, offset, end - maxBytes); at < end; ) {
      const piece = await this.reader.readFrom(containerId, at, end - at);
      if (piece.data.length === 0) {
        break;
      }
      pieces.push(piece.data);
      at = piece.offset + piece.data.length;
    }
    return pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces);
  }

  /**
   * Removes the logs of containers that are not among `containerIds` and did not write since `before` (milliseconds
   * since the epoch). Logs of failed starts are kept for that time.
   */
  async prune(containerIds: ReadonlySet<string>, before: number): Promise<void> {
    const { logs } = await findLogs(this.#files);
    for (const [containerId, found] of logs) {
      if (containerIds.has(containerId) || (this.#logs.get(containerId)?.begunAt ?? 0) >= before) {
        continue;
      }
      const live = await this.#files.state(formatLogFileName({ kind: 'Live', containerId }));
      if (live === undefined || live.mtimeMs < before) {
        await this.#remove(containerId, found);
      }
    }
  }

  async remove(containerId: string): Promise<void> {
    await this.#remove(containerId, { parts: [] });
  }

  async #remove(containerId: string, found: FoundLog): Promise<void> {
    await this.#find();
    this.#growth.delete(containerId);
    this.#kept.delete(containerId);
    const log = this.#logs.get(containerId) ?? this.#newLog(containerId, found);
    this.#logs.delete(containerId);
    const removal = log.rotating.remove().finally(() => {
      if (this.#removals.get(containerId) === removal) {
        this.#removals.delete(containerId);
      }
    });
    this.#removals.set(containerId, removal);
    await removal;
  }

  async #look(containerId: string): Promise<number | undefined> {
    const log = this.#logs.get(containerId);
    const end = await log?.rotating.look();
    if (log !== undefined && end !== undefined) {
      log.end = end;
      await this.#note(containerId, log, { kind: 'Looked' });
    }
    return end;
  }

  /** Notes that until now the log was as long as at the last look. */
  async #onWrite(containerId: string): Promise<void> {
    const log = this.#logs.get(containerId);
    if (log !== undefined) {
      await this.#note(containerId, log, { kind: 'Looked' });
    }
  }

  async #note(
    containerId: string,
    log: WorkerLog,
    what: { readonly kind: 'Looked' } | { readonly kind: 'Began'; readonly uid: string },
  ): Promise<void> {
    const point: LogPoint = { ...what, time: this.#clock.now(), offset: log.end };
    if (!log.times.add(point)) {
      return;
    }
    const name = formatLogFileName({ kind: 'Times', containerId });
    await log.rotating.whileThere(async () => {
      await this.#files.append(name, formatLogPoint(point));
      log.appended += 1;
      if (log.appended >= THIN_EVERY) {
        log.appended = 0;
        const kept = thinned(await keptPoints(this.#files, containerId));
        const unfinished = formatLogFileName({ kind: 'Unfinished', containerId });
        await this.#files.remove(unfinished);
        await this.#files.append(unfinished, kept.map(formatLogPoint).join(''));
        await this.#files.rename(unfinished, name);
      }
    });
  }

  /** The state of a log; the state of a log that has not begun is not kept. */
  async #log(containerId: string): Promise<WorkerLog> {
    await this.#find();
    return this.#logs.get(containerId) ?? this.#newLog(containerId);
  }

  /** Reads the files of earlier runs, once. */
  async #find(): Promise<void> {
    this.#found ??= this.#findOnce();
    try {
      await this.#found;
    } catch (error) {
      this.#found = undefined;
      throw error;
    }
  }

  async #findOnce(): Promise<void> {
    const { logs, rubbish } = await findLogs(this.#files);
    await Promise.all(
      [...logs].map(async ([containerId, found]) => {
        const log = this.#newLog(containerId, found);
        log.uid = writerOf(await keptPoints(this.#files, containerId))?.uid ?? '';
        this.#logs.set(containerId, log);
      }),
    );
    await Promise.all(rubbish.map((name) => this.#files.remove(name)));
  }

  #newLog(containerId: string, found: FoundLog = { parts: [] }): WorkerLog {
    return {
      rotating: new RotatingLog({
        files: this.#files,
        containerId,
        limits: this.#limits,
        found,
        monotonic: () => this.#clock.monotonic(),
      }),
      times: new LogTimes(),
      appended: 0,
      end: 0,
      begunAt: 0,
      begins: 0,
      uid: '',
    };
  }
}
