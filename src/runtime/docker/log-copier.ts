import { type FileHandle, mkdir, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { hasCode, messageOf, undefinedIfNoFile } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerService } from '../../docker/container-service.ts';
import type { WorkerLogs } from '../logs/worker-logs.ts';

export interface LogCopierOptions {
  readonly containers: Pick<ContainerService, 'logs' | 'inspect'>;
  readonly logs: WorkerLogs;
  /** Folder of the copies' positions. */
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Copy {
  readonly controller: AbortController;
  readonly done: Promise<void>;
}

const RETRY_EVERY_MS = 500;
/** Wait for the last lines of a process that has ended. */
const DRAIN_MS = 3_000;

/**
 * Copies the output of workers from the engine's logs to the log files. The engine empties the workers' pipes by itself: no
 * absent agent and no full disk of ours holds a worker up, and missed output follows, as far back as the engine keeps it.
 * The position is recorded after each piece: an agent that is killed in between copies that piece twice.
 */
export class LogCopier {
  readonly #options: LogCopierOptions;
  readonly #copies = new Map<string, Copy>();

  constructor(options: LogCopierOptions) {
    this.#options = options;
  }

  async prepare(): Promise<void> {
    await mkdir(this.#options.folder, { recursive: true, mode: 0o700 });
  }

  /** Copies from the position of this container's log on, until its process has ended. */
  follow(containerId: string, engineId: string): void {
    if (this.#copies.has(containerId)) {
      return;
    }
    const controller = new AbortController();
    const done = this.#run(containerId, engineId, controller.signal).catch((error: unknown) => {
      if (!controller.signal.aborted) {
        this.#options.logger.error({ containerId, err: error }, 'the log of a worker is copied no more');
      }
    });
    this.#copies.set(containerId, { controller, done });
  }

  /** Waits until all output of an ended process is copied, a few seconds at most. */
  async drain(containerId: string): Promise<void> {
    const copy = this.#copies.get(containerId);
    if (copy !== undefined) {
      const late = new AbortController();
      await Promise.race([copy.done, sleep(this.#options.clock, DRAIN_MS, late.signal).catch(() => undefined)]);
      late.abort();
    }
  }

  /** Ends the copy of a container that is removed or replaced. */
  async end(containerId: string): Promise<void> {
    await this.#stop(containerId);
    await rm(this.#path(containerId), { force: true });
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#copies.keys()].map((containerId) => this.#stop(containerId)));
  }

  async #stop(containerId: string): Promise<void> {
    const copy = this.#copies.get(containerId);
    copy?.controller.abort();
    await copy?.done;
    this.#copies.delete(containerId);
  }

  async #run(containerId: string, engineId: string, signal: AbortSignal): Promise<void> {
    const { clock, containers, logger } = this.#options;
    let trouble = '';
    for (;;) {
      try {
        await this.#copy(containerId, engineId, signal);
        const { status } = await containers.inspect(engineId, { signal });
        if (status !== 'running' && status !== 'paused') {
          return;
        }
      } catch (error) {
        if (signal.aborted || hasCode(error, 'NotFound')) {
          return;
        }
        // Logged once for each kind: a full disk stays full for a while.
        if (trouble !== messageOf(error)) {
          trouble = messageOf(error);
          logger.warn({ containerId, err: error }, 'the log of a worker cannot be copied; trying again');
        }
      }
      await sleep(clock, RETRY_EVERY_MS, signal);
    }
  }

  async #copy(containerId: string, engineId: string, signal: AbortSignal): Promise<void> {
    const { containers, logs } = this.#options;
    let copied = await this.#copiedOf(containerId, engineId);
    await using log = await open(logs.path(containerId), 'a', 0o600);
    // The file is never truncated: a crash here would copy the log from its beginning.
    await using cursor = await open(this.#path(containerId), copied === undefined ? 'w' : 'r+', 0o600);
    await note(cursor, engineId, copied);
    for await (const frames of containers.logs(engineId, copied, signal)) {
      // The engine begins with the line at `copied`.
      const fresh = frames.filter(({ time }) => copied === undefined || time > copied);
      const last = fresh.at(-1);
      if (last !== undefined) {
        await log.appendFile(Buffer.concat(fresh.map(({ data }) => data)));
        copied = last.time;
        await note(cursor, engineId, copied);
      }
    }
  }

  /** The time of the last line that was copied of this container. */
  async #copiedOf(containerId: string, engineId: string): Promise<string | undefined> {
    const text = await undefinedIfNoFile(readFile(this.#path(containerId), 'utf8'));
    const [whose, time = ''] = text?.split(' ') ?? [];
    return whose === engineId && time !== '' ? time : undefined;
  }

  #path(containerId: string): string {
    return join(this.#options.folder, containerId);
  }
}

/** Records a position; the record never gets shorter. */
async function note(cursor: FileHandle, engineId: string, copied: string | undefined): Promise<void> {
  await cursor.write(`${engineId} ${copied ?? ''}`, 0);
}
