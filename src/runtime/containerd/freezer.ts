import { closeSync, existsSync, openSync, readSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Clock, systemClock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import type { KernelState } from '../contract/runtime.ts';
import { isCgroupGone } from './cgroup-parent.ts';

/** Folders of the freezer of a container's own cgroup, by version. */
export interface FreezerFolders {
  readonly v1: string;
  readonly v2: string;
}

export interface FreezerOptions {
  readonly folders: (containerId: string) => FreezerFolders;
  readonly clock?: Clock | undefined;
}

/** State by the kernel. `Frozen` as well while freezing, and when a cgroup above is frozen. */
export type FreezerState = 'Frozen' | 'Thawed' | 'Missing';

export type ThawOutcome =
  | 'Thawed'
  | 'NotFrozen'
  | 'Missing'
  /** The write did not help: a cgroup above is frozen, or the file refuses the write. */
  | 'StillFrozen';

const FREEZE_DEADLINE_MS = 3000;
const FREEZE_EVERY_MS = 1;
/** The files have one word, or two short lines. */
const BUFFER_BYTES = 256;

/** The files of one version. Each access takes the kernel a few microseconds, without any disk. */
interface Files {
  read(folder: string): FreezerState;
  /** Whether the freeze is complete. */
  isStill(folder: string): boolean;
  /** Whether a process is left; a process that waits to be reaped does not count. */
  isPopulated(folder: string): boolean;
  write(folder: string, frozen: boolean): void;
}

/**
 * The kernel's freezer of a worker's own cgroup: the files that runc writes. All methods but {@link Freezer.freeze} are
 * synchronous: a call waits for a thaw, and a trip to the thread pool takes longer than the three system calls of a
 * write (`docs/adr/0008-thaw-below-containerd.md`).
 */
export class Freezer {
  readonly #folders: FreezerOptions['folders'];
  readonly #clock: Clock;

  constructor(options: FreezerOptions) {
    this.#folders = options.folders;
    this.#clock = options.clock ?? systemClock;
  }

  state(containerId: string): FreezerState {
    return this.#find(containerId)?.state ?? 'Missing';
  }

  kernelState(containerId: string): KernelState {
    const folders = this.#folders(containerId);
    try {
      const found = this.#find(containerId);
      if (found === undefined) {
        // Without the parent cgroup a missing cgroup means nothing.
        const isVisible = [folders.v1, folders.v2].some((folder) => existsSync(dirname(folder)));
        return isVisible ? 'Gone' : 'Untold';
      }
      if (!found.files.isPopulated(found.folder)) {
        return 'Gone';
      }
      return found.state === 'Frozen' ? 'Paused' : 'Running';
    } catch (error) {
      return isCgroupGone(error) ? 'Gone' : 'Untold';
    }
  }

  /** Thaws, and reads the result. */
  thaw(containerId: string): ThawOutcome {
    const found = this.#find(containerId);
    if (found === undefined) {
      return 'Missing';
    }
    if (found.state !== 'Frozen') {
      return 'NotFrozen';
    }
    const { files, folder } = found;
    try {
      files.write(folder, false);
      return files.read(folder) === 'Frozen' ? 'StillFrozen' : 'Thawed';
    } catch (error) {
      // A file may be read-only: its owner has to thaw.
      return isCgroupGone(error) ? 'Missing' : 'StillFrozen';
    }
  }

  /**
   * Asks the kernel to freeze, in one synchronous step; the freeze completes a moment later.
   *
   * @throws {EsbError} `NotFound` without a cgroup
   */
  request(containerId: string): void {
    const { files, folder } = this.#require(containerId);
    files.write(folder, true);
  }

  /**
   * Freezes and waits until no process runs. A freeze that fails is taken back.
   *
   * @throws {EsbError} `NotFound` without a cgroup, `TaskStuck` when it does not freeze
   */
  async freeze(containerId: string): Promise<void> {
    this.request(containerId);
    const end = this.#clock.monotonic() + FREEZE_DEADLINE_MS;
    for (;;) {
      const { files, folder } = this.#require(containerId);
      if (files.isStill(folder)) {
        return;
      }
      if (this.#clock.monotonic() > end) {
        this.thaw(containerId);
        throw new EsbError(`${containerId} does not freeze`, { code: 'TaskStuck' });
      }
      await sleep(this.#clock, FREEZE_EVERY_MS);
      // A process made meanwhile may have escaped (runc repeats the request as well).
      files.write(folder, true);
    }
  }

  #require(containerId: string): Found {
    const found = this.#find(containerId);
    if (found === undefined) {
      throw new EsbError(`${containerId} has no cgroup with a freezer`, { code: 'NotFound' });
    }
    return found;
  }

  /** Finds the freezer; where both versions are mounted, runc uses the first. */
  #find(containerId: string): Found | undefined {
    const folders = this.#folders(containerId);
    return tryRead(version1, folders.v1) ?? tryRead(version2, folders.v2);
  }
}

interface Found {
  readonly files: Files;
  readonly folder: string;
  readonly state: FreezerState;
}

const version1: Files = {
  read: (folder) => (readText(`${folder}/freezer.state`).startsWith('THAWED') ? 'Thawed' : 'Frozen'),
  isStill: (folder) => readText(`${folder}/freezer.state`).startsWith('FROZEN'),
  isPopulated: (folder) => readText(`${folder}/cgroup.procs`) !== '',
  write: (folder, frozen) => writeText(`${folder}/freezer.state`, frozen ? 'FROZEN' : 'THAWED'),
};

const version2: Files = {
  read(folder) {
    // A pending request counts: it outlives the process that made it (runc issue 5325).
    const asked = readText(`${folder}/cgroup.freeze`).startsWith('1');
    return asked || isFrozenByEvents(folder) ? 'Frozen' : 'Thawed';
  },
  isStill: isFrozenByEvents,
  isPopulated: (folder) => readText(`${folder}/cgroup.events`).includes('populated 1'),
  write: (folder, frozen) => writeText(`${folder}/cgroup.freeze`, frozen ? '1' : '0'),
};

function isFrozenByEvents(folder: string): boolean {
  return readText(`${folder}/cgroup.events`).includes('frozen 1');
}

function tryRead(files: Files, folder: string): Found | undefined {
  try {
    return { files, folder, state: files.read(folder) };
  } catch (error) {
    if (isCgroupGone(error)) {
      return undefined;
    }
    throw error;
  }
}

const buffer = Buffer.alloc(BUFFER_BYTES);

function readText(path: string): string {
  const descriptor = openSync(path, 'r');
  try {
    return buffer.toString('latin1', 0, readSync(descriptor, buffer, 0, BUFFER_BYTES, 0));
  } finally {
    closeSync(descriptor);
  }
}

function writeText(path: string, text: string): void {
  const descriptor = openSync(path, 'r+');
  try {
    writeSync(descriptor, text);
  } finally {
    closeSync(descriptor);
  }
}
