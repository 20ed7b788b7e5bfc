import type { ErrorCode } from '../common/error-codes.ts';
import type { HealthReason } from '../common/health.ts';

/** One entry of `status.conditions`, in the usual form. */
export interface Condition {
  readonly type: string;
  readonly status: ConditionStatus;
  readonly observedGeneration?: number;
  /** RFC 3339; when `status` last changed. */
  readonly lastTransitionTime: string;
  readonly reason: string;
  readonly message: string;
}

export type ConditionStatus = 'True' | 'False' | 'Unknown';

/** Words of a writer about one condition of any type. */
export interface Verdict<Reason extends string = string> {
  readonly status: ConditionStatus;
  readonly reason: Reason;
  readonly message: string;
  /** Present where the words are about a generation that may be an earlier one. */
  readonly observedGeneration?: number;
}

/** Verdicts by the types of their conditions; a type without one has no condition. */
export type Verdicts<Type extends string = string> = { readonly [T in Type]?: Verdict | undefined };

export function yes<Reason extends string>(reason: Reason, message: string): Verdict<Reason> {
  return { status: 'True', reason, message };
}

export function no<Reason extends string>(reason: Reason, message: string): Verdict<Reason> {
  return { status: 'False', reason, message };
}

export function undecided<Reason extends string>(reason: Reason, message: string): Verdict<Reason> {
  return { status: 'Unknown', reason, message };
}

/** Types of the conditions of a LambdaWorker, with their writers. */
export const workerConditions = {
  /** Controller: whether a node was found. */
  scheduled: 'Scheduled',
  /** Agent: whether the image is on the node. */
  imageReady: 'ImageReady',
  /** Agent: whether the attachment is there. */
  networkReady: 'NetworkReady',
  /** Agent, and the controller while no agent has the worker or its node is lost: whether it is as its spec wishes. */
  ready: 'Ready',
  /** Agent, and the controller before there was one: what keeps it from being ready passes by itself; only while True. */
  reconciling: 'Reconciling',
  /** Writers as above: the cause lasts until somebody changes something; only while True. */
  stalled: 'Stalled',
  /** Agent: whether a call would be answered. Its last word while Ready is the controller's, as of a lost node. */
  callable: 'Callable',
  /** Agent: whether the generation asked for is the one that serves. */
  upToDate: 'UpToDate',
  /** Agent: whether the worker ran into a limit; only there when it did. */
  limitsReached: 'LimitsReached',
  /** Agent: whether the image runs another handler than spec.handler; only there when it does. */
  handlerIgnored: 'HandlerIgnored',
  /** Agent: False where the worker breaks the policy of workers; only there when it does. */
  withinPolicy: 'WithinPolicy',
  /** Agent: whether nothing of a worker that is being deleted is left on the node. */
  cleanedUp: 'CleanedUp',
} as const;

/** Types of the conditions of a LambdaFunction beside Ready, Reconciling and Stalled. The controller writes all. */
export const functionConditions = {
  /** Whether the function may be called by URL; only there with spec.url. */
  urlServed: 'UrlServed',
  /** False where an older LambdaFunction has the name for callers; only there then. */
  nameHeld: 'NameHeld',
  /** True where workers have failed; only there then. A function may be Ready beside. */
  degraded: 'Degraded',
  /** False where scaling goes by no calls, since no gateway tells of them; only there then, in the mode Auto. */
  scalingActive: 'ScalingActive',
} as const;

/** Types of the conditions of a LambdaNode, with their writers; where none is named, the agent. */
export const nodeConditions = {
  /** Agent, and the controller while nothing is heard of the agent. */
  ready: 'Ready',
  /** Agent: as of a worker. */
  reconciling: 'Reconciling',
  /** Agent: as of a worker. */
  stalled: 'Stalled',
  containerdReady: 'ContainerdReady',
  networkReady: 'NetworkReady',
  /** Only there once spec.retired is set: True when nothing of ESB is left on the node. */
  retired: 'Retired',
  /** Controller: the node is silent, and its workers stay for now; only there while it is True. */
  unreachable: 'Unreachable',
  /** Controller: the node is silent, and its workers are served elsewhere; only there while it is True. */
  lost: 'Lost',
  /** Controller: the workers of the node leave it; only there while it is True. */
  draining: 'Draining',
  /** Controller: the memory of the node is not reserved for workers; only there while it is True. */
  unheld: 'Unheld',
} as const;

/** Types of the conditions of a LambdaNode that the controller alone writes. */
export const nodeStateConditions: readonly string[] = [
  nodeConditions.unreachable,
  nodeConditions.lost,
  nodeConditions.draining,
  nodeConditions.unheld,
];

/** Reasons of the conditions of a LambdaNode that the controller writes. */
export interface NodeStateReasons {
  readonly Ready: 'NodeUnreachable';
  readonly Unreachable: 'AgentStarting' | 'ManyUnreachable' | 'NoNodeHeard' | 'RateLimited';
  readonly Lost: 'LeaseExpired';
  readonly Draining: 'WorkersLeave';
  readonly Unheld: 'MemoryNotReserved';
}

/** Reasons of each condition of a worker, beside the codes of errors. `docs/reference/reasons.md` explains each. */
export interface WorkerReasons {
  readonly Scheduled:
    | 'Assigned'
    | 'NoNodes'
    | 'NoneReady'
    | 'NoneTolerated'
    | 'AllCordoned'
    | 'NoneHeld'
    | 'NoneMatches'
    | 'NoneFits'
    | 'QuotaExceeded'
    | 'SpreadUnmet'
    | 'WrongArchitecture'
    | 'PinnedNodeMissing'
    | 'PinnedNodeUnfit';
  readonly ImageReady: 'Present' | 'Pulling';
  readonly NetworkReady: 'Attached';
  readonly Ready:
    | 'Running'
    | 'Replacing'
    | 'ReplacementFailed'
    | 'Paused'
    | 'PausedByOwner'
    | 'Unassigned'
    | 'Absent'
    | 'RemovedIdle'
    | 'Resolving'
    | 'NodeFull'
    | 'NodeLost'
    | 'QuotaExceeded'
    | 'Reassigned'
    | 'CrashLoopBackOff'
    | 'WarmUpFailed'
    | 'Creating'
    | 'Failed'
    | 'Pending'
    | 'Restarting'
    | 'Terminating'
    | 'Unknown';
  readonly UpToDate: 'Absent' | 'NodeFull' | 'QuotaExceeded' | 'Replacing' | 'ReplacementFailed' | 'UpToDate';
  readonly LimitsReached: 'LoadTimeout' | 'OutOfMemory' | 'ProcessLimit' | 'RuntimeApiAbused';
  readonly HandlerIgnored: 'HandlerInImage';
  readonly WithinPolicy: 'MadeBeforePolicy' | 'PolicyRefused';
  readonly CleanedUp: 'CleanedUp' | 'Removing';
}

/** Reasons of the conditions of a LambdaFunction, beside those of a worker that keeps it from being ready. */
export interface FunctionReasons {
  readonly Ready:
    | 'NoWorkers'
    | 'ProgressDeadlineExceeded'
    | 'Progressing'
    | 'SettingsRefused'
    | 'Terminating'
    | 'UpToDate'
    | 'VersionMissing'
    | 'VersionRefused'
    | 'WorkerRefused';
  readonly UrlServed: 'NameTaken' | 'NoDomain' | 'PublicForbidden' | 'Served';
  readonly NameHeld: 'NameTaken';
  readonly Degraded: 'WorkersFailed';
  readonly ScalingActive: 'NoGatewayHeard';
}

/** Reasons of the conditions of a LambdaVersion, beside those of a worker that keeps it from being ready. */
export interface VersionReasons {
  readonly Ready: 'NoWorkers' | 'Progressing' | 'UpToDate' | 'WorkerRefused';
}

/** Reason of any condition of a worker that is no code of an error. */
export type WorkerReason = WorkerReasons[keyof WorkerReasons];

/** How the process of a worker ended unasked. */
export type TerminationReason = 'Completed' | 'Error' | 'OOMKilled' | 'RuntimeApiAbused';

/** Reasons of the Events that the controller writes. */
export type EventReason =
  | 'Assigned'
  | 'ChangeLost'
  | 'CleanupSkipped'
  | 'DrainCalledOff'
  | 'Drained'
  | 'Draining'
  | 'FailedScheduling'
  | 'HoldRefused'
  | 'NodeLost'
  | 'NodeUnreachable'
  | 'ProgressDeadlineExceeded'
  | 'Published'
  | 'Reassigned'
  | 'RevisionRefused'
  | 'Scaled'
  | 'SettingsRefused'
  | 'Unassigned'
  | 'VersionRefused'
  | 'WorkerRefused';

/** Reasons of the Events that agents write, each about a worker. */
export type AgentEventReason =
  | 'CallTimedOut'
  | 'Crashed'
  | 'LoadTimeout'
  | 'OOMKilled'
  | 'OutOfMemory'
  | 'ProcessLimit'
  | 'PullFailed'
  | 'Pulled'
  | 'ReplacementFailed'
  | 'RuntimeApiAbused'
  | 'RuntimeExited'
  | 'StartFailed';

/** Reasons of a worker's UpToDate condition that stand for a change under way, as opposed to one that failed. */
export const changingReasons: ReadonlySet<string> = new Set<WorkerReason>([
  'Replacing',
  'Pending',
  'Pulling',
  'Creating',
  'Terminating',
  'NodeFull',
  'Unknown',
]);

/**
 * Reasons that last, in all likelihood, until somebody changes the resource, its image, a Secret or the cluster, although
 * most are tried again. All others pass by themselves: a node or registry comes back, room is made.
 */
const lastingReasons: ReadonlySet<string> = new Set<
  ErrorCode | FunctionReasons['Ready'] | HealthReason | TerminationReason | WorkerReason
>([
  'CrashLoopBackOff',
  'CreateFailed',
  'ExitedAtOnce',
  'ImageInvalid',
  'ImageNotFound',
  'ImagePullFailed',
  'ImageUnproven',
  'InitFailed',
  'MemoryTooSmall',
  'NetworkConfigInvalid',
  'NoEntrypoint',
  'NoneMatches',
  'NotListening',
  'PinnedNodeMissing',
  'PluginMissing',
  'PolicyRefused',
  'ProgressDeadlineExceeded',
  'PullSecretForbidden',
  'QuotaExceeded',
  'RuntimeApiAbused',
  'RuntimeTooOld',
  'SecretForbidden',
  'SecretMissing',
  'SettingsRefused',
  'SnapshotterMissing',
  'StartFailed',
  'StateFolderMissing',
  'SubnetCollision',
  'SubnetTooSmall',
  'UserNamespacesUnsupported',
  'VersionMissing',
  'VersionRefused',
  'WarmUpFailed',
  'WorkerRefused',
]);

/** Whether a reason lasts until somebody changes something. */
export function isLasting(reason: string): boolean {
  return lastingReasons.has(reason);
}

/**
 * Verdict on what becomes of an object that is not ready, in the words of kstatus. None where the state is not known.
 *
 * @param cause what keeps the object from being ready, where the reason of Ready is wider
 */
export function progressOf(
  { message, reason, status }: Verdict,
  cause: string = reason,
): { readonly Reconciling?: Verdict; readonly Stalled?: Verdict } {
  if (status !== 'False') {
    return {};
  }
  return isLasting(cause) ? { Stalled: yes(cause, message) } : { Reconciling: yes(reason, message) };
}

/**
 * Whether calls of a worker are answered. Agents before the condition `Callable` tell that by `Ready`, and controllers
 * before it give their last word about a lost node there alone.
 */
export function isCallable(
  conditions: readonly { readonly type: string; readonly status: string; readonly reason: string }[] | undefined,
): boolean {
  const ready = findCondition(conditions, workerConditions.ready);
  const callable = findCondition(conditions, workerConditions.callable);
  const isControllers = isControllersWord(ready) || isControllersWord(callable);
  return (isControllers ? ready : (callable ?? ready))?.status === 'True';
}

/** Whether a condition of an assigned worker is the controller's: an agent that knows nothing says so in other words. */
export function isControllersWord(
  condition: { readonly status: string; readonly reason: string } | undefined,
): boolean {
  return condition?.status === 'Unknown' && condition.reason !== ('Unknown' satisfies WorkerReason);
}

/** Whether the controller has the last word on the readiness of a node, since its agent was silent. */
export function isReadinessTaken(
  conditions: readonly { readonly type: string; readonly reason: string }[] | undefined,
): boolean {
  const ready = findCondition(conditions, nodeConditions.ready);
  return ready?.reason === ('NodeUnreachable' satisfies NodeStateReasons['Ready']);
}

export function findCondition<T extends { readonly type: string }>(
  conditions: readonly T[] | undefined,
  type: string,
): T | undefined {
  return conditions?.find((condition) => condition.type === type);
}

/** Whether there is a condition of this type whose status is True. */
export function isTrue(
  conditions: readonly { readonly type: string; readonly status: string }[] | undefined,
  type: string,
): boolean {
  return findCondition(conditions, type)?.status === 'True';
}

/** Most characters of a message in the schemas. */
export const MAX_MESSAGE_LENGTH = 32_768;

/** Whether two verdicts say the same, whichever generation they are about. */
export function isSameVerdict(one: Verdict | undefined, other: Verdict | undefined): boolean {
  return one?.status === other?.status && one?.reason === other?.reason && one?.message === other?.message;
}

/** The object that conditions are about. */
interface ConditionsOwner {
  /** Conditions as they are now. */
  readonly present: readonly Condition[] | undefined;
  /** Generation that verdicts are about which name none. */
  readonly generation: number | undefined;
  /** Wall-clock milliseconds. */
  readonly now: number;
}

/**
 * Conditions to write, by the conventions of the Kubernetes API: lastTransitionTime stays as long as the status does.
 * Messages are cut to {@link MAX_MESSAGE_LENGTH}.
 */
export function conditionsOf(verdicts: Verdicts, { generation, now, present }: ConditionsOwner): Condition[] {
  return Object.entries(verdicts).flatMap(([type, verdict]): Condition[] => {
    if (verdict === undefined) {
      return [];
    }
    const { message, observedGeneration = generation, reason, status } = verdict;
    const before = findCondition(present, type);
    return [
      {
        type,
        status,
        reason,
        message: message.slice(0, MAX_MESSAGE_LENGTH),
        ...(observedGeneration === undefined ? {} : { observedGeneration }),
        lastTransitionTime:
          before?.status === status ? before.lastTransitionTime : `${new Date(now).toISOString().slice(0, 19)}Z`,
      },
    ];
  });
}
