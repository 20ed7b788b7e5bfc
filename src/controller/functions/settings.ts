import { isDeepStrictEqual } from 'node:util';
import { hasSettings, type LambdaFunction, SETTINGS_ANNOTATION, withSettings } from '../../api/lambda-function.ts';
import { type LambdaWorker, lambdaWorkers } from '../../api/lambda-worker.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { mergePatch } from '../../kube/api/merge-patch.ts';
import { objectKey } from '../../kube/api/object-key.ts';
import { isOwned } from './owner-index.ts';
import { isLiving, livingOf } from './readiness.ts';
import type { WorkerChangerOptions } from './worker-changer.ts';
import type { WorkerGroup } from './worker-groups.ts';
import { inTurns, type WriteOutcome } from './write-outcome.ts';

type SettingsGroup = Pick<WorkerGroup, 'source'>;

/**
 * A worker with the settings of its function; undefined where it has them. Settings are none of the container's, so that a
 * change goes to all workers at once. A function that has none any more leaves its workers those of the template.
 *
 * @param groups of the function; a worker of none of them is left alone
 */
export function changedBySettings(
  owner: LambdaFunction,
  groups: readonly SettingsGroup[],
  worker: LambdaWorker,
): LambdaWorker | undefined {
  const { metadata, spec } = worker;
  const { [SETTINGS_ANNOTATION]: mark, ...annotations } = metadata.annotations ?? {};
  const source = groups.find((group) => group.source.version === spec.version)?.source;
  const isOwn = hasSettings(owner);
  if (source === undefined || (!isOwn && mark === undefined)) {
    return undefined;
  }
  const { asyncInvoke, concurrency } = withSettings(owner, source.template.spec);
  const isSame =
    spec.concurrency?.reserved === concurrency?.reserved && isDeepStrictEqual(spec.asyncInvoke, asyncInvoke);
  if (isSame && isOwn === (mark !== undefined)) {
    return undefined;
  }
  const { asyncInvoke: _former, concurrency: own, ...rest } = spec;
  const { reserved: _taken, ...calls } = own ?? { queueDepth: 100 };
  const reserved = concurrency?.reserved === undefined ? {} : { reserved: concurrency.reserved };
  return {
    ...worker,
    metadata: { ...metadata, annotations: { ...annotations, ...(isOwn ? { [SETTINGS_ANNOTATION]: 'true' } : {}) } },
    spec: {
      ...rest,
      ...(own === undefined && concurrency?.reserved === undefined ? {} : { concurrency: { ...calls, ...reserved } }),
      ...(asyncInvoke === undefined ? {} : { asyncInvoke }),
    },
  };
}

/** Workers of a function that are to get its settings. */
export function lackingSettings(
  owner: LambdaFunction,
  groups: readonly SettingsGroup[],
  owned: readonly LambdaWorker[],
): readonly LambdaWorker[] {
  return livingOf(owned).filter((worker) => changedBySettings(owner, groups, worker) !== undefined);
}

/**
 * Gives workers of a function its settings, as long as they are as the cache shows them now: one that has got a template in
 * the same look has them with it.
 */
export async function applySettings(
  { client, workers }: WorkerChangerOptions,
  owner: LambdaFunction,
  groups: readonly SettingsGroup[],
  due: readonly LambdaWorker[],
  call: CallOptions,
): Promise<WriteOutcome[]> {
  return await inTurns(due, async (seen) => {
    const worker = workers.cache.get(objectKey(seen));
    const isOurs = worker !== undefined && isOwned(worker, owner) && isLiving(worker);
    const next = isOurs ? changedBySettings(owner, groups, worker) : undefined;
    if (isOurs && next !== undefined) {
      const { annotations = {}, resourceVersion, uid } = worker.metadata;
      const changes = { annotations: mergePatch(annotations, next.metadata.annotations ?? {}) };
      const body = { metadata: { uid, resourceVersion, ...changes }, spec: mergePatch(worker.spec, next.spec) };
      await client.patch(lambdaWorkers, objectKey(worker), { kind: 'merge', body }, call);
    }
    return undefined;
  });
}
