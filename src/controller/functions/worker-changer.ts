import { FUNCTION_LABEL, type LambdaFunction, lambdaFunctions, workerOf } from '../../api/lambda-function.ts';
import { type LambdaWorker, lambdaWorkers } from '../../api/lambda-worker.ts';
import { fieldManagers } from '../../api/name.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode } from '../../common/errors.ts';
import { objectKey } from '../../kube/api/object-key.ts';
import type { Informer, KubeClient } from '../../kube/api/types.ts';
import { isOwned } from './owner-index.ts';
import type { UpdateStep } from './plan.ts';
import { isLiving, isUpdated, isWorkerReady } from './readiness.ts';
import type { WorkerGroup } from './worker-groups.ts';
import { inTurns, outcomeOf, type WriteOutcome } from './write-outcome.ts';

export interface WorkerChangerOptions {
  readonly client: Pick<KubeClient, 'get' | 'patch'>;
  readonly workers: Pick<Informer<LambdaWorker>, 'cache'>;
}

/**
 * Gives workers the present template of their function.
 *
 * Workers that serve have turns. Each turn is written into `status.changing` of the function before the worker is changed,
 * with the resourceVersion of the function as a precondition: a worker that its agent has not reported may be changing, or
 * have got a setting that all workers get at once.
 */
export class WorkerChanger {
  readonly #options: WorkerChangerOptions;

  constructor(options: WorkerChangerOptions) {
    this.#options = options;
  }

  /** Changes a worker that does not serve, unless it has come to serve: it then waits for its turn. */
  async changeAtOnce(
    owner: LambdaFunction,
    groups: readonly WorkerGroup[],
    { worker }: UpdateStep,
    call: CallOptions,
  ): Promise<'behind' | undefined> {
    return await this.#change(owner, groups, worker.metadata.name, 'at once', call);
  }

  /**
   * Gives these workers their turns, and changes them.
   *
   * @returns the function with the turns, and the outcomes
   */
  async changeInTurn(
    owner: LambdaFunction,
    groups: readonly WorkerGroup[],
    steps: readonly UpdateStep[],
    call: CallOptions,
  ): Promise<{ readonly owner: LambdaFunction; readonly outcomes: readonly WriteOutcome[] }> {
    const names = steps.map(({ worker }) => worker.metadata.name);
    try {
      const written = await this.#giveTurns(owner, names, call);
      return {
        owner: written,
        outcomes: await inTurns(names, (name) => this.#change(owner, groups, name, 'turn', call)),
      };
    } catch (error) {
      return { owner, outcomes: [outcomeOf(error)] };
    }
  }

  /** Names of workers that had a turn and are not ready again. */
  changing({ metadata: { namespace }, status }: LambdaFunction): readonly string[] {
    return (status?.changing ?? []).filter((name) => {
      const worker = this.#options.workers.cache.get({ namespace, name });
      return worker !== undefined && !isWorkerReady(worker);
    });
  }

  /** Writes the template over the spec of a worker, as long as the worker is as the cache shows it. */
  async #change(
    owner: LambdaFunction,
    groups: readonly WorkerGroup[],
    name: string,
    when: 'at once' | 'turn',
    call: CallOptions,
  ): Promise<'behind' | undefined> {
    const { client, workers } = this.#options;
    const worker = workers.cache.get({ namespace: owner.metadata.namespace, name });
    const source = groups.find((group) => group.source.version === worker?.spec.version)?.source;
    const isOurs = worker !== undefined && isOwned(worker, owner) && isLiving(worker);
    if (!isOurs || source === undefined || isUpdated(worker, source.hash)) {
      return undefined;
    }
    if (when === 'at once' && isWorkerReady(worker)) {
      return 'behind';
    }
    const patch = { kind: 'json', body: templatePatch(worker, workerOf(owner, name, source)) } as const;
    try {
      await client.patch(lambdaWorkers, objectKey(worker), patch, call);
    } catch (error) {
      if (hasCode(error, 'Invalid') && !(await this.#isAsSeen(worker, call))) {
        return 'behind';
      }
      throw error;
    }
    return undefined;
  }

  /**
   * Whether a worker whose patch was refused is as the cache shows it. The API server applies a JSON patch before it compares
   * versions: one for labels that are gone meanwhile is Invalid, and no Conflict.
   */
  async #isAsSeen({ metadata }: LambdaWorker, call: CallOptions): Promise<boolean> {
    const present = await this.#options.client.get(lambdaWorkers, objectKey({ metadata }), call);
    return present?.metadata.resourceVersion === metadata.resourceVersion;
  }

  /** Writes down the turns, beside those of workers that are still changing. */
  async #giveTurns(owner: LambdaFunction, names: readonly string[], call: CallOptions): Promise<LambdaFunction> {
    const { resourceVersion, uid } = owner.metadata;
    const still = this.changing(owner).filter((name) => !names.includes(name));
    const body = { metadata: { uid, resourceVersion }, status: { changing: [...still, ...names] } };
    const patch = { kind: 'merge', body, fieldManager: fieldManagers.controller } as const;
    const options = { ...call, subresource: 'status' } as const;
    return await this.#options.client.patch(lambdaFunctions, objectKey(owner), patch, options);
  }
}

/**
 * The JSON patch that makes a worker as a function would make it now, and leaves other labels and annotations. A merge would
 * leave members of the spec that the template has no more: the cache, which has no whole spec, cannot name them.
 */
function templatePatch({ metadata }: LambdaWorker, made: LambdaWorker): readonly object[] {
  const { [FUNCTION_LABEL]: label = '' } = made.metadata.labels ?? {};
  return [
    // A precondition: an update to another version is a Conflict.
    { op: 'replace', path: '/metadata/resourceVersion', value: metadata.resourceVersion },
    ...additions('/metadata/labels', metadata.labels, { [FUNCTION_LABEL]: label }),
    ...additions('/metadata/annotations', metadata.annotations, made.metadata.annotations ?? {}),
    { op: 'replace', path: '/spec', value: made.spec },
  ];
}

/** Operations that add entries to those of a member that may be missing. */
function additions(
  path: string,
  present: Readonly<Record<string, string>> | undefined,
  wanted: Readonly<Record<string, string>>,
): readonly object[] {
  return present === undefined
    ? [{ op: 'add', path, value: wanted }]
    : Object.entries(wanted).map(([name, value]) => ({ op: 'add', path: `${path}/${name.replace('/', '~1')}`, value }));
}
