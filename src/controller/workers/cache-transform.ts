import { workerConditions } from '../../api/condition.ts';
import {
  FUNCTION_LABEL,
  functionOwnerOf,
  SETTINGS_ANNOTATION,
  TEMPLATE_ANNOTATION,
} from '../../api/lambda-function.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';

const conditionTypes: readonly string[] = [
  workerConditions.scheduled,
  workerConditions.ready,
  workerConditions.callable,
  workerConditions.reconciling,
  workerConditions.stalled,
  workerConditions.cleanedUp,
];

/** The entries whose value is not undefined. */
function defined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, part]) => part !== undefined)) as T;
}

/** The entries of these names; none where the object has entries of other names alone, and undefined where it has none. */
function some(entries: Readonly<Record<string, string>> | undefined, names: readonly string[]) {
  return entries && Object.fromEntries(Object.entries(entries).filter(([name]) => names.includes(name)));
}

/** The LambdaFunction of a worker, and what the worker has from there; nothing of other owners. */
function membershipOf({ annotations, labels, ownerReferences }: LambdaWorker['metadata']) {
  return functionOwnerOf({ ownerReferences }) === undefined
    ? { annotations: undefined, labels: undefined, ownerReferences: undefined }
    : {
        annotations: some(annotations, [TEMPLATE_ANNOTATION, SETTINGS_ANNOTATION]),
        labels: some(labels, [FUNCTION_LABEL]),
        ownerReferences,
      };
}

/**
 * A worker reduced to the fields that decisions depend on: an installation has many thousands of workers, with
 * environments and annotations that the controller does not need.
 */
export function transformWorker(worker: LambdaWorker): LambdaWorker {
  const { metadata, spec, status } = worker;
  return {
    metadata: defined({ ...metadata, ...membershipOf(metadata) }),
    spec: defined({
      ...spec,
      imagePullSecrets: undefined,
      command: undefined,
      args: undefined,
      handler: undefined,
      env: undefined,
      warmUp: undefined,
    }),
    ...(status === undefined
      ? {}
      : {
          status: defined({
            assignment: status.assignment,
            lastEpoch: status.lastEpoch,
            share: status.share,
            unfitArchitectures: status.unfitArchitectures,
            phase: status.phase,
            // For the digest that a version is published with.
            image: functionOwnerOf(metadata) === undefined ? undefined : status.image,
            observedGeneration: status.observedGeneration,
            conditions: status.conditions?.filter(({ type }) => conditionTypes.includes(type)),
          }),
        }),
  } as unknown as LambdaWorker;
}
