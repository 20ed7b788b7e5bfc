import { REASONS } from '../src/protocol/reasons.ts';

/** One reason, and what it says to whom reads it. */
export interface ReasonRow {
  /** The status of the condition that it goes with, or the type of the Event. */
  readonly status: string;
  readonly reason: string;
  readonly meaning: string;
}

/** The reasons of one condition, or of one kind of thing. */
export interface ReasonSection {
  readonly title: string;
  readonly introduction: string;
  readonly rows: readonly ReasonRow[];
}

const row = (status: string, reason: string, meaning: string): ReasonRow => ({ status, reason, meaning });

const scheduled: ReasonSection = {
  title: 'LambdaWorker: Scheduled',
  introduction: 'Whether the controller found a node. Written by the controller.',
  rows: [
    row('True', 'Assigned', 'it lives on the node of `status.assignment`'),
    row('False', 'NoNodes', 'there is no LambdaNode: no agent has registered yet'),
    row('False', 'NoneReady', 'there are nodes, and none is ready'),
    row(
      'False',
      'NoneTolerated',
      'every ready node has a taint that `spec.tolerations` does not put up with',
    ),
    row('False', 'AllCordoned', 'every node that would do is cordoned, being drained or retired'),
    row('False', 'NoneHeld', 'every node that would do has a hold Pod that the scheduler finds no room for'),
    row('False', 'SpreadUnmet', 'nodes would do, but for `spec.topologySpread`'),
    row('False', 'NoneMatches', 'no node has the labels of `spec.nodeSelector`'),
    row(
      'False',
      'NoneFits',
      'nodes would do, but for their memory or number of workers; the message counts them',
    ),
    row('False', 'PinnedNodeMissing', '`spec.nodeName` names no LambdaNode'),
    row('False', 'PinnedNodeUnfit', '`spec.nodeName` names a node that will not do; the message says why'),
  ],
};

const image: ReasonSection = {
  title: 'LambdaWorker: ImageReady',
  introduction:
    'Whether the image is on the node. Written by the agent. What to do about each is in [images](images.md#pulling).',
  rows: [
    row('True', 'Present', 'it is'),
    row('False', 'Pulling', 'it is being pulled; the message says how far'),
    row(
      'False',
      'ImageNotFound',
      'the registry has no such image; or it is not on the node and the policy is `Never`',
    ),
    row('False', 'ImagePullFailed', 'the registry refuses the credentials, wants some, or failed'),
    row('False', 'ImageInvalid', 'it is no reference, no container image, or not made for this processor'),
    row('False', 'RegistryUnreachable', 'the registry does not answer; the message says how'),
    row(
      'False',
      'PullSecretForbidden',
      'the agent may not read a Secret of `spec.imagePullSecrets`; the message has the commands that allow it',
    ),
    row('False', 'PullSecretUnreadable', 'the API server cannot be asked for the Secret'),
  ],
};

const network: ReasonSection = {
  title: 'LambdaWorker: NetworkReady',
  introduction: 'Whether the worker is attached. Written by the agent.',
  rows: [
    row('True', 'Attached', 'it is; the message is its address'),
    row('False', 'NetworkFailed', 'a plugin or the kernel refused; the message has its words'),
    row(
      'False',
      'AddressesExhausted',
      'no address, no port of a bridge, or in mode `Host` no port of the node is left',
    ),
  ],
};

const ready: ReasonSection = {
  title: 'LambdaWorker: Ready',
  introduction:
    'Whether calls are answered. Written by the agent, and by the controller when the node is lost.',
  rows: [
    row('True', 'Running', 'it runs'),
    row('True', 'Paused', 'it is frozen, and the next call resumes it'),
    row('True', 'Replacing', 'a container of an earlier shape serves until the new one is ready'),
    row('True', 'ReplacementFailed', 'the same, and the new one cannot be made ready; it is tried again'),
    row('False', 'Pending', 'it is about to be started'),
    row('False', 'Creating', 'it is being started'),
    row('False', 'Restarting', 'it is being started again after the failure that the message tells'),
    row('False', 'Terminating', 'it is being removed'),
    row('False', 'PausedByOwner', 'it rests, and `wakePolicy: Never` refuses calls'),
    row('False', 'Absent', 'nothing exists on the node, as wished'),
    row('False', 'Unassigned', 'it was taken away from its node, and no other would do'),
    row(
      'False',
      'NodeFull',
      'a call would start it, but its node has no room; the controller looks for another',
    ),
    row('False', 'CrashLoopBackOff', 'its process ended again and again; it starts again later'),
    row('False', 'Failed', 'it could not be started, and nothing more is known'),
    row(
      'False',
      'ExitedAtOnce',
      'its process ended before its port was open; the message has its last output',
    ),
    row('False', 'NotListening', 'nothing listens on `spec.port`: is it the port of the emulator?'),
    row(
      'False',
      'WarmUpFailed',
      'the call of `spec.warmUp` failed, was lost or not answered in time; the message has the error. It is made again, and calls are let in meanwhile',
    ),
    row('False', 'NoEntrypoint', 'neither the image nor the resource says what to run'),
    row(
      'False',
      'MemoryTooSmall',
      'the memory limit is too small for the container to start at all: raise `spec.resources.limits.memory`',
    ),
    row(
      'False',
      'CreateFailed',
      'containerd or runc could not make the container; the message has its words',
    ),
    row('False', 'StartFailed', 'containerd or runc could not start it; the message has its words'),
    row('False', 'SecretMissing', 'a variable wants a Secret or key that does not exist'),
    row(
      'False',
      'SecretForbidden',
      'the agent may not read the Secret of a variable; the message has the commands that allow it',
    ),
    row('False', 'SecretUnreadable', 'the API server cannot be asked for the Secret of a variable'),
    row(
      'False',
      'PolicyRefused',
      'the worker breaks the policy of workers, which its namespace is not [let](../how-to/privileged-workers.md) do',
    ),
    row('False', 'DiskFull', 'the disk of the node is full'),
    row('False', 'RuntimeUnavailable', 'containerd does not answer'),
    row(
      'False',
      'TaskUnanswering',
      'containerd answers, and the shim of its container does not; the container is made anew if that lasts',
    ),
    row(
      'False',
      'TaskStuck',
      'the kernel does not end or freeze its processes, or its shim, as it was asked to',
    ),
    row('False', 'DeadlineExceeded', 'something took longer than it may; the message says what'),
    row('False', 'UserIdsExhausted', 'no user ids are left in the range of `--user-namespaces`'),
    row(
      'False',
      'UserNamespacesUnsupported',
      'the kernel or containerd has no users of their own for workers',
    ),
    row(
      'False',
      'CgroupUnusable',
      'the control group of `--cgroup-parent` cannot be used; the message says why',
    ),
    row('False', 'FailedPrecondition', 'containerd refused; the message has its words'),
    row('False', 'ContainerdFailed', 'containerd failed; the message has its words'),
    row('False', 'Internal', 'a fault of ESB itself: please report it with the message'),
    row('Unknown', 'Unknown', 'the state of the container has not been known for 5 seconds'),
    row('Unknown', 'NodeLost', 'nothing has been heard of its node'),
    row('Unknown', 'Reassigned', 'it was assigned to another node, which has not told of it yet'),
  ],
};

const upToDate: ReasonSection = {
  title: 'LambdaWorker: UpToDate',
  introduction:
    'Whether the generation asked for is the one that serves. A roll-out is done once it is True: `kubectl wait --for=condition=UpToDate`. Where no earlier container serves, status, reason and message are those of `Ready`. Written by the agent.',
  rows: [
    row('True', 'UpToDate', 'calls are answered by what the spec asks for'),
    row('True', 'Absent', 'nothing exists on the node, and the next start is of this generation'),
    row('False', 'Replacing', 'an earlier container serves until its replacement is ready'),
    row(
      'False',
      'ReplacementFailed',
      'the same, and the replacement failed: its reason stands first in the message. It is tried again',
    ),
    row('False', 'NodeFull', 'the same, and the node has no room for the replacement'),
  ],
};

const limits: ReasonSection = {
  title: 'LambdaWorker: LimitsReached',
  introduction:
    'Only there once the worker ran into a limit, until its container is made anew; `LoadTimeout` until a call is answered. Written by the agent.',
  rows: [
    row('True', 'OutOfMemory', 'a process of it was ended for want of memory'),
    row(
      'True',
      'LoadTimeout',
      'the function takes longer to load than `spec.timeoutSeconds`, against which loading counts: raise it',
    ),
    row('True', 'ProcessLimit', 'it was refused further processes or threads: `spec.resources.pids`'),
  ],
};

const handlerIgnored: ReasonSection = {
  title: 'LambdaWorker: HandlerIgnored',
  introduction: 'Only there while `spec.handler` has no effect. Written by the agent.',
  rows: [
    row(
      'True',
      'HandlerInImage',
      'the command of the image, or `spec.command` and `spec.args`, names another handler, and the runtime goes by that; the message has it',
    ),
  ],
};

const withinPolicy: ReasonSection = {
  title: 'LambdaWorker: WithinPolicy',
  introduction:
    'Only there where the worker breaks the policy of workers in a namespace that is not [let](../how-to/privileged-workers.md). Written by the agent.',
  rows: [
    row(
      'False',
      'MadeBeforePolicy',
      'it is older than the policy, and runs on; its `spec` may not be changed',
    ),
    row('False', 'PolicyRefused', 'no container is made of it; one that runs is not ended'),
  ],
};

const cleanedUp: ReasonSection = {
  title: 'LambdaWorker: CleanedUp',
  introduction:
    'Only there while the resource is being deleted, or lives elsewhere by now. The controller removes the finalizer when it is True. Written by the agent.',
  rows: [
    row('True', 'CleanedUp', 'nothing is left on the node'),
    row('False', 'Removing', 'it is being removed'),
  ],
};

const termination: ReasonSection = {
  title: 'LambdaWorker: status.lastTermination',
  introduction: 'How the process of the worker ended the last time that nobody asked for it.',
  rows: [
    row('', 'Completed', 'with exit code 0'),
    row('', 'Error', 'with another exit code; from 129 on by a signal'),
    row('', 'OOMKilled', 'by the kernel, for using more memory than its limit'),
  ],
};

const node: ReasonSection = {
  title: 'LambdaNode',
  introduction:
    'Written by its agent. `Ready` is False as long as `ContainerdReady`, `NetworkReady` or `DiskReady` is, with the reason of the first of them; `ClockStable`, `Clean` and `MovesDone` keep nobody from working. `MovesDone` is there while it is False. `Retired` is only there once `spec.retired` is set.',
  rows: [
    row('Ready: True', 'Ready', 'workers are served'),
    row('Ready: False', 'Starting', 'the agent is looking after what an earlier run left'),
    row('Ready: False', 'Stopping', 'the agent is ending'),
    row(
      'Ready: False',
      'DefinitionMissing',
      'the API server does not know our resources: install the definitions',
    ),
    row('Ready: False', 'DefinitionTooOld', 'the installed definitions are older than the program needs'),
    row('ContainerdReady: True', 'Serving', 'containerd answers'),
    row('ContainerdReady: False', 'RuntimeUnavailable', 'it does not'),
    row('ContainerdReady: False', 'RuntimeTooOld', 'it is older than 2.0'),
    row('ContainerdReady: False', 'SnapshotterMissing', 'it has no overlayfs'),
    row('NetworkReady: True', 'Prepared', 'workers can be attached'),
    row(
      'NetworkReady: True',
      'PortsLow',
      'they can, and nine of ten ports are taken: raise `--max-workers` above the next thousand',
    ),
    row(
      'NetworkReady: True',
      'AddressesLow',
      'they can, and nine of ten addresses are taken: a larger `--subnet`',
    ),
    row('NetworkReady: False', 'AddressesExhausted', 'no port or no address is left'),
    row('NetworkReady: False', 'AttachFailed', 'workers cannot be attached; the message says why'),
    row('NetworkReady: False', 'PluginMissing', 'a CNI plugin is not in `--cni-bin-dir`'),
    row(
      'NetworkReady: False',
      'SubnetCollision',
      '`--subnet` meets a route of the node, or Pods or Services of the cluster',
    ),
    row('NetworkReady: False', 'SubnetTooSmall', '`--subnet` does not hold as many bridges as are needed'),
    row(
      'NetworkReady: False',
      'NetworkConfigInvalid',
      'the configuration list cannot be used; the message says why',
    ),
    row('NetworkReady: False', 'NftFailed', 'the kernel does not take the rules'),
    row('NetworkReady: False', 'ForwardingFailed', 'forwarding cannot be switched on'),
    row('NetworkReady: False', 'NetworkFailed', 'something else; the message has its words'),
    row('DiskReady: True', 'RoomLeft', 'the state folder can be written'),
    row(
      'DiskReady: True',
      'RecordsSetAside',
      'some records of workers could not be read and are kept under another name',
    ),
    row('DiskReady: False', 'DiskFull', 'it has no room left'),
    row('DiskReady: False', 'StateFolderMissing', 'it is not there'),
    row('DiskReady: False', 'StateUnwritable', 'records of workers cannot be written'),
    row('DiskReady: False', 'StateUnreadable', 'records of workers cannot be read'),
    row('Ready: False', 'Retired', 'ESB leaves the node, or has left it'),
    row('Retired: False', 'Draining', 'its workers are being given to other nodes or taken away'),
    row(
      'Retired: False',
      'RemovalFailed',
      'what ESB made there cannot be removed; it is named and tried again',
    ),
    row('Retired: True', 'Left', 'nothing of ESB is left on the node'),
    row('any: False', 'CheckFailed', 'the look itself failed; the message says how'),
    row('ClockStable: True', 'Steady', 'the wall clock has not stepped lately'),
    row('ClockStable: False', 'ClockStepped', 'it has, in the last minute; durations are not affected'),
    row('Clean: True', 'NothingLeft', 'workers left nothing that stays'),
    row(
      'Clean: False',
      'RepairFailed',
      'something that workers left behind cannot be removed; it is named and tried again',
    ),
    row(
      'MovesDone: False',
      'CallsRunning',
      'calls of workers that were moved away end here first; the message says until when',
    ),
  ],
};

const events: ReasonSection = {
  title: 'Events',
  introduction:
    '`kubectl describe` shows them beneath a LambdaWorker or LambdaNode, `kubectl get events` all of a namespace. Those of a LambdaNode are in the namespace `default`. Written by the controller.',
  rows: [
    row('Normal', 'Assigned', 'LambdaWorker: a node was found'),
    row('Normal', 'Reassigned', 'LambdaWorker: it was moved to another node'),
    row(
      'Warning',
      'FailedScheduling',
      'LambdaWorker: no node will do; the note is that of `Scheduled`, with numbers of nodes',
    ),
    row('Warning', 'Unassigned', 'LambdaWorker: it was taken away from its node, and no other would do'),
    row(
      'Normal',
      'Draining',
      'LambdaNode: its hold Pod was evicted, as by `kubectl drain`; its workers move',
    ),
    row('Normal', 'Drained', 'LambdaNode: it has no workers any more'),
    row('Warning', 'DrainCalledOff', 'LambdaNode: it was uncordoned, and the workers that it has stay'),
    row(
      'Warning',
      'HoldRefused',
      'LambdaNode: the scheduler finds no room for its hold Pod, so it gets no more workers',
    ),
    row('Warning', 'NodeLost', 'LambdaNode: its Lease is not renewed. LambdaWorker: its node is lost'),
    row(
      'Warning',
      'CleanupSkipped',
      'LambdaWorker: it was let go without being cleaned up, since its node is gone for good',
    ),
  ],
};

const readiness: ReasonSection = {
  title: 'Readiness of controller and gateway',
  introduction:
    'What `/readyz` answers with status 503, beside `Starting`, `Stopping`, `DefinitionMissing` and `DefinitionTooOld` as above. The agent answers what `Ready` of its LambdaNode says.',
  rows: [
    row('both', 'NotSynced', 'not everything has been read from the API server yet'),
    row('controller', 'ApiServerUnavailable', 'the API server does not answer'),
    row('gateway', 'NotChecked', 'the definitions were not read yet'),
    row('gateway', 'DefinitionsUnreadable', 'they cannot be read'),
    row('gateway', 'NoCertificate', 'no client certificate was signed yet: is there a controller?'),
    row('gateway', 'NoAccessKeys', 'the Secret with the access keys cannot be read'),
  ],
};

const calls: ReasonSection = {
  title: 'Calls',
  introduction:
    'Why an agent refused a call before anything was sent to the worker, or why the outcome of a call is unknown: label `reason` of `esb_agent_invocations_total`, attribute `esb.reason` of spans.',
  rows: Object.values(REASONS).map(({ name, started, meaning }) =>
    row(started === 'no' ? 'refused' : 'unknown', name, meaning),
  ),
};

/** Every reason that a resource, an Event or an answer of ours may show. */
export const reasonSections: readonly ReasonSection[] = [
  scheduled,
  image,
  network,
  ready,
  upToDate,
  limits,
  handlerIgnored,
  withinPolicy,
  cleanedUp,
  termination,
  node,
  events,
  readiness,
  calls,
];
