import type { LambdaWorker, LambdaWorkerSpec } from './lambda-worker.ts';

/** The settings for all calls of a function, with any of its workers. */
export interface FunctionSettings {
  readonly concurrency?: LambdaWorkerSpec['concurrency'] | undefined;
  readonly asyncInvoke?: LambdaWorkerSpec['asyncInvoke'] | undefined;
  readonly network?: Pick<NonNullable<LambdaWorkerSpec['network']>, 'egress'> | undefined;
}

/**
 * The worker whose settings are those of its function, versions included: the oldest of $LATEST, where there is one, and
 * the first by name within one second. An added worker does not change the settings of its function. Undefined where
 * there is no worker.
 */
export function speakerOf<T extends { readonly resource: LambdaWorker }>(workers: readonly T[]): T | undefined {
  return workers.reduce<T | undefined>(
    (best, worker) => (best === undefined || isBefore(worker.resource, best.resource) ? worker : best),
    undefined,
  );
}

function isBefore({ metadata: one, spec }: LambdaWorker, { metadata: other, spec: otherSpec }: LambdaWorker): boolean {
  const isLatest = spec.version === undefined;
  if (isLatest !== (otherSpec.version === undefined)) {
    return isLatest;
  }
  // RFC 3339 in UTC, as the API server writes it: its order as text is that of time.
  const [created = '', otherCreated = ''] = [one.creationTimestamp, other.creationTimestamp];
  return created === otherCreated ? one.name < other.name : created < otherCreated;
}
