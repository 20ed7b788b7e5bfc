import type { LogFileState, LogFiles } from '../../src/runtime/logs/log-folder.ts';

/** The death of the process at some step. */
export class Crash extends Error {}

export class DiskFull extends Error {
  readonly code = 'ENOSPC';
}

/** The files of logs in memory. Steps that change something can be made the last ones of a process. */
export class MemoryLogFiles implements LogFiles {
  readonly files = new Map<string, Buffer>();
  /** Offset before which each file takes no space. */
  readonly freed = new Map<string, number>();
  /** Changes until the process dies; undefined for never. Whether the last one still happens is `dyingEffect`. */
  changesLeft: number | undefined;
  dyingEffect: 'none' | 'half' | 'whole' = 'none';
  isFull = false;
  /** Awaited in every call, so that others get their turn. */
  yield: () => Promise<void> = () => Promise.resolve();

  /** Writes as the shim does. */
  write(name: string, text: string): void {
    this.files.set(name, Buffer.concat([this.files.get(name) ?? Buffer.alloc(0), Buffer.from(text)]));
  }

  async list(): Promise<readonly string[]> {
    await this.yield();
    return [...this.files.keys()];
  }

  async state(name: string): Promise<LogFileState | undefined> {
    await this.yield();
    const file = this.files.get(name);
    return file === undefined
      ? undefined
      : { size: file.length, allocated: file.length - (this.freed.get(name) ?? 0), mtimeMs: 0, id: name };
  }

  async read(name: string, offset: number, length: number): Promise<Buffer | undefined> {
    await this.yield();
    const file = this.files.get(name);
    await this.yield();
    // A file that is open is read also when its name is gone; what is in it is read as it is now.
    return Buffer.from((this.files.get(name) ?? file)?.subarray(offset, offset + length) ?? []);
  }

  async copy(name: string, from: number, to: number, target: string): Promise<void> {
    const bytes = Buffer.from(this.#file(name).subarray(from, to));
    await this.#change((share) => {
      if (this.isFull) {
        this.files.set(target, Buffer.alloc(0));
        throw new DiskFull('no space left on device');
      }
      this.files.set(target, bytes.subarray(0, Math.floor(bytes.length * share)));
    });
  }

  async append(name: string, text: string): Promise<void> {
    await this.#change((share) => this.write(name, text.slice(0, Math.floor(text.length * share))));
  }

  async rename(name: string, target: string): Promise<void> {
    await this.#change(() => {
      this.files.set(target, this.#file(name));
      this.files.delete(name);
    });
  }

  async remove(name: string): Promise<void> {
    await this.#change(() => this.files.delete(name));
  }

  async free(name: string, offset: number): Promise<void> {
    await this.#change((share) => {
      const end = Math.floor(offset * share);
      this.files.set(name, Buffer.from(this.#file(name)).fill(0, 0, end));
      this.freed.set(name, end);
    });
  }

  async extend(name: string, size: number): Promise<void> {
    await this.#change(() => {
      const file = this.#file(name);
      this.files.set(name, Buffer.concat([file, Buffer.alloc(Math.max(0, size - file.length))]));
    });
  }

  #file(name: string): Buffer {
    const file = this.files.get(name);
    if (file === undefined) {
      throw new Error(`no file ${name}`);
    }
    return file;
  }

  /** Makes a change, of which a share from 0 to 1 comes about. */
  async #change(effect: (share: number) => void): Promise<void> {
    await this.yield();
    if (this.changesLeft !== undefined) {
      this.changesLeft -= 1;
      if (this.changesLeft < 0) {
        throw new Crash('dead already');
      }
      if (this.changesLeft === 0) {
        if (this.dyingEffect !== 'none') {
          effect(this.dyingEffect === 'half' ? 0.5 : 1);
        }
        throw new Crash('dies here');
      }
    }
    effect(1);
    await this.yield();
  }
}
