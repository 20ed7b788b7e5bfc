/** The kept range of a log. */
export interface LogExtent {
  /** Distinguishes this log from an earlier one of the same worker, whose offsets mean nothing here. */
  readonly id: string;
  /** Offset of the oldest kept byte. */
  readonly first: number;
  /** Offset after the last byte. */
  readonly end: number;
}

/** Consecutive bytes of a log. */
export interface LogReading {
  /** Offset of the first byte: higher than requested where earlier bytes are gone. */
  readonly offset: number;
  /** Empty at the end of the log. */
  readonly data: Buffer;
}

/** Reads the output of workers. Offsets count from the first byte that was ever written and are never used twice. */
export interface WorkerLogReader {
  /** Undefined when there is no log. */
  extent(containerId: string): Promise<LogExtent | undefined>;
  /** At most `maxBytes` from `offset`, or from the first kept byte after it. Fewer before the end of a file. */
  readFrom(containerId: string, offset: number, maxBytes: number): Promise<LogReading>;
  /**
   * The offset before which no byte was written at or after `time` (milliseconds since the epoch). Lines have no times
   * of their own: the interval between looks at the log bounds the error, to the early side.
   */
  offsetAt(containerId: string, time: number): Promise<number>;
  /** Offsets at which a container began to write, oldest first. */
  begins(containerId: string): Promise<readonly number[]>;
  /** The container of a worker that began to write last, removed or not. */
  newest(uid: string): Promise<string | undefined>;
  /** The earlier container of the same worker that began to write last; undefined for none. */
  before(containerId: string): Promise<string | undefined>;
  /** The later container of the same worker that began to write last, such as one that failed to replace this one. */
  after(containerId: string): Promise<string | undefined>;
}
