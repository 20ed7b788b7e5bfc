import type { NodeReason } from '../src/agent/node/node-health.ts';
import type {
  AgentEventReason,
  EventReason,
  FunctionReasons,
  NodeStateReasons,
  TerminationReason,
  VersionReasons,
  WorkerReasons,
} from '../src/api/condition.ts';
import { ERROR_CODES } from '../src/common/error-codes.ts';
import type { HealthReason } from '../src/common/health.ts';
import { REASONS } from '../src/protocol/reasons.ts';

/**
 * Entry of one reason in the reference: the status of the condition or type of the Event, and the meaning.
 */
type Told = readonly [status: string, meaning: string];

/** One section of the reference. */
export interface ReasonSection {
  readonly title: string;
  readonly introduction: string;
  readonly rows: readonly (readonly [status: string, reason: string, meaning: string])[];
}

/** A section that explains each of `Reason`, none left out. */
function section<Reason extends string>(
  title: string,
  introduction: string,
  told: Readonly<Record<Reason, Told>>,
): ReasonSection {
  const rows = Object.entries<Told>(told);
  return { title, introduction, rows: rows.map(([reason, [status, meaning]]) => [status, reason, meaning]) };
}

const scheduled = section<WorkerReasons['Scheduled']>(
  'LambdaWorker: Scheduled',
  'Whether the controller found a node. Written by the controller.',
  {
    Assigned: ['True', 'the worker lives on the node of `status.assignment`'],
    NoNodes: ['False', 'there is no LambdaNode: no agent has registered yet'],
    NoneReady: ['False', 'there are nodes, and none is ready'],
    NoneTolerated: ['False', 'every ready node has a taint that `spec.tolerations` does not put up with'],
    AllCordoned: ['False', 'every node that would do is cordoned, being drained or retired'],
    NoneHeld: ['False', 'every node that would do has no room for its reservation'],
    SpreadUnmet: ['False', 'nodes would do, but for `spec.topologySpread`'],
    WrongArchitecture: [
      'False',
      'no node has a processor that the image is made for, as far as nodes have found; the message has the others',
    ],
    NoneMatches: ['False', 'no node has the labels of `spec.nodeSelector`'],
    NoneFits: ['False', 'nodes would do, but for their memory or number of workers; the message counts them'],
    QuotaExceeded: [
      'False',
      'a LambdaQuota of the namespace would be exceeded; the message has its name, and what is requested, used and allowed. A worker that is changed to ask for more than before stays on its node with what it had',
    ],
    PinnedNodeMissing: ['False', '`spec.nodeName` names no LambdaNode'],
    PinnedNodeUnfit: ['False', '`spec.nodeName` names a node that will not do; the message says why'],
  },
);

const image = section<WorkerReasons['ImageReady']>(
  'LambdaWorker: ImageReady',
  'Whether the image is on the node. Written by the agent. A failed pull has an [error code](#error-codes) as its reason; [images](images.md#pulling) has what to do about each.',
  {
    Present: ['True', 'the image is on the node'],
    Pulling: ['False', 'the image is being pulled; the message says how far'],
  },
);

const network = section<WorkerReasons['NetworkReady']>(
  'LambdaWorker: NetworkReady',
  'Whether the worker is attached. Where it could not be, the reason is an [error code](#error-codes). Written by the agent.',
  {
    Attached: ['True', 'the worker has an address, which is the message'],
  },
);

const ready = section<WorkerReasons['Ready']>(
  'LambdaWorker: Ready',
  'Whether the worker is as its spec wishes. Whether calls are answered is told by `Callable`: an earlier container answers while its replacement fails, and a worker may rest and refuse calls as its owner wishes. While the status is False, `Reconciling` is True with the same reason where that passes by itself (a pull, a full node, a registry that is away), and `Stalled` where it lasts until somebody changes something (a misspelt image, a crash loop, a missing Secret). Where an error keeps the worker from being ready, the reason is its [code](#error-codes); without a node, the reason of `Scheduled`. Written by the agent, and by the controller while no agent has reported the worker, or its node is lost.',
  {
    Running: ['True', 'the worker runs'],
    Paused: ['True', 'the worker is frozen, and the next call resumes it'],
    PausedByOwner: ['True', 'the worker rests as wished, and `wakePolicy: Never` refuses calls'],
    Absent: [
      'True',
      'nothing exists on the node, as wished, and the image for the next start is on the node or in its registry',
    ],
    RemovedIdle: ['True', 'the same of a worker that its idle policy has removed'],
    Resolving: ['False', 'the worker rests Absent, and the registry is being asked for its image'],
    Replacing: ['False', 'a container of an earlier shape serves until the new one is ready'],
    ReplacementFailed: ['False', 'the same, and the new one cannot be made ready; the start is tried again'],
    Pending: [
      'False',
      'the worker is about to be started. Unknown: the worker has got its first node, whose agent has not reported yet',
    ],
    Creating: ['False', 'the worker is being started'],
    Restarting: ['False', 'the worker is being started again after the failure in the message'],
    Terminating: ['False', 'the worker is being removed'],
    Unassigned: ['False', 'the worker was taken away from its node, and no other will do'],
    NodeFull: ['False', 'a call would start it, but its node has no room; the controller looks for another'],
    QuotaExceeded: [
      'False',
      'a LambdaQuota has no room for what the worker asks for beyond what it was granted: an earlier container serves on, and no other is made',
    ],
    CrashLoopBackOff: ['False', 'the process of the worker ended again and again; the next start is put off'],
    Failed: ['False', 'the worker could not be started, and nothing more is known'],
    WarmUpFailed: [
      'False',
      'the call of `spec.warmUp` failed, was lost or not answered in time; the message has the error. The call is made again, and other calls are let in meanwhile',
    ],
    Unknown: ['Unknown', 'the state of the container has not been known for 5 seconds'],
    NodeLost: ['Unknown', 'nothing has been heard of its node'],
    Reassigned: ['Unknown', 'the worker was assigned to another node, whose agent has not reported yet'],
  },
);

const callable = section<'Running' | 'Paused' | 'Absent' | 'PausedByOwner'>(
  'LambdaWorker: Callable',
  'Whether a call would be answered, by an earlier container as well. In all other cases status, reason and message are those that `Ready` has where no earlier container serves. While the node is lost or the worker moves, `Ready` is Unknown and `Callable` the last word of the agent. Written by the agent.',
  {
    Running: ['True', 'the worker runs'],
    Paused: ['True', 'the worker is frozen, and the next call resumes it'],
    Absent: ['True', 'the next call starts the worker'],
    PausedByOwner: ['False', 'the worker rests, and `wakePolicy: Never` refuses calls'],
  },
);

const upToDate = section<WorkerReasons['UpToDate']>(
  'LambdaWorker: UpToDate',
  'Whether the generation asked for is the one that serves. A roll-out is done once the status is True: `kubectl wait --for=condition=UpToDate`. Where no earlier container serves, status, reason and message are those of `Ready`. Written by the agent.',
  {
    UpToDate: ['True', 'calls are answered by what the spec asks for'],
    Absent: ['True', 'nothing exists on the node, and the next start is of this generation'],
    Replacing: ['False', 'an earlier container serves until its replacement is ready'],
    ReplacementFailed: [
      'False',
      'the same, and the replacement failed: its reason stands first in the message. The replacement is tried again',
    ],
    NodeFull: ['False', 'the same, and the node has no room for the replacement'],
    QuotaExceeded: ['False', 'the same, and no LambdaQuota has room for what the replacement asks for'],
  },
);

const limits = section<WorkerReasons['LimitsReached']>(
  'LambdaWorker: LimitsReached',
  'Only there once the worker ran into a limit, until its container is made again; `LoadTimeout` until a call is answered, `RuntimeApiAbused` for ten minutes after the end. Written by the agent.',
  {
    OutOfMemory: ['True', 'the kernel ended a process of the worker for want of memory'],
    LoadTimeout: [
      'True',
      'the function takes longer to load than `spec.timeoutSeconds`, against which loading counts: raise it',
    ],
    ProcessLimit: ['True', 'the worker was refused further processes or threads: `spec.resources.pids`'],
    RuntimeApiAbused: [
      'True',
      'the worker was ended for what it sent to the Runtime API or to its agent; the message names the [bound](../explanation/security.md#what-a-worker-says-to-its-agent)',
    ],
  },
);

const handlerIgnored = section<WorkerReasons['HandlerIgnored']>(
  'LambdaWorker: HandlerIgnored',
  'Only there while `spec.handler` has no effect. Written by the agent.',
  {
    HandlerInImage: [
      'True',
      'the command of the image, or `spec.command` and `spec.args`, names another handler, and the runtime goes by that; the message has it',
    ],
  },
);

const withinPolicy = section<WorkerReasons['WithinPolicy']>(
  'LambdaWorker: WithinPolicy',
  'Only there where the worker breaks the policy of workers in a namespace that is not [let](../how-to/privileged-workers.md). Written by the agent.',
  {
    MadeBeforePolicy: ['False', 'the worker is older than the policy, and runs on; its `spec` may not be changed'],
    PolicyRefused: ['False', 'no container of the worker is made; a running one is not ended'],
  },
);

const cleanedUp = section<WorkerReasons['CleanedUp']>(
  'LambdaWorker: CleanedUp',
  'Only there while the resource is being deleted, or lives elsewhere by now. The controller removes the finalizer when the status is True. Written by the agent.',
  {
    CleanedUp: ['True', 'nothing is left on the node'],
    Removing: ['False', 'the container is being removed'],
  },
);

const functionReady = section<FunctionReasons['Ready']>(
  'LambdaFunction',
  'Ready says whether the function has as many workers as it is to have, all of the present template and Ready, those of the versions that its aliases name included, and whether its aliases are in effect. While the status is False, `Reconciling` is True with the same reason, or `Stalled` where a worker of the present template is stalled: then the reason is that of the worker, and the message begins with its name. Written by the controller.',
  {
    UpToDate: ['Ready: True', 'all workers are there, of the present template, and Ready'],
    NoWorkers: ['Ready: True', '`spec.scaling.minWorkers` is 0, and there are none'],
    Progressing: ['Ready: False', 'workers are being made, changed, deleted or started'],
    ProgressDeadlineExceeded: [
      'Ready: False',
      'no further worker became ready with the template within `spec.rollout.progressDeadlineSeconds`, and none gets it before one does; the message has the words of a worker that hangs. Change the template, go back by `esb rollout undo`, or set a longer deadline',
    ],
    WorkerRefused: [
      'Ready: False',
      'the API server does not take a worker as the template has it, as an admission policy wants it; the message has its words. Tried again after 30 seconds, and after growing waits up to 5 minutes',
    ],
    SettingsRefused: [
      'Ready: False',
      'the API server does not take `reservedConcurrency` or `asyncInvoke` for a worker that is there, as an admission policy wants it; the message has its words. Workers serve with the settings of before. Tried again after 30 seconds, and after growing waits up to 5 minutes',
    ],
    VersionMissing: [
      'Ready: False',
      'an alias names a number that no LambdaVersion of the function has; workers that the version still has stay',
    ],
    VersionRefused: [
      'Ready: False',
      'the API server does not take the LambdaVersion that is to be published; the message has its words. Tried again after 30 seconds, and after growing waits up to 5 minutes',
    ],
    Terminating: ['Ready: False', 'the function is being deleted, its workers first'],
  },
);

const versionReady = section<VersionReasons['Ready']>(
  'LambdaVersion',
  'Ready says whether the version has as many workers as its aliases ask for, all of them Ready, and was Active. While the status is False, `Reconciling` is True with the same reason, or `Stalled` where a worker is stalled: then the reason is that of the worker, and the message begins with its name. Written by the controller.',
  {
    UpToDate: ['Ready: True', 'all workers are there and Ready'],
    NoWorkers: ['Ready: True', 'one of its workers was Ready once, and no alias asks for more now'],
    Progressing: ['Ready: False', 'workers are being made, deleted or started'],
    WorkerRefused: ['Ready: False', 'the API server does not take a worker of the version; the message has its words'],
  },
);

const functionUrl = section<FunctionReasons['UrlServed']>(
  'LambdaFunction: UrlServed',
  'Whether the function may be called by its URL; only there with `spec.url`. Written by the controller.',
  {
    Served: ['True', 'gateways take requests at `status.url`'],
    NameTaken: ['False', 'an older LambdaFunction of the same `functionName` has the URL, or has none'],
    NoDomain: ['False', 'the operator has no domain for function URLs, and gateways serve none'],
    PublicForbidden: [
      'False',
      '`authType: NONE` in a namespace without the label `esb.dev/public-functions=true`; requests are answered with 403',
    ],
  },
);

const functionDegraded = section<FunctionReasons['Degraded']>(
  'LambdaFunction: Degraded',
  'Whether workers of the function have failed; only there while it is True. Ready may be True beside, where others are enough. Written by the controller.',
  {
    WorkersFailed: [
      'True',
      'workers are Stalled; the message says how many, and has the words of one. Failed for a minute, a worker is no capacity: a function in the mode Auto has others in its place, up to `maxWorkers` and no more than work',
    ],
  },
);

const functionScaling = section<FunctionReasons['ScalingActive']>(
  'LambdaFunction: ScalingActive',
  'Whether a function in the mode Auto is scaled by its calls; only there while it is False. Written by the controller.',
  {
    NoGatewayHeard: [
      'False',
      'no gateway of the namespace has told the leader of its calls for a minute: there is none, a network policy or a firewall is between them, or its certificate is refused. The function stays as large as it is',
    ],
  },
);

const functionName = section<FunctionReasons['NameHeld']>(
  'LambdaFunction: NameHeld',
  'False for a LambdaFunction that is not the oldest of its `functionName`, and only there then. Written by the controller.',
  {
    NameTaken: [
      'False',
      'the LambdaFunction in the message is older: aliases, the URL and versions are its alone, and workers of both take calls',
    ],
  },
);

const termination = section<TerminationReason>(
  'LambdaWorker: status.lastTermination',
  'How the process of the worker ended the last time without a request.',
  {
    Completed: ['', 'with exit code 0'],
    Error: ['', 'with another exit code; from 129 on by a signal'],
    OOMKilled: ['', 'by the kernel, for using more memory than its limit'],
    RuntimeApiAbused: ['', 'by its init or its agent, for what it sent to them'],
  },
);

const nodeTold = {
  Ready: ['Ready: True', 'workers are served'],
  Starting: ['Ready: False', 'the agent is looking after what an earlier run left'],
  Stopping: ['Ready: False', 'the agent is ending'],
  DefinitionMissing: ['Ready: False', 'the API server does not know our resources: install the definitions'],
  DefinitionTooOld: ['Ready: False', 'the installed definitions are older than the program needs'],
  Serving: ['ContainerdReady: True', 'containerd answers'],
  Prepared: ['NetworkReady: True', 'workers can be attached'],
  PortsLow: [
    'NetworkReady: True',
    'workers can be attached, and nine of ten ports are taken: raise `--max-workers` above the next thousand',
  ],
  AddressesLow: [
    'NetworkReady: True',
    'workers can be attached, and nine of ten addresses are taken: a larger `--subnet`',
  ],
  AttachFailed: ['NetworkReady: False', 'workers cannot be attached; the message says why'],
  RoomLeft: ['DiskReady: True', 'the state folder can be written'],
  RecordsSetAside: ['DiskReady: True', 'some records of workers could not be read and are kept under another name'],
  StateFolderMissing: ['DiskReady: False', 'the state folder does not exist'],
  Retired: ['Ready: False', 'ESB leaves the node'],
  Draining: ['Retired: False', 'its workers are being given to other nodes or taken away'],
  RemovalFailed: [
    'Retired: False',
    'what ESB made there cannot be removed; the message names it, and the removal is tried again',
  ],
  Left: ['Retired, Ready: True', 'nothing of ESB is left on the node, as its `spec.retired` wishes'],
  CheckFailed: ['any: False', 'the look itself failed; the message says how'],
  Steady: ['ClockStable: True', 'the wall clock has not stepped lately'],
  ClockStepped: ['ClockStable: False', 'the wall clock has stepped in the last minute; durations are not affected'],
  NothingLeft: ['Clean: True', 'workers left nothing that stays'],
  RepairFailed: [
    'Clean: False',
    'something that workers left behind cannot be removed; the message names it, and the removal is tried again',
  ],
  CallsRunning: [
    'MovesDone: False',
    'calls of workers that were moved away end here first; the message says until when',
  ],
} as const satisfies Partial<Record<HealthReason | NodeReason, Told>>;

const events = section<EventReason>(
  'Events',
  '`kubectl describe` shows them beneath a LambdaFunction, LambdaWorker or LambdaNode, `kubectl get events` all of a namespace. Those of a LambdaNode are in the namespace `default`. Written by the controller; [those below](#events-of-agents) by agents.',
  {
    Assigned: ['Normal', 'LambdaWorker: a node was found'],
    Reassigned: ['Normal', 'LambdaWorker: the worker was moved to another node'],
    FailedScheduling: [
      'Warning',
      'LambdaWorker: no node will do, or no LambdaQuota has room, be it to grow; the note is that of `Scheduled`, with numbers of nodes',
    ],
    Published: ['Normal', 'LambdaFunction: a version was published; the note names the LambdaVersion'],
    VersionRefused: ['Warning', 'LambdaFunction: the API server does not take a version of it'],
    RevisionRefused: [
      'Warning',
      'LambdaFunction: the API server does not let its templates be kept as ControllerRevisions, which `esb rollout undo` goes back to; tried again every 30 seconds',
    ],
    ProgressDeadlineExceeded: [
      'Warning',
      'LambdaFunction: a change of the template has stopped at its deadline; the note names a worker that hangs',
    ],
    Scaled: ['Normal', 'LambdaFunction: workers were created or deleted; the note names them'],
    WorkerRefused: ['Warning', 'LambdaFunction: the API server does not take one of its workers'],
    SettingsRefused: ['Warning', 'LambdaFunction: the API server does not take its settings for one of its workers'],
    Unassigned: ['Warning', 'LambdaWorker: the worker was taken away from its node, and no other will do'],
    Draining: [
      'Normal',
      'LambdaNode: its guard Pod was evicted, as by `kubectl drain`, or an autoscaler is about to take it; its workers move',
    ],
    Drained: ['Normal', 'LambdaNode: the node has no workers any more'],
    DrainCalledOff: [
      'Warning',
      'LambdaNode: the node was uncordoned, or is not about to be taken any more, and its workers stay',
    ],
    HoldRefused: [
      'Warning',
      'LambdaNode: its kubelet refuses the reservation or the guard, so the node gets no more workers',
    ],
    NodeLost: ['Warning', 'LambdaNode: its Lease is not renewed. LambdaWorker: its node is lost or unreachable'],
    NodeUnreachable: ['Warning', 'LambdaNode: its Lease is not renewed, and its workers stay for now'],
    ChangeLost: [
      'Warning',
      'LambdaWorker: its `spec` was changed while it was being deleted, and the change is gone with it; apply it again',
    ],
    CleanupSkipped: [
      'Warning',
      'LambdaWorker: the worker was let go without being cleaned up, since its node is gone for good',
    ],
  },
);

const agentEvents = section<AgentEventReason>(
  'Events of agents',
  'About LambdaWorkers, with the node as `reportingInstance`. Equal ones become one with a count. A worker has ten at once and one more in five minutes, a node 25 at once and one more in a second; what exceeds that is dropped, as are those that the API server does not take within about half a minute.',
  {
    Pulled: ['Normal', 'the image was pulled'],
    PullFailed: ['Warning', 'the image could not be pulled; the note begins with the [error code](#error-codes)'],
    StartFailed: [
      'Warning',
      'the worker could not be started, its initialization included; the note begins with the [error code](#error-codes)',
    ],
    ReplacementFailed: ['Warning', 'the container of a changed `spec` could not be made ready; the earlier one serves'],
    Crashed: ['Warning', 'the process of the worker ended unasked; `status.lastTermination` has its last output'],
    OOMKilled: ['Warning', 'the same, since the worker used more memory than its limit'],
    RuntimeApiAbused: ['Warning', 'the worker was ended for what it sent to the Runtime API or to its agent'],
    RuntimeExited: ['Warning', 'the runtime ended in the middle of a call, and is started again in place'],
    CallTimedOut: ['Warning', 'a call took longer than `spec.timeoutSeconds`'],
    OutOfMemory: ['Warning', 'the kernel ended a process of the worker for want of memory'],
    ProcessLimit: ['Warning', 'the worker was refused further processes or threads'],
    LoadTimeout: ['Warning', 'the function takes longer to load than `spec.timeoutSeconds`'],
  },
);

const node = section<keyof typeof nodeTold>(
  'LambdaNode',
  'Written by its agent. `Ready` says whether the node is as its spec wishes; while it is False, `Reconciling` or `Stalled` is True as for a [worker](#lambdaworker-ready). `Ready` is False while `ContainerdReady`, `NetworkReady` or `DiskReady` is, with the reason of the first of them, often an [error code](#error-codes); `ClockStable`, `Clean` and `MovesDone` do not keep the node from working. `MovesDone` is there while it is False. `Retired` is only there once `spec.retired` is set.',
  nodeTold,
);

const nodeState = section<NodeStateReasons[keyof NodeStateReasons]>(
  'LambdaNode: state of the node',
  'Written by the controller, and read by the controller that leads next. `Ready` belongs to the agent again as soon as that reports. Each of the others is there only while it is True.',
  {
    NodeUnreachable: ['Ready: Unknown', 'the Lease of the node is not renewed; new workers go to other nodes'],
    AgentStarting: [
      'Unreachable: True',
      'its workers stay for five minutes, since the Pod of its agent pulls its image or starts',
    ],
    RateLimited: [
      'Unreachable: True',
      'its workers stay until it is its turn: one node in ten seconds is given up in each zone, one in 100 seconds in a zone of more than 50 nodes of which 55 % are silent',
    ],
    ManyUnreachable: [
      'Unreachable: True',
      'its workers stay, since 55 % of the nodes of its zone, or all nodes, are silent',
    ],
    NoNodeHeard: ['Unreachable: True', 'its workers stay, since no node was heard while it was silent'],
    LeaseExpired: ['Lost: True', 'its workers are served elsewhere where they can be'],
    WorkersLeave: ['Draining: True', 'it is drained, as by `kubectl drain`; its workers leave'],
    MemoryNotReserved: ['Unheld: True', 'the memory of its workers is not reserved; the node gets no more workers'],
  },
);

const readiness = section<Exclude<HealthReason | NodeReason, keyof typeof nodeTold>>(
  'Readiness of controller, gateway and events',
  'Reasons of `/readyz` with status 503, beside `Starting`, `Stopping`, `DefinitionMissing` and `DefinitionTooOld` as above. The agent answers what `Ready` of its LambdaNode says. The role `events` is also not ready with the reason for which its store is not open, such as `EventStoreLocked`.',
  {
    NotSynced: ['all', 'not everything has been read from the API server yet'],
    ApiServerUnavailable: ['controller', 'the API server does not answer'],
    NotChecked: ['gateway, events', 'the definitions were not read yet'],
    DefinitionsUnreadable: ['gateway, events', 'they cannot be read'],
    NoCertificate: ['gateway, events', 'no client certificate was signed yet: is there a controller?'],
    NoAccessKeys: ['gateway', 'the Secret with the access keys cannot be read'],
    EventStoreOpening: ['events', 'the event store is being opened'],
    EventStoreClosed: ['events', 'the event store is closed'],
  },
);

const calls: ReasonSection = {
  title: 'Calls',
  introduction:
    'Why an agent refused a call before anything was sent to the worker, or why the outcome of a call is unknown: label `reason` of `esb_agent_invocations_total`, attribute `esb.reason` of spans.',
  rows: Object.values(REASONS).map(({ name, started, meaning }) => [
    started === 'no' ? 'refused' : 'unknown',
    name,
    meaning,
  ]),
};

const errors: ReasonSection = {
  title: 'Error codes',
  introduction:
    'Codes of errors, in alphabetical order: reasons of `Ready`, `ImageReady`, `NetworkReady` and `CleanedUp` of a LambdaWorker and of the conditions of a LambdaNode, the metadata `esb-code` of a gRPC status, the field `code` in logs. An error that is tried again may pass without a change by anybody.',
  rows: Object.entries<(typeof ERROR_CODES)[keyof typeof ERROR_CODES]>(ERROR_CODES)
    .map(([code, entry]) => ['retryable' in entry ? 'tried again' : '', code, entry.meaning] as const)
    .toSorted(([, one], [, other]) => (one < other ? -1 : 1)),
};

/** Every reason that a resource, an Event or an answer of ours may show. */
export const reasonSections: readonly ReasonSection[] = [
  scheduled,
  image,
  network,
  ready,
  callable,
  upToDate,
  limits,
  handlerIgnored,
  withinPolicy,
  cleanedUp,
  termination,
  functionReady,
  versionReady,
  functionUrl,
  functionName,
  functionDegraded,
  functionScaling,
  node,
  nodeState,
  events,
  agentEvents,
  readiness,
  calls,
  errors,
];
