import { hasCode, messageOf } from '../../common/errors.ts';
import { ApiError } from '../../kube/api/api-error.ts';

/** The outcome of one write. */
export type WriteOutcome =
  | { readonly kind: 'done' }
  /** The object is another than the one in the cache. */
  | { readonly kind: 'behind' }
  /** The API server, or a webhook of the cluster, does not take the object as it is; in its words. */
  | {
      readonly kind: 'refused';
      readonly message: string;
      /** Milliseconds until it is tried again. */
      readonly retryMs: number;
      /** Whether it was tried just now. */
      readonly isNew: boolean;
    }
  | { readonly kind: 'failed'; readonly error: unknown };

/** Writes at a time. */
const AT_A_TIME = 16;
/** Milliseconds until a write that the API server has refused is tried again, where nothing else is said. */
const REFUSED_RETRY_MS = 30_000;
/** HTTP statuses of an object that is not taken for what it is. Webhooks that name no status answer with 400. */
const refusals: ReadonlySet<number | undefined> = new Set([400, 403, 413, 422]);

/**
 * Does the same with each item, some at a time, and waits for the end of all that were begun. None is begun after one
 * that is refused or fails, nor after some of which each met another object than the cache shows: the cache is behind, and
 * the API server is spared the others until it is not.
 *
 * @param work gives `behind` where the item is another than in the cache
 */
export async function inTurns<T>(
  items: readonly T[],
  work: (item: T) => Promise<'behind' | undefined>,
): Promise<WriteOutcome[]> {
  const outcomes: WriteOutcome[] = [];
  for (let from = 0; from < items.length; from += AT_A_TIME) {
    const begun = items
      .slice(from, from + AT_A_TIME)
      .map((item) => work(item).then((result): WriteOutcome => ({ kind: result ?? 'done' }), outcomeOf));
    const some = await Promise.all(begun);
    outcomes.push(...some);
    const isOver = some.some(({ kind }) => kind === 'refused' || kind === 'failed');
    if (isOver || some.every(({ kind }) => kind === 'behind')) {
      break;
    }
  }
  return outcomes;
}

/** The outcome of a write that has thrown. */
export function outcomeOf(error: unknown): WriteOutcome {
  if (hasCode(error, 'AlreadyExists') || hasCode(error, 'Conflict') || hasCode(error, 'NotFound')) {
    return { kind: 'behind' };
  }
  return error instanceof ApiError && refusals.has(error.status)
    ? { kind: 'refused', message: messageOf(error), retryMs: REFUSED_RETRY_MS, isNew: true }
    : { kind: 'failed', error };
}
