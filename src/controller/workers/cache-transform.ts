import { workerConditions } from '../../api/condition.ts';
import { functionOwnerOf, SETTINGS_ANNOTATION, TEMPLATE_ANNOTATION } from '../../api/lambda-function.ts';
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

/** The LambdaFunction of a worker, and the template and the settings that it has from there; nothing of other owners. */
function membershipOf({ annotations, ownerReferences }: LambdaWorker['metadata']) {
  const ours = [TEMPLATE_ANNOTATION, SETTINGS_ANNOTATION].flatMap((name) => {
    const value = annotations?.[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return functionOwnerOf({ ownerReferences }) === undefined
    ? { annotations: undefined, ownerReferences: undefined }
    : { annotations: ours.length === 0 ? undefined : Object.fromEntries(ours), ownerReferences };
}

/**
 * A worker reduced to the fields that decisions depend on: an installation has many thousands of workers, with
 * environments and annotations that the controller does not need.
 */
export function transformWorker(worker: LambdaWorker): LambdaWorker {
  const { metadata, spec, status } = worker;
  return {
    metadata: defined({ ...metadata, labels: undefined, ...membershipOf(metadata) }),
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
