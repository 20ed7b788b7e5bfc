import { isCallable } from '../../api/condition.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import type { ObjectCache } from '../../kube/api/types.ts';
import { type AssignmentCache, functionKeyOf } from '../scheduling/assignment-cache.ts';

/** Index of the workers' cache: by namespace and function name. */
export const FUNCTION_INDEX = 'function';

export function functionIndex(worker: LambdaWorker): readonly string[] {
  return [functionKeyOf(worker)];
}

/** The share of a function's workers that may be away at once, one at least. */
const SHARE = 1 / 4;
/** Milliseconds after which a worker leaves in any case: the others may never be ready again. */
const PATIENCE_MS = 60_000;
/** Milliseconds for which a count is good: functions may have thousands of workers, and each of them asks. */
const COUNT_FOR_MS = 500;

interface Count {
  readonly at: number;
  readonly total: number;
  /** Workers that do not serve, those moved since the count included. */
  away: number;
}

export interface DisruptionBudgetOptions {
  /** {@link FUNCTION_INDEX} is among its indexes. */
  readonly workers: Pick<ObjectCache<LambdaWorker>, 'byIndex'>;
  readonly assignments: Pick<AssignmentCache, 'assumed'>;
  readonly clock: Clock;
}

/** Whether a container of the worker answers calls, as opposed to one that the next call has to make. */
function serves({ status }: LambdaWorker): boolean {
  return status?.phase !== 'Absent' && isCallable(status?.conditions);
}

/**
 * Lets the workers of a function leave a healthy node one part after the other: the rest answers calls until the ones
 * before are ready elsewhere.
 */
export class DisruptionBudget {
  readonly #options: DisruptionBudgetOptions;
  readonly #counts = new Map<string, Count>();
  /** By uid, the monotonic milliseconds since when a worker waits. */
  readonly #waitingSince = new Map<string, number>();

  constructor(options: DisruptionBudgetOptions) {
    this.#options = options;
  }

  /** Whether the worker may leave now. A worker that does not serve does not wait. */
  mayLeave(worker: LambdaWorker): boolean {
    if (!serves(worker)) {
      return true;
    }
    const uid = worker.metadata.uid ?? '';
    const now = this.#options.clock.monotonic();
    const { total, away } = this.#count(functionKeyOf(worker), now);
    if (away < Math.max(1, Math.floor(total * SHARE))) {
      return true;
    }
    const since = this.#waitingSince.get(uid) ?? now;
    this.#waitingSince.set(uid, since);
    return now - since >= PATIENCE_MS;
  }

  noteMoved(worker: LambdaWorker): void {
    this.#waitingSince.delete(worker.metadata.uid ?? '');
    const count = this.#counts.get(functionKeyOf(worker));
    if (count !== undefined) {
      count.away++;
    }
  }

  /** Drops the wait of a worker that was deleted or may stay. */
  forget(uid: string): void {
    this.#waitingSince.delete(uid);
  }

  #count(functionKey: string, now: number): Count {
    const kept = this.#counts.get(functionKey);
    if (kept !== undefined && now - kept.at < COUNT_FOR_MS) {
      return kept;
    }
    const alive = this.#options.workers
      .byIndex(FUNCTION_INDEX, functionKey)
      .filter(
        ({ metadata, spec, status }) =>
          metadata.deletionTimestamp === undefined &&
          spec.desiredState !== 'Absent' &&
          status?.assignment !== undefined,
      );
    const away = alive.filter(
      (one) => !serves(one) || this.#options.assignments.assumed(one.metadata.uid ?? '') !== undefined,
    );
    for (const [key, { at }] of this.#counts) {
      if (now - at >= COUNT_FOR_MS) {
        this.#counts.delete(key);
      }
    }
    const count = { at: now, total: alive.length, away: away.length };
    this.#counts.set(functionKey, count);
    return count;
  }
}
