import { findCondition, type WorkerReason, workerConditions } from '../../api/condition.ts';
import { functionOwnerOf } from '../../api/lambda-function.ts';
import {
  functionNameOf,
  imagePullPolicyOf,
  type LambdaWorker,
  type LambdaWorkerSpecVariable,
  loggingOf,
  perWorkerOf,
  runtimeInterfaceOf,
  STARTUP_SECONDS,
} from '../../api/lambda-worker.ts';
import { shapeHashOf } from '../../api/shape-hash.ts';
import { exceedsGrant, type Granted, resourcesOf } from '../../api/worker-resources.ts';
import type { DesiredVariable, DesiredWorker } from '../model/desired-worker.ts';

/**
 * The worker that a LambdaWorker asks the node `nodeName` for; undefined when the resource is not assigned there.
 * Defaults are those of the schema, for objects that the schema was never applied to.
 */
export function desiredFromResource(worker: LambdaWorker, nodeName: string): DesiredWorker | undefined {
  const { metadata, spec, status } = worker;
  const assignment = status?.assignment;
  if (assignment === undefined || assignment.nodeName !== nodeName || metadata.uid === undefined) {
    return undefined;
  }
  const { pauseAfterSeconds, removeAfterSeconds } = spec.idlePolicy ?? {};
  return {
    identity: {
      namespace: metadata.namespace ?? 'default',
      name: metadata.name,
      uid: metadata.uid,
      functionName: functionNameOf(worker),
    },
    generation: metadata.generation ?? 1,
    epoch: assignment.epoch,
    ...(assignment.share === undefined ? {} : { share: assignment.share }),
    ...grantWait(worker, assignment.granted),
    shapeHash: shapeHashOf(worker),
    ...(spec.version === undefined ? {} : { version: spec.version }),
    image: spec.image,
    imagePullPolicy: imagePullPolicyOf(worker),
    imagePullSecrets: (spec.imagePullSecrets ?? []).map(({ name }) => name),
    command: spec.command ?? [],
    args: spec.args ?? [],
    ...(spec.handler === undefined ? {} : { handler: spec.handler }),
    env: (spec.env ?? []).map(desiredVariable),
    ...resourcesOf(worker),
    readOnlyRootFilesystem: spec.readOnlyRootFilesystem ?? true,
    timeoutSeconds: spec.timeoutSeconds ?? 3,
    ...(perWorkerOf(worker) === 1 ? {} : { perWorker: perWorkerOf(worker) }),
    ...(spec.logging === undefined ? {} : { logging: loggingOf(spec.logging) }),
    port: spec.port ?? 8080,
    networkMode: spec.network?.mode ?? 'Bridge',
    ...(spec.network?.egress === undefined ? {} : { egress: spec.network.egress }),
    runtimeInterface: runtimeInterfaceOf(worker),
    startupTimeoutSeconds: spec.startup?.timeoutSeconds ?? STARTUP_SECONDS,
    ...(spec.warmUp === undefined ? {} : { warmUpPayload: JSON.stringify(spec.warmUp.payload ?? {}) }),
    restingState: spec.desiredState ?? 'Running',
    ...(pauseAfterSeconds === undefined ? {} : { pauseAfterSeconds }),
    ...(removeAfterSeconds === undefined ? {} : { removeAfterSeconds }),
    wakePolicy: spec.wakePolicy ?? 'OnInvoke',
    terminationGraceSeconds: spec.terminationGracePeriodSeconds ?? 10,
    // A LambdaFunction takes workers by itself, which no caller is to notice.
    ...(functionOwnerOf(metadata) === undefined ? {} : { letsCallsEnd: true as const }),
    deleting: metadata.deletionTimestamp !== undefined,
    ...(status?.lastInvocationTime === undefined ? {} : { lastInvocationTime: status.lastInvocationTime }),
    ...(status?.observedInvocationTime === undefined ? {} : { observedInvocationTime: status.observedInvocationTime }),
  };
}

/** The controller tells by `Scheduled` that the quotas refuse. */
function grantWait(
  worker: LambdaWorker,
  granted: Granted | undefined,
): Pick<DesiredWorker, 'awaitsGrant' | 'grantRefused'> {
  if (granted === undefined || !exceedsGrant(worker, granted)) {
    return {};
  }
  const scheduled = findCondition(worker.status?.conditions, workerConditions.scheduled);
  const isRefused = scheduled?.reason === ('QuotaExceeded' satisfies WorkerReason);
  return { awaitsGrant: true, ...(isRefused ? { grantRefused: true } : {}) };
}

function desiredVariable(variable: LambdaWorkerSpecVariable): DesiredVariable {
  const reference = variable.valueFrom?.secretKeyRef;
  if (reference === undefined) {
    return { name: variable.name, value: variable.value ?? '' };
  }
  const { name, key, optional } = reference;
  return { name: variable.name, secret: { name, key, ...(optional === true ? { optional } : {}) } };
}
