import { mkdirSync } from 'node:fs';
import type { FoundMark } from '../model/marked-call.ts';
import { InFlightMarker, type Mark, readMarks, removeMark } from './in-flight-marker.ts';

/** Keeps the marks of a node's workers over the life of an agent. */
export interface MarkStore {
  /** Marks that an earlier run of the agent has left. */
  read(): readonly FoundMark[];
  /**
   * @param stamp the last one that an earlier run of the agent has issued for the worker
   * @param onError told when a mark cannot be taken back
   */
  open(uid: string, stamp: string | undefined, onError: (error: unknown) => void): Mark;
  /** Removes the mark of a worker that is no more; missing is success. */
  remove(uid: string): void;
}

/** Marks as files in a folder of a tmpfs. */
export function fileMarks(folder: string): MarkStore {
  return {
    read: () => {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      return readMarks(folder);
    },
    open: (uid, stamp, onError) => new InFlightMarker(folder, uid, stamp, onError),
    remove: (uid) => removeMark(folder, uid),
  };
}
