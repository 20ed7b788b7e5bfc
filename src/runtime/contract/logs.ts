/** What there is of a log. */
export interface LogExtent {
  /** Tells this log from an earlier one of the same worker: offsets of one mean nothing in the other. */
  readonly id: string;
  /** Offset of the oldest byte that there still is. */
  readonly first: number;
  /** Offset after the last byte. */
  readonly end: number;
}

/** Bytes of a log that follow each other. */
export interface LogReading {
  /** Offset of the first byte: more than was asked for when what lies before is there no more. */
  readonly offset: number;
  /** Empty at the end of the log. */
  readonly data: Buffer;
}

/** Reads what workers wrote. Offsets count from the first byte that was ever written and are never used twice. */
export interface WorkerLogReader {
  /** Undefined when there is no log. */
  extent(containerId: string): Promise<LogExtent | undefined>;
  /** At most `maxBytes` from `offset`, or from the first byte after it that there still is. Fewer before the end of a file. */
  readFrom(containerId: string, offset: number, maxBytes: number): Promise<LogReading>;
  /**
   * The offset before which nothing was written at or after `time` (milliseconds since the epoch). Lines have no times
   * of their own: it is exact to how often the log was looked at, and errs to the early side.
   */
  offsetAt(containerId: string, time: number): Promise<number>;
  /** Offsets at which a container began to write, oldest first. */
  begins(containerId: string): Promise<readonly number[]>;
  /** The container of a worker that began to write last, whether or not it is still there. */
  newest(uid: string): Promise<string | undefined>;
  /** What the worker of that container wrote last with another container before it; undefined for nothing. */
  before(containerId: string): Promise<EarlierLog | undefined>;
}

/** The last output of a container that is no more. */
export interface EarlierLog {
  readonly containerId: string;
  /** Offset of its first byte. */
  readonly from: number;
}
