import { setTimeout as delay } from 'node:timers/promises';
import { type LambdaWorker, lambdaWorkers, type WorkerPhase } from '../../src/api/lambda-worker.ts';
import { hasCode } from '../../src/common/errors.ts';
import type { KubeClient } from '../../src/kube/api/types.ts';
import { hasInit, type Wish } from './step.ts';

const NAMESPACE = 'default';
const ATTEMPT_MS = 10_000;
const RETRY_MS = 250;
const MARK = 'chaos.esb.dev/creation';

export interface WishesOptions {
  readonly client: KubeClient;
  readonly image: string;
  /** Ends every attempt, with its reason. */
  readonly signal: AbortSignal;
}

/** Every second worker has an emulator. */
function interfaceOf(worker: string): Readonly<Record<string, unknown>> {
  return hasInit(worker) ? {} : { runtimeInterface: 'Emulator' };
}

/** The phase in which a worker comes to rest without calls. */
export function restingPhase(wish: Wish): WorkerPhase {
  if (wish.desiredState === 'Absent' || wish.removeAfter !== undefined) {
    return 'Absent';
  }
  return wish.desiredState === 'Paused' || wish.pauseAfter !== undefined ? 'Paused' : 'Running';
}

/**
 * Tells the API server what is wanted, of each worker one thing after the other, and goes on trying until it is taken:
 * a fault delays a wish and never changes it.
 */
export class Wishes {
  readonly #options: WishesOptions;
  readonly #wanted = new Map<string, Wish>();
  readonly #writes = new Map<string, Promise<void>>();
  /** Workers with wishes that are not taken yet, and how many. */
  readonly #untaken = new Map<string, number>();
  #creations = 0;

  constructor(options: WishesOptions) {
    this.#options = options;
  }

  /** Wishes for the end, by name. */
  get wanted(): ReadonlyMap<string, Wish> {
    return this.#wanted;
  }

  /** Workers with wishes that the API server has not taken yet. */
  get untaken(): readonly string[] {
    return [...this.#untaken].filter(([, count]) => count > 0).map(([worker]) => worker);
  }

  /** @param node where it is to be; anywhere by default */
  create(worker: string, wish: Wish, node?: string): void {
    this.#wanted.set(worker, wish);
    this.#creations += 1;
    const creation = String(this.#creations);
    this.#write(worker, () => this.#tryToCreate(worker, wish, creation, node));
  }

  change(worker: string, wish: Wish): void {
    this.#wanted.set(worker, wish);
    this.#write(worker, async () => {
      const { desiredState, wakePolicy, env } = this.#spec(wish);
      // A merge patch keeps what it does not name.
      const idlePolicy =
        wish.pauseAfter === undefined
          ? null
          : { pauseAfterSeconds: wish.pauseAfter, removeAfterSeconds: wish.removeAfter ?? null };
      const body = { spec: { desiredState, wakePolicy, env, idlePolicy } };
      await this.#options.client.patch(
        lambdaWorkers,
        { namespace: NAMESPACE, name: worker },
        { kind: 'merge', body, fieldManager: 'chaos' },
        { deadlineMs: ATTEMPT_MS },
      );
      return true;
    });
  }

  delete(worker: string): void {
    this.#wanted.delete(worker);
    this.#write(worker, async () => {
      await this.#options.client.delete(
        lambdaWorkers,
        { namespace: NAMESPACE, name: worker },
        { deadlineMs: ATTEMPT_MS },
      );
      return true;
    });
  }

  /** Resolves when the API server has taken everything. */
  async untilTaken(): Promise<void> {
    await Promise.all(this.#writes.values());
  }

  /**
   * Says everything once more. An attempt that was given up while the API server was frozen may have been taken later
   * than the one that followed it.
   */
  async sayAgain(): Promise<void> {
    await this.untilTaken();
    for (const { metadata } of await this.list()) {
      const wish = this.#wanted.get(metadata.name);
      if (wish === undefined) {
        this.delete(metadata.name);
      } else {
        this.change(metadata.name, wish);
      }
    }
    await this.untilTaken();
  }

  async list(): Promise<readonly LambdaWorker[]> {
    const { items } = await this.#options.client.list(
      lambdaWorkers,
      { namespace: NAMESPACE },
      { deadlineMs: ATTEMPT_MS },
    );
    return items;
  }

  get(worker: string): Promise<LambdaWorker | undefined> {
    return this.#options.client.get(lambdaWorkers, { namespace: NAMESPACE, name: worker }, { deadlineMs: ATTEMPT_MS });
  }

  #write(worker: string, attempt: () => Promise<boolean>): void {
    const before = this.#writes.get(worker) ?? Promise.resolve();
    const count = (by: number): void => void this.#untaken.set(worker, (this.#untaken.get(worker) ?? 0) + by);
    count(1);
    const write = before.then(() => this.#until(attempt)).then(() => count(-1));
    // Resolves for a caller that waits until everything is taken.
    write.catch(() => undefined);
    this.#writes.set(worker, write);
  }

  async #until(attempt: () => Promise<boolean>): Promise<void> {
    const { signal } = this.#options;
    for (;;) {
      try {
        if (await attempt()) {
          return;
        }
      } catch (error) {
        // A wish that makes no sense is a fault of the walk.
        if (hasCode(error, 'Invalid') || hasCode(error, 'BadRequest')) {
          throw error;
        }
      }
      await delay(RETRY_MS);
      signal.throwIfAborted();
    }
  }

  async #tryToCreate(worker: string, wish: Wish, creation: string, nodeName?: string): Promise<boolean> {
    const spec = { ...this.#spec(wish), ...interfaceOf(worker), ...(nodeName === undefined ? {} : { nodeName }) };
    try {
      await this.#options.client.create(
        lambdaWorkers,
        {
          apiVersion: 'esb.dev/v1alpha1',
          kind: 'LambdaWorker',
          metadata: { name: worker, namespace: NAMESPACE, annotations: { [MARK]: creation } },
          spec: spec as unknown as LambdaWorker['spec'],
        },
        { deadlineMs: ATTEMPT_MS },
      );
      return true;
    } catch (error) {
      if (!hasCode(error, 'AlreadyExists')) {
        throw error;
      }
      // Either the former one is still being removed, or our own earlier attempt had been taken.
      return (await this.get(worker))?.metadata.annotations?.[MARK] === creation;
    }
  }

  #spec(wish: Wish): Readonly<Record<string, unknown>> {
    const { desiredState, wakePolicy, pauseAfter, removeAfter, revision } = wish;
    return {
      image: this.#options.image,
      desiredState,
      wakePolicy,
      env: [{ name: 'GREETING', value: `revision ${revision}` }],
      resources: { limits: { memory: '48Mi' } },
      ephemeralStorage: '8Mi',
      timeoutSeconds: 5,
      terminationGracePeriodSeconds: 2,
      ...(pauseAfter === undefined
        ? {}
        : {
            idlePolicy: {
              pauseAfterSeconds: pauseAfter,
              ...(removeAfter === undefined ? {} : { removeAfterSeconds: removeAfter }),
            },
          }),
    };
  }
}
