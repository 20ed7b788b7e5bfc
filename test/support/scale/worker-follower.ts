import { setTimeout as delay } from 'node:timers/promises';
import { findCondition, workerConditions } from '../../../src/api/condition.ts';
import { type LambdaWorker, lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { transformWorker } from '../../../src/controller/workers/cache-transform.ts';
import type { Informer, KubeClient } from '../../../src/kube/api/types.ts';
import { ListWatchInformer } from '../../../src/kube/cache/informer.ts';
import { patience } from '../patience.ts';

/** Observations of one worker. */
interface Seen {
  /** Milliseconds (`performance.now()`) of its first assignment. */
  readonly assignedAt?: number;
  /** How often its assignment was made or changed. */
  readonly assignments: number;
  readonly nodeName?: string;
  readonly epoch?: number;
  /** Milliseconds at which it was first seen in its resting state. */
  readonly restedAt?: number;
  /** Phase that its status tells now. */
  readonly phase?: string | undefined;
  /** Conditions that are not true, by which it may tell why it waits. */
  readonly untrue: string;
}

const unseen: Seen = { assignments: 0, untrue: '' };
/** Milliseconds, times {@link patience}, after which workers are waited for no more where none has come further. */
const STALLED_MS = 180_000;
const LOOK_EVERY_MS = 50;
/** Most different words of workers in an error. */
const TOLD = 5;

/** Waits for workers, as long as they come. */
export interface FollowOptions {
  /** Throws where none will come any more; that ends the wait. */
  readonly check?: () => void;
  /** Default: three minutes, times {@link patience}. */
  readonly stalledMs?: number;
}

/** Watches all workers and keeps when each was assigned and came to rest. */
export class WorkerFollower {
  readonly #seen = new Map<string, Seen>();
  readonly #informer: Informer<LambdaWorker>;
  #assigned = 0;
  #rested = 0;

  private constructor(informer: Informer<LambdaWorker>) {
    this.#informer = informer;
    informer.subscribe(({ object }) => this.#take(object));
  }

  /** Resolves once it watches. */
  static async start(client: KubeClient): Promise<WorkerFollower> {
    const informer = new ListWatchInformer(
      client,
      lambdaWorkers,
      {},
      { logger: silentLogger(), transform: transformWorker },
    );
    const follower = new WorkerFollower(informer);
    informer.start();
    await informer.synced();
    return follower;
  }

  /** Workers with an assignment. */
  get assigned(): number {
    return this.#assigned;
  }

  /** Workers in their resting state. */
  get rested(): number {
    return this.#rested;
  }

  /**
   * Resolves once so many workers have been assigned.
   *
   * @throws {Error} with the words of those that wait, once no worker was assigned for `stalledMs`
   */
  async untilAssigned(count: number, options?: FollowOptions): Promise<void> {
    await this.#until(count, { state: 'assigned', has: ({ assignedAt }) => assignedAt !== undefined }, options);
  }

  /** Waits for workers in their resting state. */
  async untilRested(count: number, options?: FollowOptions): Promise<void> {
    await this.#until(count, { state: 'rested', has: ({ restedAt }) => restedAt !== undefined }, options);
  }

  /** Milliseconds of every first assignment, in order. */
  assignmentTimes(): readonly number[] {
    return [...this.#seen.values()]
      .flatMap(({ assignedAt }) => assignedAt ?? [])
      .toSorted((left, right) => left - right);
  }

  /** Milliseconds at which the last worker came to rest. */
  lastRestedAt(): number {
    return Math.max(...[...this.#seen.values()].map(({ restedAt }) => restedAt ?? 0));
  }

  /** Names of workers that were assigned more than once. */
  reassigned(): readonly string[] {
    return [...this.#seen].filter(([, { assignments }]) => assignments > 1).map(([name]) => name);
  }

  /** Workers by node. */
  byNode(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const { nodeName } of this.#seen.values()) {
      if (nodeName !== undefined) {
        counts.set(nodeName, (counts.get(nodeName) ?? 0) + 1);
      }
    }
    return counts;
  }

  /** Number of those workers whose status tells that phase now. */
  inPhase(phase: string, names: readonly string[]): number {
    return names.filter((name) => this.#seen.get(name)?.phase === phase).length;
  }

  stop(): Promise<void> {
    return this.#informer.stop();
  }

  async #until(
    count: number,
    { state, has }: { readonly state: 'assigned' | 'rested'; readonly has: (seen: Seen) => boolean },
    { check, stalledMs = STALLED_MS * patience() }: FollowOptions = {},
  ): Promise<void> {
    let last = this[state];
    let lastAt = performance.now();
    while (last < count) {
      check?.();
      await delay(LOOK_EVERY_MS);
      const now = performance.now();
      if (this[state] !== last) {
        last = this[state];
        lastAt = now;
      } else if (now - lastAt > stalledMs) {
        const words = tally([...this.#seen.values()].filter((seen) => !has(seen)).map(({ untrue }) => untrue));
        throw new Error(`${last} of ${count} workers are ${state}, and no more for ${stalledMs} ms: ${words}`);
      }
    }
  }

  #take({ metadata, spec, status }: LambdaWorker): void {
    const before = this.#seen.get(metadata.name) ?? unseen;
    const now = performance.now();
    let seen: Seen = { ...before, phase: status?.phase, untrue: untrueOf(status) };
    const assignment = status?.assignment;
    if (assignment !== undefined && assignment.epoch !== before.epoch) {
      seen = {
        ...seen,
        assignedAt: before.assignedAt ?? now,
        assignments: before.assignments + 1,
        nodeName: assignment.nodeName,
        epoch: assignment.epoch,
      };
      this.#assigned += before.assignedAt === undefined ? 1 : 0;
    }
    if (before.restedAt === undefined && status?.phase === (spec.desiredState ?? 'Running')) {
      seen = { ...seen, restedAt: now };
      this.#rested += 1;
    }
    this.#seen.set(metadata.name, seen);
  }
}

function untrueOf(status: LambdaWorker['status']): string {
  const { ready, scheduled } = workerConditions;
  return [scheduled, ready]
    .flatMap((type) => findCondition(status?.conditions, type) ?? [])
    .filter((condition) => condition.status !== 'True')
    .map(({ type, reason, message }) => `${type} ${reason} (${message})`)
    .join(', ');
}

/** The most frequent texts, each with its number. */
function tally(texts: readonly string[]): string {
  return [...Map.groupBy(texts, (text) => text)]
    .toSorted(([, one], [, other]) => other.length - one.length)
    .slice(0, TOLD)
    .map(([text, { length }]) => `${length} say ${text === '' ? 'nothing' : text}`)
    .join('; ');
}
