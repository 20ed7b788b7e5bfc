import { chmod, mkdir, open, readdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { BoundedMap } from '../../common/bounds/bounded-map.ts';
import { abortable } from '../../common/deadline.ts';
import { EsbError, undefinedIfNoFile } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import type { Mount } from '../../containerd/snapshot-service.ts';
import { roomOf } from '../images/node-images.ts';
import { makeTemplate, runTool, type Template, writeTemplate } from './tmp-template.ts';

/** Room for the files of `/tmp`, in the sizes that workers ask for. */
export interface TmpRoom {
  readonly capacityMiB: number;
  readonly allocatedMiB: number;
}

export interface TmpFilesOptions {
  /** Measures the disk. */
  readonly roomOf?: typeof roomOf;
}

export interface TmpFile {
  /** Its mount, wherever that is to be. */
  readonly mount: Mount;
  /** Folder with nothing but an empty `tmp`, to lie on the layers of an image that has none. */
  readonly skeleton: string;
}

const MEBIBYTE = 2 ** 20;
/** The inodes, and what ext4 keeps back for itself: workers may write what they asked for. */
const OVERHEAD = 1.06;
const LEAST_OVERHEAD_BYTES = MEBIBYTE;
/** The part of the disk that stays free. Images are collected from 80 % on, and the kubelet evicts Pods at 90 %. */
const FREE_SHARE = 0.2;
/** Sizes whose empty file system is kept at hand: some KiB each. */
const MAX_TEMPLATES = 64;
/** Types of tmpfs and ramfs in `statfs(2)`. */
const IN_MEMORY: ReadonlySet<number> = new Set([0x01021994, 0x858458f6]);
/** Name of a folder that no container has. */
const SKELETON = '.skeleton';
const TEMPLATE = '.template';
/**
 * As a tmpfs has them. Nothing of the file system outlives its worker: barriers would make a worker's `fsync` one of the
 * node's disk, and the inodes are zeros already.
 */
const MOUNT_OPTIONS = ['loop', 'nosuid', 'nodev', 'noatime', 'nobarrier', 'noinit_itable'];

/**
 * The file of each worker that holds its `/tmp`: a whole ext4 of a fixed size, which the shim mounts through a loop device.
 * The kernel gives the device back with the last mount. All blocks belong to the file from the beginning, so that a full
 * disk never fails a write in a worker.
 */
export class TmpFiles {
  /** On the disk that counts. */
  readonly folder: string;
  readonly #runner: CommandRunner;
  readonly #roomOf: typeof roomOf;
  /** The one that was used last is the last. */
  readonly #templates = new BoundedMap<number, Promise<Template>>(MAX_TEMPLATES);
  #folderMade: Promise<unknown> | undefined;
  /** Bytes of all files that were begun, and of those whose making is over. */
  #begunBytes = 0;
  #endedBytes = 0;

  constructor(folder: string, runner: CommandRunner, options: TmpFilesOptions = {}) {
    this.folder = folder;
    this.#runner = runner;
    this.#roomOf = options.roomOf ?? roomOf;
  }

  /**
   * Makes the file of a container. Nothing of an earlier file of that name stays.
   *
   * @throws {EsbError} `NodeFull` where the disk would have too little room left, `ProgramMissing`, `CommandFailed`
   */
  async make(containerId: string, sizeMiB: number, signal?: AbortSignal): Promise<TmpFile> {
    const path = this.#path(containerId);
    await this.#prepare();
    await rm(path, { force: true });
    await this.#makeEmpty(path, sizeMiB, signal);
    return { mount: { type: 'ext4', source: path, options: MOUNT_OPTIONS }, skeleton: join(this.folder, SKELETON) };
  }

  /** Removes the file of a container. Missing is success. The blocks are free once the mount is gone too. */
  async remove(containerId: string): Promise<void> {
    await rm(this.#path(containerId), { force: true });
  }

  /** Containers that have a file. */
  async list(): Promise<readonly string[]> {
    const names = (await undefinedIfNoFile(readdir(this.folder))) ?? [];
    return names.filter((name) => !name.startsWith('.'));
  }

  /** Whether the folder is no disk: files there would be memory that is counted nowhere. */
  async isInMemory(): Promise<boolean> {
    await this.#prepare();
    return IN_MEMORY.has((await statfs(this.folder)).type);
  }

  /** Room that files have and may have, beside the part of the disk that stays free. */
  async room(): Promise<TmpRoom> {
    await this.#prepare();
    const [{ freeBytes, totalBytes }, names] = await Promise.all([this.#roomOf(this.folder), this.list()]);
    const files = await Promise.all(names.map((name) => undefinedIfNoFile(stat(join(this.folder, name)))));
    const ownBytes = files.reduce((sum, file) => sum + (file?.size ?? 0), 0);
    const usableBytes = Math.max(0, freeBytes - totalBytes * FREE_SHARE);
    const mebibytes = (bytes: number): number => Math.floor(bytes / OVERHEAD / MEBIBYTE);
    return { capacityMiB: mebibytes(usableBytes + ownBytes), allocatedMiB: mebibytes(ownBytes) };
  }

  async #makeEmpty(path: string, sizeMiB: number, signal?: AbortSignal): Promise<void> {
    const bytes = fileBytes(sizeMiB);
    // Before the file: a disk that is full takes none.
    await this.#takeRoom(sizeMiB, bytes);
    try {
      await using file = await open(path, 'wx', 0o600);
      const template = await this.#template(sizeMiB, signal);
      await runTool(this.#runner, { program: 'fallocate', args: ['--length', String(bytes), path], signal });
      await writeTemplate(file, template);
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    } finally {
      this.#endedBytes += bytes;
    }
  }

  /** Takes room for a file, which is the caller's until the caller adds it to {@link TmpFiles.#endedBytes}. */
  async #takeRoom(sizeMiB: number, bytes: number): Promise<void> {
    const endedBytes = this.#endedBytes;
    const { freeBytes, totalBytes } = await this.#roomOf(this.folder);
    // Of all files that were not made when the disk was looked at, as if none of them had its blocks by then.
    const leftBytes = freeBytes - (this.#begunBytes - endedBytes);
    if (leftBytes - bytes < totalBytes * FREE_SHARE) {
      const leftMiB = Math.max(0, Math.floor(leftBytes / MEBIBYTE));
      const message =
        `no room for ${sizeMiB} MiB of /tmp: ${this.folder} has ${leftMiB} MiB left, ` +
        `and ${FREE_SHARE * 100} % of its file system are to stay free`;
      throw new EsbError(message, { code: 'NodeFull', retryable: true });
    }
    this.#begunBytes += bytes;
  }

  async #template(sizeMiB: number, signal?: AbortSignal): Promise<Template> {
    // A template that somebody else waits for is not cut off by the signal of the first.
    const template = this.#templates.get(sizeMiB) ?? this.#newTemplate(sizeMiB);
    this.#templates.set(sizeMiB, template);
    return await abortable<Template>(`making an empty file system of ${sizeMiB} MiB`, signal, (resolve, reject) => {
      template.then(resolve, reject);
      return undefined;
    });
  }

  #newTemplate(sizeMiB: number): Promise<Template> {
    const template = makeTemplate(this.#runner, join(this.folder, `${TEMPLATE}-${sizeMiB}`), fileBytes(sizeMiB));
    template.catch(() => {
      if (this.#templates.get(sizeMiB) === template) {
        this.#templates.delete(sizeMiB);
      }
    });
    return template;
  }

  async #prepare(): Promise<void> {
    this.#folderMade ??= this.#makeFolders();
    try {
      await this.#folderMade;
    } catch (error) {
      this.#folderMade = undefined;
      throw error;
    }
  }

  async #makeFolders(): Promise<void> {
    const skeleton = join(this.folder, SKELETON);
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    await mkdir(join(skeleton, 'tmp'), { recursive: true });
    // A layer is seen by the users of workers, under any mask of the agent.
    await chmod(skeleton, 0o755);
    await chmod(join(skeleton, 'tmp'), 0o1777);
  }

  #path(containerId: string): string {
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(containerId)) {
      throw new EsbError(`${containerId} is no id of a container`, { code: 'InvalidArgument' });
    }
    return join(this.folder, containerId);
  }
}

/** Bytes of the file in which a worker can write so many MiB. */
export function fileBytes(sizeMiB: number): number {
  return Math.ceil((sizeMiB * OVERHEAD * MEBIBYTE + LEAST_OVERHEAD_BYTES) / MEBIBYTE) * MEBIBYTE;
}
