import { changingReasons, findCondition, isTrue, type WorkerReason, workerConditions } from '../../api/condition.ts';
import {
  functionOwnerOf,
  type LambdaFunction,
  presentTemplateOf,
  TEMPLATE_ANNOTATION,
} from '../../api/lambda-function.ts';
import type { LambdaVersion } from '../../api/lambda-version.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { unreachable } from '../../common/errors.ts';

/** Lambda's words for why a function cannot be started, by the reason of a condition. */
const failureCodes: ReadonlyMap<string, string> = new Map([
  ['ImageNotFound', 'InvalidImage'],
  ['ImageInvalid', 'InvalidImage'],
  ['ImageWrongPlatform', 'InvalidImage'],
  ['NoEntrypoint', 'InvalidImage'],
  ['ImagePullFailed', 'ImageAccessDenied'],
  ['ImageUnproven', 'ImageAccessDenied'],
  ['PullSecretForbidden', 'ImageAccessDenied'],
  ['SecretForbidden', 'InsufficientRolePermissions'],
  ['SecretMissing', 'InvalidConfiguration'],
  ['MemoryTooSmall', 'InvalidConfiguration'],
  ['CrashLoopBackOff', 'FunctionError'],
  ['ExitedAtOnce', 'FunctionError'],
  ['NotListening', 'FunctionError'],
  ['WarmUpFailed', 'FunctionError'],
]);

/** Codes for what cannot be initialized, by the type of the error; any other type is the runtime's. */
const initCodes: ReadonlyMap<string, string> = new Map([
  ['Runtime.InvalidEntrypoint', 'FunctionError.InvalidEntryPoint'],
  ['Sandbox.Timedout', 'FunctionError.InitTimeout'],
  ['Extension.Crash', 'FunctionError.ExtensionInitError'],
  ['Extension.InitError', 'FunctionError.ExtensionInitError'],
  ['Extension.LaunchError', 'FunctionError.ExtensionInitError'],
]);

/** A condition's word on what is wrong. */
export interface Failure {
  readonly reason: string;
  readonly message: string;
}

/** Why one worker is not up to the newest spec. */
interface Update extends Failure {
  readonly kind: 'InProgress' | 'Failed';
}

/** Members of a description that tell whether a function can be called. */
export interface StateMembers {
  readonly State: 'Active' | 'Pending' | 'Inactive' | 'Failed';
  readonly StateReason?: string;
  readonly StateReasonCode?: string;
}

/** Members of a description that tell how far a change is. */
export interface UpdateMembers {
  readonly LastUpdateStatus: 'Successful' | 'InProgress' | 'Failed';
  readonly LastUpdateStatusReason?: string;
  readonly LastUpdateStatusReasonCode?: string | undefined;
}

const pending: StateMembers = {
  State: 'Pending',
  StateReason: 'The function is being created.',
  StateReasonCode: 'Creating',
};

const idle: StateMembers = {
  State: 'Inactive',
  StateReason: 'Every worker is kept at rest by its owner (wakePolicy: Never), or there is none.',
  StateReasonCode: 'Idle',
};

/**
 * A function is active when one of its workers can be called, even if paused or absent. SDKs wait for `Active` after a
 * creation and for `Successful` after a change.
 */
export function stateOf(workers: readonly LambdaWorker[]): StateMembers {
  const states = workers.map(workerState);
  if (states.includes('Active')) {
    return { State: 'Active' };
  }
  if (states.includes('Pending')) {
    return pending;
  }
  return states.includes('Inactive') ? idle : failed(failureOf(workers));
}

function failed(failure: Failure | undefined): StateMembers {
  return failure === undefined
    ? { State: 'Failed', StateReason: 'No worker can be started.', StateReasonCode: 'InternalError' }
    : {
        State: 'Failed',
        StateReason: `${failure.reason}: ${failure.message}`,
        StateReasonCode: failureCode(failure),
      };
}

/** One worker that cannot be changed fails the update, and one that is not there yet holds it up. */
export function updateOf(workers: readonly LambdaWorker[]): UpdateMembers {
  const updates = workers.map(workerUpdate);
  return membersOf(
    updates.find((update) => update?.kind === 'Failed') ?? updates.find((update) => update !== undefined),
  );
}

/**
 * State of $LATEST of a LambdaFunction. A function that is being made is pending although no worker is there yet, and
 * one is active only where this gateway can call a worker of it.
 *
 * @param workers those of $LATEST
 */
export function functionStateOf(
  { metadata, spec, status }: LambdaFunction,
  workers: readonly LambdaWorker[],
): StateMembers {
  if (workers.some(isActive)) {
    return stateOf(workers);
  }
  const isCurrent = status?.observedGeneration === metadata.generation;
  const stalled = findCondition(status?.conditions, workerConditions.stalled);
  if (stalled?.status === 'True' && isCurrent) {
    return failed(stalled);
  }
  if (workers.length > 0) {
    return stateOf(workers);
  }
  if (spec.scaling?.mode === 'Fixed' && spec.scaling.minWorkers === 0) {
    return idle;
  }
  // Without a worker only where workers are made once there are calls.
  return isCurrent && isTrue(status?.conditions, workerConditions.ready) && spec.scaling?.minWorkers === 0
    ? { State: 'Active' }
    : pending;
}

/**
 * How far a change of a LambdaFunction is, by its conditions. Those of an alias or a version that holds the function up
 * are none of $LATEST.
 *
 * @param workers those of $LATEST
 */
export function functionUpdateOf(
  owner: LambdaFunction,
  workers: readonly LambdaWorker[],
  templateHash?: string,
): UpdateMembers {
  const { metadata, spec, status } = owner;
  const { conditions, observedGeneration } = status ?? {};
  const ready = findCondition(conditions, workerConditions.ready);
  if (observedGeneration !== metadata.generation || ready === undefined) {
    const message = 'the controller has not acted on the newest spec yet';
    return membersOf({ kind: 'InProgress', reason: 'Changing', message });
  }
  const hash = presentTemplateOf(owner, templateHash);
  const owned = workers.filter((worker) => functionOwnerOf(worker.metadata)?.uid === metadata.uid);
  const isUpdated = owned.every((worker) => worker.metadata.annotations?.[TEMPLATE_ANNOTATION] === hash);
  const isWhole = owned.length >= Math.max(1, spec.scaling?.minWorkers ?? 1) && isUpdated;
  if (ready.status === 'True' || (isWhole && owned.every((worker) => workerUpdate(worker) === undefined))) {
    return membersOf(undefined);
  }
  const stalled = findCondition(conditions, workerConditions.stalled);
  return stalled?.status === 'True'
    ? membersOf({ kind: 'Failed', reason: stalled.reason, message: stalled.message })
    : membersOf({ kind: 'InProgress', reason: ready.reason, message: ready.message });
}

/** State of a version that was published: active once a worker of it was ready. */
export function versionStateOf({ status }: LambdaVersion): StateMembers {
  const state = status?.state ?? 'Pending';
  switch (state) {
    case 'Active':
      return { State: state };
    case 'Pending':
      return pending;
    case 'Failed':
      return failed(findCondition(status?.conditions, workerConditions.ready));
    default:
      return unreachable(state);
  }
}

function membersOf(update: Update | undefined): UpdateMembers {
  return update === undefined
    ? { LastUpdateStatus: 'Successful' }
    : {
        LastUpdateStatus: update.kind,
        LastUpdateStatusReason: `${update.reason}: ${update.message}`,
        LastUpdateStatusReasonCode: update.kind === 'Failed' ? failureCode(update) : undefined,
      };
}

function workerUpdate({ metadata, status }: LambdaWorker): Update | undefined {
  const { conditions, observedGeneration } = status ?? {};
  if (observedGeneration !== undefined && observedGeneration < (metadata.generation ?? 0)) {
    return { kind: 'InProgress', reason: 'Changing', message: 'no agent has acted on the newest spec yet' };
  }
  const upToDate = findCondition(conditions, workerConditions.upToDate);
  if (upToDate === undefined || upToDate.status === 'True') {
    return undefined;
  }
  const { message, reason } = upToDate;
  return { kind: changingReasons.has(reason) ? 'InProgress' : 'Failed', reason, message };
}

/** Lambda's word for a failure. Why a replacement failed stands before the first colon of its message. */
export function failureCode({ message, reason }: Failure): string {
  if (reason === ('ReplacementFailed' satisfies WorkerReason)) {
    const [, why = message, rest = ''] = /^(\w+): (.*)$/s.exec(message) ?? [];
    return failureCode({ reason: why, message: rest });
  }
  return reason === 'InitFailed' ? initCode(message) : (failureCodes.get(reason) ?? 'InternalError');
}

/** The message is that of an `InitFailedError`: a type, what was wrong, and the want of memory where there was one. */
function initCode(message: string): string {
  return message.includes('; the worker used more memory than its limit')
    ? 'FunctionError.InitResourceExhausted'
    : (initCodes.get(message.split(':', 1)[0] ?? '') ?? 'FunctionError.RuntimeInitError');
}

/** Whether calls of a worker are answered, as far as its resource tells. */
export function isActive(worker: LambdaWorker): boolean {
  return workerState(worker) === 'Active';
}

function workerState({ spec, status }: LambdaWorker): 'Active' | 'Pending' | 'Inactive' | 'Failed' {
  const phase = status?.phase;
  switch (phase) {
    case undefined:
    case 'Pending':
    case 'Pulling':
    case 'Creating':
      return 'Pending';
    case 'Running':
    case 'Pausing':
    case 'Resuming':
    case 'Terminating':
    case 'Unknown':
      return 'Active';
    case 'Paused':
    case 'Absent':
      return spec.wakePolicy === 'Never' ? 'Inactive' : 'Active';
    case 'Failed':
      return 'Failed';
    default:
      return unreachable(phase);
  }
}

function failureOf(workers: readonly LambdaWorker[]): Failure | undefined {
  for (const { status } of workers) {
    const failed = status?.conditions?.find(({ type, status: value }) => type === 'Ready' && value === 'False');
    if (failed !== undefined) {
      return failed;
    }
  }
  return undefined;
}
