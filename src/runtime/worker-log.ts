import { mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { errnoOf } from '../common/errors.ts';

/** The files that shims write the output of workers to. The shim opens one once and appends. */
export class WorkerLogs {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async prepare(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
  }

  /** For containerd. */
  uri(containerId: string): string {
    return pathToFileURL(this.path(containerId)).href;
  }

  path(containerId: string): string {
    return join(this.#folder, `${containerId}.log`);
  }

  /** Bytes; 0 when there is no log. */
  async size(containerId: string): Promise<number> {
    try {
      return (await stat(this.path(containerId))).size;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') {
        return 0;
      }
      throw error;
    }
  }

  /** What was written after `offset`, at most the last `maxBytes` of it. */
  async read(containerId: string, offset: number, maxBytes: number): Promise<Buffer> {
    const size = await this.size(containerId);
    const from = Math.max(0, offset, size - maxBytes);
    if (from >= size) {
      return Buffer.alloc(0);
    }
    const file = await open(this.path(containerId), 'r');
    try {
      const buffer = Buffer.alloc(size - from);
      const { bytesRead } = await file.read(buffer, 0, buffer.length, from);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  }

  /**
   * Removes the logs of containers that are not among `containerIds` and did not write since `before` (milliseconds
   * since the epoch): those of failed starts are kept for a while, and nobody may come back for them.
   */
  async prune(containerIds: ReadonlySet<string>, before: number): Promise<void> {
    for (const file of await readdir(this.#folder)) {
      const containerId = /^(.+)\.log$/.exec(file)?.[1];
      if (containerId === undefined || containerIds.has(containerId)) {
        continue;
      }
      const found = await stat(this.path(containerId)).catch(() => undefined);
      if (found !== undefined && found.mtimeMs < before) {
        await this.remove(containerId);
      }
    }
  }

  async remove(containerId: string): Promise<void> {
    await rm(this.path(containerId), { force: true });
  }
}
