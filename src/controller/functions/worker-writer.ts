import type { EventReason } from '../../api/condition.ts';
import { type LambdaFunction, lambdaFunctions, workerOf } from '../../api/lambda-function.ts';
import { type LambdaWorker, lambdaWorkers } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import { keyText, objectKey } from '../../kube/api/object-key.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import type { EventSink } from '../../kube/events/event-recorder.ts';
import { referenceTo } from '../../kube/events/event-series.ts';
import type { FunctionStep, UpdateStep } from './plan.ts';
import type { Refusals, WriteKind } from './refusal.ts';
import type { RevisionKeeper } from './revision-keeper.ts';
import { WorkerChanger, type WorkerChangerOptions } from './worker-changer.ts';
import type { WorkerGroup } from './worker-groups.ts';
import { inTurns, type WriteOutcome } from './write-outcome.ts';

/**
 * Workers of one function that are made in a second, and at once after a rest; as many may leave. The API server of a small
 * cluster gets a thousand in ten parts, so that other functions have their turn between them.
 */
const PER_SECOND = 100;

/** Milliseconds until a function that has made or ended as many workers as it may is looked at again. */
const PACE_LOOK_MS = 1_000;

export interface WorkerWriterOptions extends WorkerChangerOptions {
  readonly client: KubeClient;
  readonly refusals: Refusals;
  readonly revisions: Pick<RevisionKeeper, 'sourceOf'>;
  readonly events: EventSink<EventReason>;
  readonly clock: Clock;
  readonly logger: Logger;
}

type Creation = Extract<FunctionStep, { kind: 'create' }>;

/** The outcome of some steps. */
export interface WrittenSteps {
  /** The function, with the turns that workers have got. */
  readonly owner: LambdaFunction;
  readonly outcomes: readonly WriteOutcome[];
  /** Milliseconds until further workers may be made, or may leave; undefined where none wait. */
  readonly lookAfterMs: number | undefined;
}

/** Carries out the steps of functions: makes, deletes and changes workers, at the pace that each function may have. */
export class WorkerWriter {
  readonly #options: WorkerWriterOptions;
  readonly #changer: WorkerChanger;
  /** Of workers that are made, and of those that leave. */
  readonly #growth: Pace;
  readonly #shrinking: Pace;

  constructor(options: WorkerWriterOptions) {
    this.#options = options;
    this.#changer = new WorkerChanger(options);
    this.#growth = new Pace(options.clock);
    this.#shrinking = new Pace(options.clock);
  }

  /** The function is gone. */
  forget(key: string): void {
    this.#growth.forget(key);
    this.#shrinking.forget(key);
  }

  /** Names of workers that had a turn and are not ready again. */
  changing(owner: LambdaFunction): readonly string[] {
    return this.#changer.changing(owner);
  }

  /**
   * Carries out the steps of one function. Errors are those of the read of an earlier template.
   *
   * @param key of the function
   */
  async write(
    key: string,
    owner: LambdaFunction,
    groups: readonly WorkerGroup[],
    steps: readonly FunctionStep[],
    call: CallOptions,
  ): Promise<WrittenSteps> {
    const attempt = async <T>(
      kind: WriteKind,
      items: readonly T[],
      write: (items: readonly T[]) => Promise<readonly WriteOutcome[]>,
    ): Promise<readonly WriteOutcome[]> =>
      await this.#options.refusals.attempt({ key, generation: owner.metadata.generation, kind }, items, write);
    const surplus = steps.filter((step) => step.kind === 'delete').map(({ worker }) => worker);
    const leaving = this.#shrinking.take(key, surplus);
    const changing = steps.filter((step) => step.kind === 'update');
    let isPaced = leaving.length < surplus.length;
    const created: string[] = [];
    const deleted: string[] = [];
    const creating = await this.#sourced(owner, steps, call);
    const creations = await attempt('create', creating, async (wanted) => {
      // Not before: what waits for the end of a refusal takes no turn, and stays refused.
      const making = this.#growth.take(key, wanted);
      isPaced ||= making.length < wanted.length;
      return await inTurns(making, (step) => this.#create(owner, step, created, call));
    });
    const deletions = await inTurns(leaving, (worker) => this.#delete(worker, deleted, call));
    const changes = await attempt(
      'change',
      changing.filter(({ isTurn }) => !isTurn),
      (some) => inTurns(some, (step) => this.#changer.changeAtOnce(owner, groups, step, call)),
    );
    let present = owner;
    const takeTurns = async (some: readonly UpdateStep[]): Promise<readonly WriteOutcome[]> => {
      const changed = await this.#changer.changeInTurn(owner, groups, some, call);
      present = changed.owner;
      return changed.outcomes;
    };
    const turns = await attempt(
      'turn',
      changing.filter(({ isTurn }) => isTurn),
      takeTurns,
    );
    this.#report(owner, created, deleted);
    return {
      owner: present,
      outcomes: [...creations, ...deletions, ...changes, ...turns],
      lookAfterMs: isPaced ? PACE_LOOK_MS : undefined,
    };
  }

  /** The workers that are to be made, each with the template that it gets. */
  async #sourced(
    owner: LambdaFunction,
    steps: readonly FunctionStep[],
    call: CallOptions,
  ): Promise<readonly Creation[]> {
    const creations = steps.filter((step) => step.kind === 'create');
    const earlier = creations.find((step) => step.earlier.length > 0)?.earlier ?? [];
    const kept = await this.#options.revisions.sourceOf(owner, earlier, call);
    return creations.map((step) => (step.earlier.length > 0 && kept ? { ...step, source: kept } : step));
  }

  async #create(
    owner: LambdaFunction,
    { name, source }: Creation,
    created: string[],
    call: CallOptions,
  ): Promise<undefined> {
    await this.#options.client.create(lambdaWorkers, workerOf(owner, name, source), call);
    created.push(name);
  }

  async #delete(worker: LambdaWorker, deleted: string[], call: CallOptions): Promise<undefined> {
    const { name, uid } = worker.metadata;
    await this.#options.client.delete(lambdaWorkers, objectKey(worker), { ...call, uid });
    deleted.push(name);
  }

  #report(owner: LambdaFunction, created: readonly string[], deleted: readonly string[]): void {
    const { events, logger } = this.#options;
    const changes = [
      ...(created.length === 0 ? [] : [`created ${listed(created)}`]),
      ...(deleted.length === 0 ? [] : [`deleted ${listed(deleted)}`]),
    ];
    if (changes.length > 0) {
      const note = changes.join(', ');
      logger.info({ function: keyText(objectKey(owner)), note }, 'workers of a function changed');
      const regarding = referenceTo(lambdaFunctions, owner);
      events.record({ regarding, type: 'Normal', reason: 'Scaled', action: 'Scale', note });
    }
  }
}

/** Some names, and how many more there are. */
function listed(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(', ');
  return names.length <= 3 ? shown : `${shown} and ${names.length - 3} more`;
}

/** Bounds how many of something each key has in a second. */
class Pace {
  readonly #clock: Pick<Clock, 'monotonic'>;
  /** By key, how many may be taken at once, and when that was so, in monotonic milliseconds. */
  readonly #left = new Map<string, { readonly count: number; readonly at: number }>();

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
  }

  forget(key: string): void {
    this.#left.delete(key);
  }

  /** The first of these items, as many as may be taken now. */
  take<T>(key: string, items: readonly T[]): readonly T[] {
    const now = this.#clock.monotonic();
    const { at, count } = this.#left.get(key) ?? { at: now, count: PER_SECOND };
    const left = Math.min(PER_SECOND, count + ((now - at) / 1_000) * PER_SECOND);
    const taken = items.slice(0, Math.floor(left));
    this.#left.set(key, { count: left - taken.length, at: now });
    return taken;
  }
}
