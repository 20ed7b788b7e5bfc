import type { Clock, Timer } from '../../common/clock.ts';
import type { Logger } from '../../common/logger.ts';

/** Milliseconds from the first sign of a log that grows to the first look at it. */
const FIRST_LOOK_MS = 100;
/** Milliseconds between two looks at a log that grows, at least and at most. */
const MIN_LOOK_MS = 50;
const MAX_LOOK_MS = 1_000;
/** Looks in a row without growth, after which the kernel is asked to tell of the next write. */
const QUIET_LOOKS = 1;
/** Milliseconds between two looks where the kernel tells of nothing. */
const UNTOLD_LOOK_MS = 2_000;
/** Milliseconds after a look that failed. */
const FAILED_LOOK_MS = 2_000;
/** Looks at once. */
const MAX_LOOKS = 4;

export interface LogGrowthOptions {
  /** Looks at a log and does what there is to be done. Returns where it ends, undefined when there is none any more. */
  readonly look: (containerId: string) => Promise<number | undefined>;
  /** Told when a log that was quiet is written to. */
  readonly onWrite: (containerId: string) => Promise<void>;
  /** Calls back at the next write, and maybe more often. Throws where the kernel has no watches left. */
  readonly watch: (containerId: string, onWrite: () => void) => { close(): void };
  /** Bytes by which a log may grow between two looks, where that is possible at all. */
  readonly budget: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

type State =
  /** The kernel tells of the next write; until then it costs nothing. */
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
 * Decides when to look at which log. A log that nobody writes to is watched by the kernel and costs nothing, be there
 * a thousand of them. The first write takes the watch away, so that a worker that writes a hundred thousand lines a
 * second causes one event; from then on the log is looked at as often as its growth asks for, until it is quiet again.
 */
export class LogGrowth {
  readonly #options: LogGrowthOptions;
  readonly #logs = new Map<string, Log>();
  readonly #queue: (() => void)[] = [];
  readonly #owned = new Set<Promise<void>>();
  #running = 0;
  #stopped = false;
  #warned = false;

  constructor(options: LogGrowthOptions) {
    this.#options = options;
  }

  /** From now on the log is looked after. One that is already is looked at soon. */
  add(containerId: string): void {
    if (this.#stopped || this.#logs.has(containerId)) {
      return;
    }
    const now = this.#options.clock.monotonic();
    const log: Log = { state: { kind: 'Looking' }, end: undefined, lookedAt: now, quietLooks: QUIET_LOOKS };
    this.#logs.set(containerId, log);
    this.#wait(containerId, log, 0);
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
    this.#stopped = true;
    for (const containerId of [...this.#logs.keys()]) {
      this.delete(containerId);
    }
    while (this.#owned.size > 0) {
      await Promise.all(this.#owned);
    }
  }

  #wait(containerId: string, log: Log, delayMs: number): void {
    const timer = this.#options.clock.setTimer(() => {
      log.state = { kind: 'Looking' };
      this.#enter(() => this.#look(containerId, log));
    }, delayMs);
    log.state = { kind: 'Waiting', timer };
  }

  #enter(work: () => Promise<void>): void {
    const run = (): void => {
      this.#running += 1;
      this.#own(
        work().finally(() => {
          this.#running -= 1;
          this.#queue.shift()?.();
        }),
      );
    };
    if (this.#running < MAX_LOOKS) {
      run();
    } else {
      this.#queue.push(run);
    }
  }

  #own(work: Promise<void>): void {
    const owned = work
      .catch((error: unknown) => this.#options.logger.error({ err: error }, 'looking after a log failed'))
      .finally(() => this.#owned.delete(owned));
    this.#owned.add(owned);
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

  /** Has the kernel tell of the next write, and makes sure that there was none before it was asked. */
  async #rest(containerId: string, log: Log, end: number): Promise<void> {
    const wake = (): void => {
      if (log.state.kind === 'Quiet' && this.#logs.get(containerId) === log) {
        log.state.watcher.close();
        log.quietLooks = 0;
        // The time in which it was quiet says nothing about how fast it grows now.
        log.lookedAt = this.#options.clock.monotonic();
        this.#own(this.#options.onWrite(containerId));
        this.#wait(containerId, log, FIRST_LOOK_MS);
      }
    };
    let watcher: { close(): void };
    try {
      watcher = this.#options.watch(containerId, wake);
    } catch (error) {
      if (!this.#warned) {
        this.#warned = true;
        this.#options.logger.warn(
          { err: error },
          'the kernel tells of no more writes to logs (fs.inotify.max_user_watches?); they are looked at every 2 s',
        );
      }
      this.#wait(containerId, log, UNTOLD_LOOK_MS);
      return;
    }
    log.state = { kind: 'Quiet', watcher };
    const after = await this.#options.look(containerId).catch(() => undefined);
    if (after !== end) {
      wake();
    }
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
