import { type LambdaWorker, lambdaWorkers } from '../../api/lambda-worker.ts';
import { fieldManagers } from '../../api/name.ts';
import { Backoff } from '../../common/backoff.ts';
import type { Clock, Timer } from '../../common/clock.ts';
import { EsbError, hasCode } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import type { WorkerRef } from '../../protocol/generated/agent.ts';

/** Milliseconds between two patches of one worker. */
const INTERVAL_MS = 3_000;
/** Milliseconds between two checks for due stamps. */
const TICK_MS = 500;
/** Patches under way at a time. */
const MAX_CONCURRENT = 8;
/** Milliseconds that one patch may take. */
const PATCH_DEADLINE_MS = 5_000;
/** Pauses after the API server did not answer. */
const PAUSES = { firstMs: 1_000, maxMs: 30_000 } as const;

export interface ActivityWriterOptions {
  readonly client: Pick<KubeClient, 'patch'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whether a worker still exists, as far as is known. */
  readonly exists: (uid: string) => boolean;
  readonly onWritten?: (ok: boolean) => void;
}

interface Activity {
  readonly worker: WorkerRef;
  /** The newest stamp that has not been written; undefined when there is none. */
  stamp: string | undefined;
  /** Monotonic milliseconds before which it is not written. */
  notBefore: number;
  writing: boolean;
}

/**
 * Writes the agents' stamps of calls to `status.lastInvocationTime`, verbatim, at most once in three seconds for each
 * worker. No decision depends on their arrival: while the API server is away the newest stamps are kept and written
 * later; a refused stamp is dropped.
 */
export class ActivityWriter {
  readonly #options: ActivityWriterOptions;
  readonly #activities = new Map<string, Activity>();
  readonly #running = new Set<Promise<void>>();
  readonly #pauses = new Backoff(PAUSES);
  #timer: Timer | undefined;
  #pausedUntil = 0;
  #stopped = false;

  constructor(options: ActivityWriterOptions) {
    this.#options = options;
  }

  /** Workers with a stamp that has not been written. */
  get pending(): number {
    return [...this.#activities.values()].filter(({ stamp }) => stamp !== undefined).length;
  }

  note(worker: WorkerRef, stamp: string): void {
    const known = this.#activities.get(worker.uid);
    if (known === undefined) {
      this.#activities.set(worker.uid, { worker, stamp, notBefore: 0, writing: false });
    } else {
      known.stamp = stamp;
    }
    if (this.#timer === undefined && !this.#stopped) {
      this.#timer = this.#options.clock.setTimer(() => this.#tick(), TICK_MS);
    }
  }

  /** Writes the pending stamps, without regard to the interval, and ends; drops those that are not written by then. */
  async stop(deadlineMs: number): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    const end = this.#options.clock.monotonic() + deadlineMs;
    for (const activity of this.#activities.values()) {
      activity.notBefore = 0;
    }
    this.#pausedUntil = 0;
    while (this.#options.clock.monotonic() < end) {
      this.#startDue();
      if (this.#running.size === 0) {
        return;
      }
      await Promise.race(this.#running);
    }
  }

  #tick(): void {
    this.#timer = undefined;
    this.#startDue();
    if (this.#activities.size > 0 && !this.#stopped) {
      this.#timer = this.#options.clock.setTimer(() => this.#tick(), TICK_MS);
    }
  }

  #startDue(): void {
    const now = this.#options.clock.monotonic();
    if (now < this.#pausedUntil) {
      return;
    }
    for (const [uid, activity] of this.#activities) {
      if (this.#running.size >= MAX_CONCURRENT) {
        return;
      }
      if (activity.writing || activity.notBefore > now) {
        continue;
      }
      if (activity.stamp === undefined || !this.#options.exists(uid)) {
        this.#activities.delete(uid);
        continue;
      }
      const running = this.#write(activity, activity.stamp).finally(() => this.#running.delete(running));
      this.#running.add(running);
    }
  }

  async #write(activity: Activity, stamp: string): Promise<void> {
    const { client, clock, logger } = this.#options;
    const { namespace, name } = activity.worker;
    activity.writing = true;
    activity.stamp = undefined;
    activity.notBefore = clock.monotonic() + INTERVAL_MS;
    try {
      await client.patch<LambdaWorker>(
        lambdaWorkers,
        { namespace, name },
        { kind: 'merge', body: { status: { lastInvocationTime: stamp } }, fieldManager: fieldManagers.gateway },
        { subresource: 'status', deadlineMs: PATCH_DEADLINE_MS },
      );
      this.#pauses.reset();
      this.#options.onWritten?.(true);
    } catch (error) {
      this.#options.onWritten?.(false);
      if (isRefusal(error)) {
        logger.debug({ err: error, worker: name }, 'activity was refused');
        return;
      }
      logger.debug({ err: error, worker: name }, 'activity was not written; it will be tried again');
      if (this.#stopped) {
        // Once more would not help within the seconds that are left.
        activity.stamp = undefined;
        return;
      }
      activity.stamp ??= stamp;
      this.#pausedUntil = clock.monotonic() + this.#pauses.next();
    } finally {
      activity.writing = false;
    }
  }
}

/** Whether the API server has refused this very stamp, so that another try would be refused too. */
function isRefusal(error: unknown): boolean {
  return error instanceof EsbError && !error.retryable && !hasCode(error, 'DeadlineExceeded');
}
