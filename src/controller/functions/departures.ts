import { FUNCTION_LABEL, type LambdaFunction } from '../../api/lambda-function.ts';
import { type LambdaWorker, lambdaWorkers } from '../../api/lambda-worker.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { mayBeWritten } from '../../kube/api/api-error.ts';
import { keyText, objectKey } from '../../kube/api/object-key.ts';
import type { Informer, KubeClient } from '../../kube/api/types.ts';
import { isOwned } from './owner-index.ts';
import { isLiving, livingOf } from './readiness.ts';
import { inTurns, type WriteOutcome } from './write-outcome.ts';

export interface DeparturesOptions {
  readonly client: Pick<KubeClient, 'delete' | 'get' | 'list'>;
  readonly workers: Pick<Informer<LambdaWorker>, 'cache'>;
}

/** A worker that this leader has deleted. */
interface Departure {
  readonly worker: LambdaWorker;
  /** Whether the API server has not answered. */
  isDoubtful: boolean;
}

/**
 * Deletes workers of functions, and knows them as deleted while the cache still shows them, so that none counts as one
 * that stays. Deletions of leaders before are seen by one list of the workers of a function in each term.
 */
export class Departures {
  readonly #options: DeparturesOptions;
  /** By key of a function and uid of a worker. */
  readonly #departures = new Map<string, Map<string, Departure>>();
  /** Uids by key of functions whose workers were listed, and of which the cache shows no deleted one as living. */
  readonly #listed = new Map<string, string | undefined>();

  constructor(options: DeparturesOptions) {
    this.#options = options;
  }

  /** The function is gone. */
  forget(key: string): void {
    this.#departures.delete(key);
    this.#listed.delete(key);
  }

  /** Workers without those that have been deleted. Errors are those of the API server. */
  async without(key: string, workers: readonly LambdaWorker[], call: CallOptions): Promise<readonly LambdaWorker[]> {
    const { client } = this.#options;
    const departures = this.#departures.get(key) ?? new Map<string, Departure>();
    const shown = new Set(livingOf(workers).map(({ metadata }) => metadata.uid));
    for (const [uid, departure] of departures) {
      const { isDoubtful, worker } = departure;
      if (shown.has(uid) && isDoubtful) {
        const present = await client.get(lambdaWorkers, objectKey(worker), call);
        departure.isDoubtful = false;
        if (present?.metadata.uid === uid && isLiving(present)) {
          departures.delete(uid);
        }
      } else if (!shown.has(uid)) {
        departures.delete(uid);
      }
    }
    return workers.filter(({ metadata }) => !departures.has(metadata.uid ?? ''));
  }

  /**
   * Whether these workers of a function stay, as far as leaders before have decided. Errors are those of the API server.
   *
   * @param living as the cache shows them
   */
  async areLiving(owner: LambdaFunction, living: readonly LambdaWorker[], call: CallOptions): Promise<boolean> {
    const { client } = this.#options;
    const key = keyText(objectKey(owner));
    const { name, namespace = '', uid } = owner.metadata;
    if (this.#listed.get(key) === uid) {
      return true;
    }
    const labelSelector = `${FUNCTION_LABEL}=${name}`;
    const { items } = await client.list(lambdaWorkers, { namespace, labelSelector }, call);
    const present = new Map(items.map((worker) => [worker.metadata.uid, worker]));
    for (const seen of living) {
      // Somebody may have taken its label away.
      const worker = present.get(seen.metadata.uid) ?? (await client.get(lambdaWorkers, objectKey(seen), call));
      const isSame = worker?.metadata.uid === seen.metadata.uid;
      if (worker === undefined || !isSame || !isLiving(worker) || !isOwned(worker, owner)) {
        return false;
      }
    }
    this.#listed.set(key, uid);
    return true;
  }

  /** Deletes workers; told are those whose end the API server has confirmed. */
  async delete(
    key: string,
    workers: readonly LambdaWorker[],
    call: CallOptions,
  ): Promise<{ readonly outcomes: readonly WriteOutcome[]; readonly deleted: readonly string[] }> {
    const deleted: string[] = [];
    const departures = this.#departures.get(key) ?? new Map<string, Departure>();
    this.#departures.set(key, departures);
    const outcomes = await inTurns(workers, async (worker) => {
      const { name, uid = '' } = worker.metadata;
      const departure: Departure = { worker, isDoubtful: true };
      departures.set(uid, departure);
      try {
        await this.#options.client.delete(lambdaWorkers, objectKey(worker), { ...call, uid });
        departure.isDoubtful = false;
        deleted.push(name);
      } catch (error) {
        if (!mayBeWritten(error)) {
          departures.delete(uid);
        }
        throw error;
      }
      return undefined;
    });
    return { outcomes, deleted };
  }
}
