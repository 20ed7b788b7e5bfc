import { type LambdaWorker, unfitArchitecturesOf } from '../../api/lambda-worker.ts';
import { BoundedMap } from '../../common/bounds/bounded-map.ts';
import { parseKeyText } from '../../kube/api/object-key.ts';
import type { ObjectCache } from '../../kube/api/types.ts';
import type { Grant, QuotaBook } from '../quota/quota-book.ts';
import { isRefusedByFullNode } from '../scheduling/assignment-cache.ts';
import { type Homeless, homelessBy, type Refusal } from '../scheduling/homeless.ts';
import type { NodeSnapshot } from '../scheduling/node-snapshot.ts';
import { type Placement, type PlacementStrategy, place } from '../scheduling/place.ts';
import { placementRequest } from './placement-request.ts';

export interface WorkerPlacerOptions {
  readonly workers: ObjectCache<LambdaWorker>;
  readonly snapshot: Pick<NodeSnapshot, 'candidates' | 'isTmpAlwaysOnDisk'>;
  readonly strategy: PlacementStrategy;
  readonly quotas: Pick<QuotaBook, 'grant'>;
}

/** Wishes of workers whose refusal is remembered: some MiB. */
const MAX_REFUSED = 1_024;

/** Places workers by {@link place}, and knows those that wait for a node or for their quota. */
export class WorkerPlacer {
  readonly #options: WorkerPlacerOptions;
  /** By key, workers without a fitting node: a change of the nodes may help them. */
  readonly #waiting = new Map<string, Refusal>();
  /** Answers to workers without a node since nodes last changed, by all that they ask for. */
  readonly #refused = new BoundedMap<string, Placement>(MAX_REFUSED);

  constructor(options: WorkerPlacerOptions) {
    this.#options = options;
  }

  /** Keys of workers that wait for a fitting node. */
  waiting(): readonly string[] {
    return [...this.#waiting.keys()];
  }

  /** Workers among them that more nodes would help. */
  homeless(): readonly Homeless[] {
    const { snapshot, workers } = this.#options;
    const tmpOnDisk = snapshot.isTmpAlwaysOnDisk();
    return [...this.#waiting].flatMap(
      ([key, refusal]) => homelessBy(refusal, workers.get(parseKeyText(key)), tmpOnDisk) ?? [],
    );
  }

  /** Call it before waiting workers are looked at again, since nodes have changed. */
  forgetRefusals(): void {
    this.#refused.clear();
  }

  /** The worker waits no longer, or is looked at again. */
  forget(key: string): void {
    this.#waiting.delete(key);
  }

  /**
   * Chooses a node for a worker. A refused worker waits from then on.
   *
   * @param exclude node that is not to be chosen
   */
  place(
    key: string,
    worker: LambdaWorker,
    exclude: string | undefined,
    unfitArchitectures = unfitArchitecturesOf(worker),
  ): Placement {
    const placement = this.#choose(worker, exclude, unfitArchitectures);
    if (placement.kind === 'refused') {
      this.#waiting.set(key, { ...placement, unfitArchitectures });
    }
    return placement;
  }

  /** Asks for the room that a worker needs of its namespace's quota. A refused worker waits from then on. */
  grant(key: string, worker: LambdaWorker): Grant {
    const grant = this.#options.quotas.grant(worker);
    if (grant.kind === 'refused') {
      this.#waiting.set(key, { reason: 'QuotaExceeded', leaving: false, unfitArchitectures: [] });
    }
    return grant;
  }

  #choose(worker: LambdaWorker, exclude: string | undefined, unfitArchitectures: readonly string[]): Placement {
    const { snapshot, strategy } = this.#options;
    const request = { ...placementRequest(worker), strategy, unfitArchitectures, exclude };
    // Workers without a node differ for a refusal by what they ask for alone, unless they are spread.
    const isFirst = worker.status?.assignment === undefined && request.spread === undefined;
    const kind = isFirst ? JSON.stringify([request, worker.spec.tolerations ?? []]) : undefined;
    const refused = kind === undefined ? undefined : this.#refused.get(kind);
    if (refused !== undefined) {
      return refused;
    }
    const placement = place(request, snapshot.candidates(worker, isRefusedByFullNode(worker)));
    if (kind !== undefined && placement.kind === 'refused') {
      this.#refused.set(kind, placement);
    }
    return placement;
  }
}
