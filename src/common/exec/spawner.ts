import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { extname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AbortedError } from '../deadline.ts';
import { EsbError, unreachable } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { type CommandRequest, type CommandResult, type CommandRunner, killGroup, LINGER_MS } from './command-runner.ts';

/** Messages to the process. */
export type SpawnerOrder =
  | { readonly kind: 'Run'; readonly id: number; readonly request: Omit<CommandRequest, 'signal'> }
  | { readonly kind: 'Stop'; readonly id: number };

/** Messages of the process. An order to run has one `Started` at most, and then one of the others. */
export type SpawnerAnswer =
  | { readonly kind: 'Started'; readonly id: number; readonly pid: number }
  | { readonly kind: 'Ended'; readonly id: number; readonly result: CommandResult }
  | { readonly kind: 'Failed'; readonly id: number; readonly message: string; readonly errno: string | undefined };

export interface SpawnerOptions {
  readonly logger: Logger;
  /** Milliseconds that the process may take to end a program, or itself, until it is killed. Default 5,000. */
  readonly stopDeadlineMs?: number;
}

const LOOK_EVERY_MS = 10;

interface Pending {
  readonly program: string;
  /** Undefined until the program has started. */
  pid: number | undefined;
  readonly outcome: PromiseWithResolvers<CommandResult>;
}

/**
 * Runs programs as children of a small process of its own. The kernel copies the page tables of a process that starts a
 * program, and holds it up meanwhile: with a large heap ten times as long (`docs/adr/0044-spawner.md`).
 *
 * The process ends with this one, also on SIGKILL, and kills the programs that still run. When the process dies, its
 * programs are killed as well, and the next program starts another process.
 */
export class Spawner implements CommandRunner {
  readonly #logger: Logger;
  readonly #stopDeadlineMs: number;
  readonly #pending = new Map<number, Pending>();
  #child: ChildProcess | undefined;
  #lastId = 0;

  constructor(options: SpawnerOptions) {
    this.#logger = options.logger;
    this.#stopDeadlineMs = options.stopDeadlineMs ?? 5_000;
  }

  /** Starts the process, while this one is still small. */
  start(): void {
    this.#child ??= this.#fork();
  }

  /**
   * As {@link CommandRunner.run}.
   *
   * @throws {EsbError} `SpawnerEnded`, retryable, when the process died; the program is gone by then
   */
  async run(request: CommandRequest): Promise<CommandResult> {
    const { signal, ...order } = request;
    const { program } = request;
    const isStopped = (): boolean => signal?.aborted === true;
    if (isStopped()) {
      throw new AbortedError(program, signal?.reason);
    }
    this.#child ??= this.#fork();
    const child = this.#child;
    this.#lastId += 1;
    const id = this.#lastId;
    const pending: Pending = { program, pid: undefined, outcome: Promise.withResolvers() };
    this.#pending.set(id, pending);
    child.channel?.ref();
    send(child, { kind: 'Run', id, request: order });
    let hung: NodeJS.Timeout | undefined;
    const stop = (): void => {
      send(child, { kind: 'Stop', id });
      const killUnlessOver = (): boolean => this.#pending.has(id) && child.kill('SIGKILL');
      // After the messages that have arrived meanwhile: this process may have been late itself.
      hung = setTimeout(() => setImmediate(killUnlessOver), this.#stopDeadlineMs);
    };
    signal?.addEventListener('abort', stop, { once: true });
    try {
      const result = await pending.outcome.promise;
      signal?.throwIfAborted();
      return result;
    } catch (error) {
      throw isStopped() ? new AbortedError(program, signal?.reason) : error;
    } finally {
      clearTimeout(hung);
      signal?.removeEventListener('abort', stop);
      this.#pending.delete(id);
      if (this.#pending.size === 0) {
        child.channel?.unref();
      }
    }
  }

  /** Ends the process and its programs, and waits for that. */
  async stop(): Promise<void> {
    const child = this.#child;
    if (child === undefined) {
      return;
    }
    this.#lost(child);
    if (!child.connected || child.exitCode !== null || child.signalCode !== null) {
      return;
    }
    const exited = once(child, 'exit');
    child.ref();
    child.disconnect();
    const hung = setTimeout(() => child.kill('SIGKILL'), this.#stopDeadlineMs);
    await exited;
    clearTimeout(hung);
  }

  /** Neither the process nor the channel to it keeps this process alive, but while a program runs. */
  #fork(): ChildProcess {
    const child = fork(join(import.meta.dirname, `spawner-process${extname(import.meta.filename)}`), [], {
      // Out of reach of signals to the process group of this one: programs are ended in order.
      detached: true,
      execArgv: ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=1'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    child.unref();
    child.channel?.unref();
    child.on('message', (answer: SpawnerAnswer) => this.#hear(answer));
    const onEnd = (error?: Error): void => {
      if (this.#child === child) {
        this.#logger.warn({ err: error, running: this.#pending.size }, 'the process that runs programs is gone');
        this.#lost(child, error);
      }
    };
    // Comes after its last message.
    child.once('disconnect', onEnd);
    child.on('error', onEnd);
    return child;
  }

  #hear(answer: SpawnerAnswer): void {
    const pending = this.#pending.get(answer.id);
    switch (answer.kind) {
      case 'Started':
        if (pending !== undefined) {
          pending.pid = answer.pid;
        }
        break;
      case 'Ended':
        pending?.outcome.resolve(answer.result);
        break;
      case 'Failed':
        pending?.outcome.reject(Object.assign(new Error(answer.message), { code: answer.errno }));
        break;
      default:
        unreachable(answer);
    }
  }

  /** Gives up the process, and ends its programs. */
  #lost(child: ChildProcess, cause?: Error): void {
    if (this.#child === child) {
      this.#child = undefined;
    }
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { program, pid, outcome } of pending) {
      const error = new EsbError(`${program} was ended with the process that runs programs`, {
        code: 'SpawnerEnded',
        cause,
      });
      const over = pid === undefined ? Promise.resolve() : ended(pid);
      over.then(() => outcome.reject(error), outcome.reject);
    }
  }
}

/**
 * Sends an order, unless the process has ended, which its `disconnect` reports. A process that could not be started for
 * want of files has no channel at all.
 */
function send(child: ChildProcess, order: SpawnerOrder): void {
  if (child.connected) {
    child.send(order, () => undefined);
  }
}

/** Kills a process group and waits, for a while, until nothing of it is left. */
async function ended(group: number): Promise<void> {
  const end = performance.now() + LINGER_MS;
  while (killGroup(group) && performance.now() < end) {
    await sleep(LOOK_EVERY_MS);
  }
}
