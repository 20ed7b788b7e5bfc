import type { EventReason } from '../../api/condition.ts';
import { type LambdaFunction, lambdaFunctions } from '../../api/lambda-function.ts';
import type { Clock } from '../../common/clock.ts';
import type { EventSink } from '../../kube/events/event-recorder.ts';
import { referenceTo } from '../../kube/events/event-series.ts';
import { outcomeOf, type WriteOutcome } from './write-outcome.ts';

/** A refusal of the API server, in its words. */
export interface Refused {
  readonly reason: 'SettingsRefused' | 'VersionRefused' | 'WorkerRefused';
  readonly message: string;
}

/** The actions that Events of refusals name. One of a revision is in no status. */
const actions: Readonly<Record<Refused['reason'] | 'RevisionRefused', string>> = {
  RevisionRefused: 'Keep',
  SettingsRefused: 'Change',
  VersionRefused: 'Publish',
  WorkerRefused: 'Scale',
};

/** The first refusal among the outcomes of some writes for a function; an Event tells one that is new. */
export function refusalIn<Reason extends keyof typeof actions>(
  owner: LambdaFunction,
  outcomes: readonly WriteOutcome[],
  reason: Reason,
  events: EventSink<EventReason>,
): { readonly reason: Reason; readonly message: string } | undefined {
  const refused = outcomes.find((outcome) => outcome.kind === 'refused');
  if (refused === undefined) {
    return undefined;
  }
  const { message } = refused;
  if (refused.isNew) {
    events.record({
      regarding: referenceTo(lambdaFunctions, owner),
      type: 'Warning',
      reason,
      action: actions[reason],
      note: message,
    });
  }
  return { reason, message };
}

/** Milliseconds until a write that the API server has refused is tried again, and the most that this wait grows to. */
const FIRST_WAIT_MS = 30_000;
const LAST_WAIT_MS = 300_000;

/** Writes for a function that are refused apart from each other. */
export type WriteKind = 'change' | 'collect' | 'create' | 'keep' | 'publish' | 'set' | 'turn';

/** A refusal, and the time until which none of its kind is tried. */
interface Refusal {
  readonly message: string;
  readonly generation: number | undefined;
  readonly waitMs: number;
  /** Refusals one after the other, this one included. */
  readonly count: number;
  /** Monotonic milliseconds. */
  readonly until: number;
}

/**
 * Refusals of the API server, by function and kind of write. No write of the kind is tried before a wait is over that
 * grows with each refusal, for any number of looks meanwhile. Another generation of the function has no refusals.
 */
export class Refusals {
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #refusals = new Map<string, Map<WriteKind, Refusal>>();

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
  }

  /** The function is gone. */
  forget(key: string): void {
    this.#refusals.delete(key);
  }

  /** Whether the last write of a kind was refused for this generation of the function. */
  has(key: string, kind: WriteKind, generation: number | undefined): boolean {
    const found = this.#refusals.get(key)?.get(kind);
    return found !== undefined && found.generation === generation;
  }

  /**
   * Writes some of a kind, or says again why not yet. After a refusal one is tried, each time another, and the others
   * follow once that is taken: one that is refused for ever holds up none of them.
   *
   * @param items that are to be written
   * @param write gives the outcomes of those that it was given
   */
  async attempt<T>(
    {
      generation,
      key,
      kind,
    }: { readonly key: string; readonly generation: number | undefined; readonly kind: WriteKind },
    items: readonly T[],
    write: (items: readonly T[]) => Promise<readonly WriteOutcome[]>,
  ): Promise<readonly WriteOutcome[]> {
    const found = this.#refusals.get(key)?.get(kind);
    const known = found?.generation === generation ? found : undefined;
    if (items.length === 0) {
      return [];
    }
    const now = this.#clock.monotonic();
    if (known !== undefined && known.until > now) {
      return [{ kind: 'refused', message: known.message, retryMs: known.until - now, isNew: false }];
    }
    const count = known?.count ?? 0;
    const at = count % items.length;
    const tried = known === undefined ? items : items.slice(at, at + 1);
    const outcomes: readonly WriteOutcome[] = await write(tried).catch((error: unknown) => [outcomeOf(error)]);
    const refused = outcomes.find((outcome) => outcome.kind === 'refused');
    if (refused === undefined) {
      this.#refusals.get(key)?.delete(kind);
      return tried.length < items.length ? [...outcomes, { kind: 'behind' }] : outcomes;
    }
    const waitMs = known === undefined ? FIRST_WAIT_MS : Math.min(LAST_WAIT_MS, 2 * known.waitMs);
    const { message } = refused;
    const of = this.#refusals.get(key) ?? new Map<WriteKind, Refusal>();
    const until = this.#clock.monotonic() + waitMs;
    this.#refusals.set(key, of.set(kind, { message, generation, waitMs, count: count + 1, until }));
    return outcomes.map((outcome) => (outcome.kind === 'refused' ? { ...outcome, retryMs: waitMs } : outcome));
  }
}
