import type { WorkerLogReader } from '../../src/runtime/contract/logs.ts';

/** Output of a container. */
export interface MemoryWorkerLog {
  id?: string;
  /** Offset of the first byte of `text`. */
  first?: number;
  text: string;
  begins?: readonly number[];
  uid?: string;
  /** An earlier container of the worker, and a later one. */
  before?: string;
  after?: string;
  /** Milliseconds since the epoch and offsets. */
  points?: readonly (readonly [time: number, offset: number])[];
}

/** Logs in memory. A read gives at most `pieceBytes`, so that readers have to put things together. */
export function memoryWorkerLogs(
  logs: ReadonlyMap<string, MemoryWorkerLog>,
  pieceBytes = Number.MAX_SAFE_INTEGER,
): WorkerLogReader {
  return {
    extent(containerId) {
      const log = logs.get(containerId);
      const first = log?.first ?? 0;
      return Promise.resolve(
        log === undefined ? undefined : { id: log.id ?? '1', first, end: first + log.text.length },
      );
    },
    readFrom(containerId, offset, maxBytes) {
      const log = logs.get(containerId);
      const from = Math.max(offset, log?.first ?? 0);
      const begin = from - (log?.first ?? 0);
      const data = Buffer.from(log?.text ?? '', 'latin1');
      return Promise.resolve({
        offset: from,
        data: data.subarray(begin, begin + Math.min(maxBytes, pieceBytes)),
      });
    },
    offsetAt: (containerId, time) =>
      Promise.resolve(logs.get(containerId)?.points?.findLast(([at]) => at <= time)?.[1] ?? 0),
    begins: (containerId) => Promise.resolve(logs.get(containerId)?.begins ?? [0]),
    before: (containerId) => Promise.resolve(logs.get(containerId)?.before),
    after: (containerId) => Promise.resolve(logs.get(containerId)?.after),
    newest: (uid) => Promise.resolve([...logs].findLast(([, log]) => log.uid === uid)?.[0]),
  };
}
