import type { Clock, Timer } from '../../common/clock.ts';
import { Limiter } from '../../common/limiter.ts';
import type { Logger } from '../../common/logger.ts';
import { TaskGroup } from '../../common/task-group.ts';

/** Milliseconds from the first sign of a log that grows to the first look at it. */
const FIRST_LOOK_MS = 100;
/** Milliseconds between two looks at a log that grows, at least and at most. */
const MIN_LOOK_MS = 50;
const MAX_LOOK_MS = 1_000;
/** Looks in a row without growth, after which the kernel is asked to report the next write. */
const QUIET_LOOKS = 1;
/** Milliseconds between two looks where the kernel has no watches left. */
const UNWATCHED_LOOK_MS = 2_000;
/** Milliseconds after a look that failed. */
const FAILED_LOOK_MS = 2_000;
const MAX_LOOKS = 4;

export interface LogGrowthOptions {
  /** Looks at a log and rotates it where due. Returns the log's end; undefined when there is no log any more. */
  readonly look: (containerId: string) => Promise<number | undefined>;
  /** Called when a log that was quiet is written to. */
  readonly onWrite: (containerId: string) => Promise<void>;
  /** Calls back at the next write, and maybe more often. Throws where the kernel has no watches left. */
  readonly watch: (containerId: string, onWrite: () => void) => { close(): void };
  /** Bytes by which a log may grow between two looks, as far as the shortest interval allows. */
  readonly budget: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

type State =
  /** The kernel reports the next write; until then the log costs nothing. */
  | { readonly kind: 'Quiet'; readonly watcher: { close(): void } }
  | { readonly kind: 'Waiting'; readonly timer: Timer }
  | { readonly kind: 'Looking' };

interface Log {
  state: State;
  end: number | undefined;
  lookedAt: number;
  quietLooks: number;
}

/**
 * Schedule of the looks at logs. The kernel watches a quiet log, at no cost for a thousand of them. The first write
 * removes the watch, so that a worker with a hundred thousand lines a second causes one event. From then on the growth
 * of the log sets the interval between looks, until the log is quiet.
 */
export class LogGrowth {
  readonly #options: LogGrowthOptions;
  readonly #logs = new Map<string, Log>();
  readonly #looks = new Limiter(MAX_LOOKS);
  readonly #tasks: TaskGroup;
  #hasWarned = false;

  constructor(options: LogGrowthOptions) {
    this.#options = options;
    this.#tasks = new TaskGroup((_name, error) => {
      options.logger.error({ err: error }, 'looking after a log failed');
    });
  }

  /**
   * Begins to look after a log.
   *
   * @param isNew whether it is empty, and nothing writes to it yet
   */
  add(containerId: string, isNew = false): void {
    if (this.#tasks.signal.aborted || this.#logs.has(containerId)) {
      return;
    }
    const now = this.#options.clock.monotonic();
    const log: Log = { state: { kind: 'Looking' }, end: isNew ? 0 : undefined, lookedAt: now, quietLooks: QUIET_LOOKS };
    this.#logs.set(containerId, log);
    if (isNew) {
      this.#watch(containerId, log);
    } else {
      this.#wait(containerId, log, 0);
    }
  }

  delete(containerId: string): void {
    const log = this.#logs.get(containerId);
    if (log !== undefined) {
      this.#logs.delete(containerId);
      release(log.state);
    }
  }

  /** Ends every watch and timer, and waits for looks under way. */
  async stop(): Promise<void> {
    for (const containerId of [...this.#logs.keys()]) {
      this.delete(containerId);
    }
    await this.#tasks.stop();
  }

  #wait(containerId: string, log: Log, delayMs: number): void {
    const timer = this.#options.clock.setTimer(() => {
      log.state = { kind: 'Looking' };
      this.#tasks.run('looking at a log', () => this.#looks.run(() => this.#look(containerId, log)));
    }, delayMs);
    log.state = { kind: 'Waiting', timer };
  }

  async #look(containerId: string, log: Log): Promise<void> {
    const { clock, logger } = this.#options;
    if (this.#logs.get(containerId) !== log) {
      return;
    }
    let end: number | undefined;
    try {
      end = await this.#options.look(containerId);
    } catch (error) {
      logger.warn({ containerId, err: error }, 'log cannot be looked after');
      if (this.#logs.get(containerId) === log) {
        this.#wait(containerId, log, FAILED_LOOK_MS);
      }
      return;
    }
    if (this.#logs.get(containerId) !== log) {
      return;
    }
    if (end === undefined) {
      this.delete(containerId);
      return;
    }
    const now = clock.monotonic();
    const grown = end - (log.end ?? end);
    const delayMs = delayOf(grown, now - log.lookedAt, this.#options.budget);
    log.quietLooks = grown > 0 ? 0 : log.quietLooks + 1;
    log.end = end;
    log.lookedAt = now;
    if (log.quietLooks < QUIET_LOOKS) {
      this.#wait(containerId, log, delayMs);
    } else if (log.state.kind === 'Looking') {
      await this.#rest(containerId, log, end);
    }
  }

  /** Has the kernel report the next write, and makes sure that no write preceded the watch. */
  async #rest(containerId: string, log: Log, end: number): Promise<void> {
    const wake = this.#watch(containerId, log);
    if (wake !== undefined) {
      const after = await this.#options.look(containerId).catch(() => undefined);
      if (after !== end) {
        wake();
      }
    }
  }

  /** Has the kernel report the next write. Returns what that calls; undefined where the kernel cannot. */
  #watch(containerId: string, log: Log): (() => void) | undefined {
    const wake = (): void => {
      if (log.state.kind === 'Quiet' && this.#logs.get(containerId) === log) {
        log.state.watcher.close();
        log.quietLooks = 0;
        // The quiet time says nothing about the present growth.
        log.lookedAt = this.#options.clock.monotonic();
        this.#tasks.run('noting a write', () => this.#options.onWrite(containerId));
        this.#wait(containerId, log, FIRST_LOOK_MS);
      }
    };
    let watcher: { close(): void };
    try {
      watcher = this.#options.watch(containerId, wake);
    } catch (error) {
      if (!this.#hasWarned) {
        this.#hasWarned = true;
        this.#options.logger.warn(
          { err: error },
          'the kernel has no watches left for logs (fs.inotify.max_user_watches?); they are looked at every 2 s',
        );
      }
      this.#wait(containerId, log, UNWATCHED_LOOK_MS);
      return undefined;
    }
    log.state = { kind: 'Quiet', watcher };
    return wake;
  }
}

/** Milliseconds until a log that has grown by `grown` bytes in `elapsedMs` has grown by `budget` bytes again. */
export function delayOf(grown: number, elapsedMs: number, budget: number): number {
  if (grown <= 0) {
    return MAX_LOOK_MS;
  }
  const perMs = grown / Math.max(1, elapsedMs);
  return Math.min(MAX_LOOK_MS, Math.max(MIN_LOOK_MS, budget / perMs));
}

function release(state: State): void {
  switch (state.kind) {
    case 'Quiet':
      state.watcher.close();
      break;
    case 'Waiting':
      state.timer.cancel();
      break;
    case 'Looking':
      break;
  }
}
