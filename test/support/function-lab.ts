import { type LambdaFunction, lambdaFunctions } from '../../src/api/lambda-function.ts';
import { type LambdaVersion, lambdaVersions } from '../../src/api/lambda-version.ts';
import { type LambdaWorker, type LambdaWorkerStatus, lambdaWorkers } from '../../src/api/lambda-worker.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { FunctionController } from '../../src/controller/functions/function-controller.ts';
import {
  CALLED_INDEX,
  calledIndex,
  ORPHAN_INDEX,
  OWNER_INDEX,
  orphanIndex,
  ownerIndex,
} from '../../src/controller/functions/owner-index.ts';
import { isLiving } from '../../src/controller/functions/readiness.ts';
import { transformWorker } from '../../src/controller/workers/cache-transform.ts';
import { ApiError } from '../../src/kube/api/api-error.ts';
import { objectKey, parseKeyText } from '../../src/kube/api/object-key.ts';
import { type ControllerRevision, controllerRevisions, namespaces } from '../../src/kube/api/resource-types.ts';
import type { KubeObject, ResourceType } from '../../src/kube/api/types.ts';
import { OwnWrites } from '../../src/kube/client/own-writes.ts';
import { functionFixture, ownedFixture } from './function-fixture.ts';
import { manualClock } from './manual-clock.ts';
import { TestCluster } from './test-cluster.ts';

/** Key of the function of a laboratory. */
export const KEY = 'default/hello';

type Kind = 'functions' | 'versions' | 'workers';

/** A function controller that leads, on a {@link TestCluster}. */
export class FunctionLab {
  readonly cluster = new TestCluster();
  readonly clock = manualClock();
  readonly events: string[] = [];
  /** Statuses of functions as they were written. */
  readonly told: object[] = [];
  /** Whether gateways tell of the calls, and how many calls of the function there are in all of them. */
  isHeard = true;
  calls = 0;
  readonly #writes: string[] = [];
  #lagging: readonly Kind[] = [];
  caches = this.#watch();
  controller = this.#start();

  constructor() {
    this.cluster.onWritten = ({ request: { body, name, plural, verb } }) => {
      if (plural === lambdaFunctions.plural) {
        this.told.push((body as Required<LambdaFunction>).status);
      } else if (plural === lambdaWorkers.plural || (plural === lambdaVersions.plural && verb !== 'patch')) {
        this.#writes.push(`${verb} ${plural === lambdaVersions.plural ? 'version ' : ''}${name}`);
      }
    };
  }

  get owner(): LambdaFunction {
    return this.cluster.get(lambdaFunctions, parseKeyText(KEY)) ?? functionFixture();
  }

  /** Workers that are not being deleted. */
  get workers(): readonly LambdaWorker[] {
    return this.cluster.all(lambdaWorkers).filter(isLiving);
  }

  get versions(): readonly LambdaVersion[] {
    return this.cluster.all(lambdaVersions);
  }

  get revisions(): readonly ControllerRevision[] {
    return this.cluster.all(controllerRevisions);
  }

  worker(name: string): LambdaWorker {
    const found = this.cluster.get(lambdaWorkers, { namespace: 'default', name });
    if (found === undefined) {
      throw new Error(`there is no worker ${name}`);
    }
    return found;
  }

  /** How many workers there are of each image, by its tag. */
  images(): Readonly<Record<string, number>> {
    const tags = this.workers.map(({ spec }) => spec.image.slice(spec.image.lastIndexOf(':')));
    return Object.fromEntries([...Map.groupBy(tags, (tag) => tag)].map(([tag, { length }]) => [tag, length]));
  }

  /** Writes a function as its user does, who leaves the status alone. */
  apply(wish: LambdaFunction): void {
    const { metadata, status } = this.cluster.get(lambdaFunctions, objectKey(wish)) ?? wish;
    const next = { ...wish, metadata: { ...metadata, ...wish.metadata } };
    this.cluster.put(lambdaFunctions, status === undefined ? next : { ...next, status });
  }

  remove(name: string): void {
    this.cluster.remove(lambdaFunctions, { namespace: 'default', name });
  }

  /** Takes all objects of a kind away. */
  clear(type: ResourceType<KubeObject>): void {
    for (const object of this.cluster.all(type)) {
      this.cluster.remove(type, objectKey(object));
    }
  }

  /** Has an agent report the status of a worker with its present spec: ready, where nothing else is said. */
  report(worker: LambdaWorker, status: Partial<LambdaWorkerStatus> = {}): void {
    const { generation } = worker.metadata;
    const ready = { ...ownedFixture(this.owner, 0).status, phase: 'Running' } as const;
    this.cluster.put(lambdaWorkers, {
      ...worker,
      status: { ...ready, ...status, observedGeneration: generation ?? 1 },
    });
  }

  /** Has the agents of the workers whose image ends so report these conditions. */
  tell(image: string, conditions: NonNullable<LambdaWorkerStatus['conditions']>): void {
    for (const worker of this.workers.filter(({ spec }) => spec.image.endsWith(image))) {
      this.report(worker, { conditions });
    }
  }

  /** Has agents make workers ready as their spec wishes, and end those that are deleted. */
  settle(which: (worker: LambdaWorker) => boolean = () => true, more: Partial<LambdaWorkerStatus> = {}): void {
    for (const worker of this.cluster.all(lambdaWorkers).filter(which)) {
      if (isLiving(worker)) {
        this.report(worker, more);
      } else {
        this.cluster.remove(lambdaWorkers, objectKey(worker));
      }
    }
  }

  /** A function all of whose workers are ready, at rest. */
  async begin(owner: LambdaFunction): Promise<void> {
    this.apply(owner);
    for (let round = 0; round < 3; round += 1) {
      await this.look();
      this.settle();
    }
    await this.look();
    this.written();
  }

  /** One look at the function, and then one at its template that is to be kept. */
  async look() {
    const { requeueAfterMs: first } = await this.controller.reconcile(KEY, {});
    const { requeueAfterMs: second } = await this.controller.keepTemplate(KEY, {});
    const waits = [first, second].filter((wait) => wait !== undefined);
    return waits.length === 0 ? {} : { requeueAfterMs: Math.min(...waits) };
  }

  /** Writes of workers, and those that make and end versions, since the last question. */
  written(): readonly string[] {
    return this.#writes.splice(0);
  }

  /** Requests by verb and kind, as `get lambdaworkers`, since the last question. */
  requests(): readonly string[] {
    return this.cluster.requests.splice(0).map(({ plural, verb }) => `${verb} ${plural}`);
  }

  /** Refuses requests by verb and kind, or verb and name, as `delete hello-latest-2`, until the function returned is called. */
  refuse(what: string, error: ApiError = apiError('Forbidden', 403)): () => void {
    return this.cluster.refuse(
      ({ name, plural, verb }) => [`${verb} ${plural}`, `${verb} ${name}`].includes(what),
      error,
    );
  }

  /** From now on the watches of these kinds tell of changes when {@link FunctionLab.show} is called. */
  lag(...kinds: readonly Kind[]): void {
    this.#lagging = kinds;
    for (const kind of kinds) {
      this.caches[kind].setLagging(true);
    }
  }

  /** Has the watches tell of all that has changed. */
  show(): void {
    for (const cache of Object.values(this.caches)) {
      cache.show();
    }
  }

  /** Has another controller lead, as it does once the writes of the one before have come or never will. */
  changeLeader(): void {
    this.cluster.arrive();
    this.caches = this.#watch();
    this.controller = this.#start();
  }

  #watch() {
    const caches = {
      functions: this.cluster.informer(lambdaFunctions, { [CALLED_INDEX]: calledIndex }),
      workers: this.cluster.informer(lambdaWorkers, { [OWNER_INDEX]: ownerIndex }, transformWorker),
      versions: this.cluster.informer(lambdaVersions, { [OWNER_INDEX]: ownerIndex, [ORPHAN_INDEX]: orphanIndex }),
      namespaces: this.cluster.informer(namespaces),
    };
    for (const kind of this.#lagging) {
      caches[kind].setLagging(true);
    }
    return caches;
  }

  #start(): FunctionController {
    const { namespaces: labelled, ...caches } = this.caches;
    const writes = new OwnWrites(this.cluster.client, [
      { type: lambdaWorkers, informer: caches.workers },
      { type: lambdaVersions, informer: caches.versions },
      { type: lambdaFunctions, informer: caches.functions },
    ]);
    return new FunctionController({
      ...caches,
      client: writes.client,
      settle: (key, call) => writes.settle(key, call),
      urls: { domain: 'fn.example.com', namespaces: labelled },
      events: {
        record: ({ note, reason }) => {
          this.events.push(`${reason}: ${note}`);
        },
      },
      load: { calls: () => this.calls, isHeard: () => this.isHeard },
      clock: this.clock,
      logger: silentLogger(),
      metrics: {},
    });
  }
}

export function apiError(code: 'BadRequest' | 'Forbidden' | 'Unreachable', status?: number): ApiError {
  return new ApiError(`not so: ${code}`, status === undefined ? { code } : { code, status });
}
