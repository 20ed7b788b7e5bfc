import { chmod, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import { EsbError, messageOf, undefinedIfNoFile } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import { TaskGroup } from '../common/task-group.ts';
import { Allowances } from './allowance.ts';
import { ContainerInit } from './container-init.ts';
import type { InitFiles, InitLink, InitNews, InitState, WorkerInits } from './contract.ts';
import { installInitProgram } from './init-program.ts';
import { takeOneConnection } from './init-socket.ts';
import { waitUntilReady } from './readiness.ts';

/** Milliseconds between the end of a connection and the next, so that a worker cannot keep the agent busy with them. */
const REST_MS = 100;
/** Milliseconds until a socket that could not be opened is tried again. */
const RETRY_MS = 1_000;

export interface WorkerInitsOptions {
  /** Folder in memory, which a restart of the node empties. */
  readonly runDir: string;
  readonly stateDir: string;
  /** The program of the init, as it came with the agent. */
  readonly program: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Entry {
  readonly container: ContainerInit;
  readonly folder: string;
  opened: Promise<void>;
  closed: boolean;
  /** The last socket, which may be under way: gives what stops listening. */
  listening: Promise<() => Promise<void>> | undefined;
}

/** Makes the inits of a node, which neither listen nor have files before their `start`. */
export function createWorkerInits(options: WorkerInitsOptions): WorkerInits {
  return new SocketInits(options);
}

class SocketInits implements WorkerInits {
  readonly #options: WorkerInitsOptions;
  readonly #folder: string;
  readonly #entries = new Map<string, Entry>();
  readonly #listeners = new Set<(news: InitNews) => void>();
  readonly #tasks: TaskGroup;
  readonly #allowances: Allowances;
  /** Path of the installed program, or why there was none at the last try; undefined before the start. */
  #program: Promise<string> | undefined;

  constructor(options: WorkerInitsOptions) {
    this.#options = options;
    this.#folder = join(options.runDir, 'inits');
    this.#allowances = new Allowances(options.clock);
    this.#tasks = new TaskGroup((task, error) => options.logger.error({ task, err: error }, 'task failed'));
  }

  get heldBytes(): number {
    return this.#allowances.bytes;
  }

  async start(): Promise<void> {
    const { program, logger } = this.#options;
    const installed = this.#install();
    this.#program = installed;
    // Workers that have their init go on without the program, and do not wait for the disk that it is on.
    this.#tasks.run('installing the init', async () => {
      await installed.catch((error: unknown) => {
        logger.error({ program, err: error }, 'the init of workers is not installed');
      });
    });
    await mkdir(this.#folder, { recursive: true });
    // No other user of the node reaches the sockets, which are open to the users of a container.
    await chmod(this.#folder, 0o700);
    await Promise.all(
      (await this.#found()).map(async ({ containerId, namespace }) => {
        try {
          await this.#open(containerId, namespace);
        } catch (error) {
          logger.error({ containerId, err: error }, 'no socket for the init of a worker');
        }
      }),
    );
  }

  async open(containerId: string, namespace = ''): Promise<InitFiles> {
    if (this.#program === undefined || this.#tasks.signal.aborted) {
      throw new EsbError('the inits of workers have not started, or have stopped', { code: 'Unavailable' });
    }
    // A disk that was full may have room again.
    this.#program = this.#program.catch(() => this.#install());
    const program = await this.#program.catch((error: unknown) => {
      throw new EsbError(`the init of workers: ${messageOf(error)}`, { code: 'ProgramMissing', cause: error });
    });
    return { program, folder: await this.#open(containerId, namespace) };
  }

  link(containerId: string): InitLink | undefined {
    return this.#entries.get(containerId)?.container;
  }

  untilReady(containerId: string, signal: AbortSignal): Promise<InitState> {
    const container = this.#entries.get(containerId)?.container;
    if (container === undefined) {
      return Promise.reject(new EsbError(`no init is known of ${containerId}`, { code: 'NotFound' }));
    }
    return waitUntilReady(
      () => container.start,
      signal,
      (look) => this.subscribe(look),
    );
  }

  async remove(containerId: string): Promise<void> {
    const entry = this.#entries.get(containerId);
    if (entry !== undefined) {
      this.#entries.delete(containerId);
      await this.#close(entry, 'the container is gone');
    }
    const folders = (await this.#found()).filter((each) => each.containerId === containerId);
    await Promise.all(folders.map(({ folder }) => rm(folder, { recursive: true, force: true, maxRetries: 3 })));
  }

  async list(): Promise<readonly string[]> {
    return (await this.#found()).map(({ containerId }) => containerId);
  }

  subscribe(listener: (news: InitNews) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async stop(): Promise<void> {
    const stopped = this.#tasks.stop();
    await Promise.all([...this.#entries.values()].map((entry) => this.#close(entry, 'the agent stops')));
    await stopped;
  }

  #install(): Promise<string> {
    const { program, stateDir } = this.#options;
    return installInitProgram(program, join(stateDir, 'init'));
  }

  /** Folder of a container, whose name tells the next run of the agent the namespace. */
  #folderOf(containerId: string, namespace: string): string {
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(containerId) || !/^[a-z0-9-]*$/.test(namespace)) {
      throw new EsbError(`${containerId} of ${namespace} is no id of a container`, { code: 'InvalidArgument' });
    }
    return join(this.#folder, namespace === '' ? containerId : `${containerId}@${namespace}`);
  }

  async #found(): Promise<readonly { containerId: string; namespace: string; folder: string }[]> {
    return ((await undefinedIfNoFile(readdir(this.#folder))) ?? []).map((name) => {
      const [containerId = '', namespace = ''] = name.split('@');
      return { containerId, namespace, folder: join(this.#folder, name) };
    });
  }

  async #open(containerId: string, namespace: string): Promise<string> {
    const known = this.#entries.get(containerId);
    const entry = known ?? this.#add(containerId, namespace);
    try {
      await entry.opened;
    } catch (error) {
      if (this.#entries.get(containerId) === entry) {
        this.#entries.delete(containerId);
      }
      throw new EsbError(`files of the init of ${containerId}: ${messageOf(error)}`, {
        code: 'StateUnwritable',
        cause: error,
      });
    }
    return entry.folder;
  }

  #add(containerId: string, namespace: string): Entry {
    const folder = this.#folderOf(containerId, namespace);
    const container = new ContainerInit(containerId, {
      clock: this.#options.clock,
      allowances: this.#allowances,
      namespace,
      onNews: (news) => this.#tell(news),
      onFree: () => this.#listenAgain(entry),
    });
    const entry: Entry = {
      container,
      folder,
      opened: Promise.resolve(),
      closed: false,
      listening: undefined,
    };
    entry.opened = this.#prepare(entry);
    this.#entries.set(containerId, entry);
    return entry;
  }

  async #prepare(entry: Entry): Promise<void> {
    await mkdir(entry.folder, { recursive: true });
    await chmod(entry.folder, 0o755);
    await this.#listen(entry);
  }

  async #listen(entry: Entry): Promise<void> {
    if (!entry.closed) {
      entry.listening = takeOneConnection(entry.folder, (socket) => entry.container.accept(socket));
      await entry.listening;
    }
  }

  #listenAgain(entry: Entry): void {
    const { clock, logger } = this.#options;
    this.#tasks.run('socket of an init', async (signal) => {
      for (let waitMs = REST_MS; !entry.closed; waitMs = RETRY_MS) {
        await sleep(clock, Math.max(waitMs, entry.container.restMs), signal);
        try {
          await this.#listen(entry);
          return;
        } catch (error) {
          const { containerId } = entry.container;
          logger.error({ containerId, err: error }, 'no socket for the init of a worker');
        }
      }
    });
  }

  async #close(entry: Entry, why: string): Promise<void> {
    entry.closed = true;
    entry.container.close(why);
    await entry.opened.catch(() => undefined);
    // The folder stays until no socket is under way in it.
    const stopListening = await entry.listening?.catch(() => undefined);
    await stopListening?.();
  }

  #tell(news: InitNews): void {
    const { containerId, breach } = news;
    if (breach !== undefined) {
      this.#options.logger.warn({ containerId, breach }, 'the init of a worker broke the protocol');
    }
    for (const listener of this.#listeners) {
      try {
        listener(news);
      } catch (error) {
        this.#options.logger.error({ containerId, err: error }, 'news of an init were not taken');
      }
    }
  }
}
