// Made from crds/lambdaworkers.yaml by `npm run generate`; do not edit.

import type { ObjectMeta } from '../../kube/api/types.ts';

/**
 * LambdaWorker is one AWS Lambda container image run as a container on one node. Workers of one namespace with the same function name are one function: each handles one call at a time, or as many as concurrency.perWorker says, and all of them together are its concurrency.
 */
export interface LambdaWorker {
  /**
   * esb.dev/v1alpha1.
   */
  readonly apiVersion?: string;
  /**
   * LambdaWorker.
   */
  readonly kind?: string;
  readonly metadata: ObjectMeta;
  readonly spec: LambdaWorkerSpec;
  readonly status?: LambdaWorkerStatus;
}
/**
 * Desired state of the worker, and the state that it rests in.
 */
export interface LambdaWorkerSpec {
  /**
   * Name of the function that this worker serves, as callers of the Lambda API write it. Without it the name of the resource is meant. Cannot be changed.
   */
  readonly functionName?: string;
  /**
   * Number of the LambdaVersion that this worker runs, which the controller alone writes. Callers reach the worker by that number or by an alias. Without it the worker runs $LATEST. Cannot be changed.
   */
  readonly version?: number;
  /**
   * Reference of the container image: registry.example/team/hello:1, also with a digest (@sha256:…). Short names are completed as Docker does: python:3.12 is docker.io/library/python:3.12.
   */
  readonly image: string;
  /**
   * Always asks the registry before each start, IfNotPresent pulls what the node does not have, Never does not pull. Without it: Always for the tag latest or no tag at all, IfNotPresent for everything else.
   */
  readonly imagePullPolicy?: 'Always' | 'IfNotPresent' | 'Never';
  /**
   * A change replaces containers by those of the image that the tag means then. With any value and without imagePullPolicy, the registry is asked before each start, unless the image is named by digest. UpdateFunctionCode of the Lambda API writes this field.
   */
  readonly imageLookup?: string;
  /**
   * Secrets of type kubernetes.io/dockerconfigjson in the same namespace, read when the image is pulled. A Role and a RoleBinding there have to let the agents get each one; the condition ImageReady says when they do not.
   */
  readonly imagePullSecrets?: readonly LambdaWorkerSpecImagePullSecret[];
  /**
   * Replaces the image's Entrypoint. No shell is involved.
   *
   * Items: One word of the command.
   */
  readonly command?: readonly string[];
  /**
   * Replaces the image's Cmd.
   *
   * Items: One argument.
   */
  readonly args?: readonly string[];
  /**
   * Handler of the function, such as lambda_function.handler. The worker gets it as the variable _HANDLER, and as the last argument of the command where neither args nor the image's Cmd is given. A handler that the command names already wins; the condition HandlerIgnored tells of that.
   */
  readonly handler?: string;
  /**
   * Environment variables of the function.
   */
  readonly env?: readonly LambdaWorkerSpecVariable[];
  readonly resources: LambdaWorkerSpecResources;
  /**
   * Size of the writable /tmp: a file on the disk of the node. On a node without a disk for that (see its LambdaNode) files there are kept in memory, and a worker takes this beside its memory limit.
   */
  readonly ephemeralStorage: number | string;
  /**
   * Whether everything but /tmp is read-only, as in Lambda.
   */
  readonly readOnlyRootFilesystem: boolean;
  /**
   * How long one call may take, in seconds, as in Lambda.
   */
  readonly timeoutSeconds: number;
  /**
   * How calls reach the runtime of the function. Lambda: ESB itself serves the Runtime API in the worker, at AWS_LAMBDA_RUNTIME_API, as Lambda does; the image needs a runtime client and no emulator, and an emulator at the head of its command is passed over. Emulator: the image brings AWS's runtime interface emulator and its command starts that. Without it: Lambda, and Emulator with network.mode Host, which Lambda cannot have. A change makes a new container.
   */
  readonly runtimeInterface?: 'Lambda' | 'Emulator';
  readonly startup?: LambdaWorkerSpecStartup;
  readonly logging?: LambdaWorkerSpecLogging;
  /**
   * Port that the runtime interface emulator of the image listens on. Not used with runtimeInterface Lambda.
   */
  readonly port: number;
  readonly warmUp?: LambdaWorkerSpecWarmUp;
  /**
   * The state that the worker rests in. Running is started and kept. Paused is started, made ready and then frozen with its memory kept. Absent keeps only the resource. A call lifts a worker out of Paused and Absent for as long as it is used, where wakePolicy allows.
   */
  readonly desiredState: 'Running' | 'Paused' | 'Absent';
  readonly idlePolicy?: LambdaWorkerSpecIdlePolicy;
  /**
   * Whether a call may lift the worker out of Paused or Absent (OnInvoke), or is refused while it rests there (Never).
   */
  readonly wakePolicy: 'OnInvoke' | 'Never';
  readonly asyncInvoke?: LambdaWorkerSpecAsyncInvoke;
  readonly concurrency?: LambdaWorkerSpecConcurrency;
  readonly network: LambdaWorkerSpecNetwork;
  /**
   * Pins the worker to the LambdaNode of this name. Never written by ESB.
   */
  readonly nodeName?: string;
  /**
   * Labels that a LambdaNode must carry to be chosen.
   */
  readonly nodeSelector?: Readonly<Record<string, string>>;
  /**
   * Taints of Nodes that the worker puts up with, in the form that Pods use. Without them no worker is placed on a Node with a taint of effect NoSchedule, and workers leave a Node that gets one of effect NoExecute.
   */
  readonly tolerations?: readonly LambdaWorkerSpecToleration[];
  readonly topologySpread?: LambdaWorkerSpecTopologySpread;
  /**
   * Seconds between the request to end (SIGTERM) and the end by force (SIGKILL). 0 ends it at once.
   */
  readonly terminationGracePeriodSeconds: number;
}
/**
 * Names one Secret.
 */
export interface LambdaWorkerSpecImagePullSecret {
  /**
   * Name of the Secret.
   */
  readonly name: string;
}
/**
 * One variable, with a value of its own or one out of a Secret.
 */
export interface LambdaWorkerSpecVariable {
  /**
   * Name of the variable.
   */
  readonly name: string;
  /**
   * The value; empty when neither it nor valueFrom is given.
   */
  readonly value?: string;
  readonly valueFrom?: LambdaWorkerSpecVariableValueFrom;
}
/**
 * Where the value comes from.
 */
export interface LambdaWorkerSpecVariableValueFrom {
  readonly secretKeyRef: LambdaWorkerSpecVariableValueFromSecretKeyRef;
}
/**
 * One key of a Secret in the same namespace, read when the container is made. A Role and a RoleBinding there have to let the agents get the Secret; the condition Ready says when they do not.
 */
export interface LambdaWorkerSpecVariableValueFromSecretKeyRef {
  /**
   * Name of the Secret.
   */
  readonly name: string;
  /**
   * Key in the Secret's data.
   */
  readonly key: string;
  /**
   * Whether the variable is left out when Secret or key are missing, instead of the worker waiting for them.
   */
  readonly optional: boolean;
}
/**
 * Resources of the worker.
 */
export interface LambdaWorkerSpecResources {
  readonly requests?: LambdaWorkerSpecResourcesRequests;
  readonly limits: LambdaWorkerSpecResourcesLimits;
  /**
   * How many processes and threads the worker may have.
   */
  readonly pids: number;
}
/**
 * Amounts that are counted and reserved on the node, beside the limit of memory and ephemeralStorage.
 */
export interface LambdaWorkerSpecResourcesRequests {
  /**
   * CPU time as a quantity of cores, such as 250m, 10m by default. Counted on the node while the worker has a container that is not paused.
   */
  readonly cpu?: number | string;
}
/**
 * Upper limits. While it has a container, running or paused, a worker takes its memory and ephemeralStorage of its node's capacity.
 */
export interface LambdaWorkerSpecResourcesLimits {
  /**
   * Memory limit as a quantity of bytes, 128Mi by default. The functions see it in AWS_LAMBDA_FUNCTION_MEMORY_SIZE.
   */
  readonly memory: number | string;
  /**
   * CPU time as a quantity of cores, such as 500m or 2. Without it there is no limit.
   */
  readonly cpu?: number | string;
}
/**
 * The start of the worker with runtimeInterface Lambda, before its first call.
 */
export interface LambdaWorkerSpecStartup {
  /**
   * Seconds that the runtime, its extensions and the function may take to load; 60 without it. A worker that takes longer is ended and started again, each time after a longer wait. A change holds from the next container on.
   */
  readonly timeoutSeconds?: number;
}
/**
 * Format of the worker's log, as the LoggingConfig of Lambda. Runtime clients read it from AWS_LAMBDA_LOG_FORMAT and AWS_LAMBDA_LOG_LEVEL; lines of the function itself pass as they are. A change makes a new container.
 */
export interface LambdaWorkerSpecLogging {
  /**
   * Text, or JSON with Lambda's own lines as its platform events (with runtimeInterface Lambda).
   */
  readonly format: 'Text' | 'JSON';
  /**
   * Level from which on the runtime client passes lines of the function on; INFO without it.
   */
  readonly applicationLevel?: 'TRACE' | 'DEBUG' | 'INFO' | 'WARN' | 'ERROR' | 'FATAL';
  /**
   * Level from which on platform events are written; INFO without it. platform.start and platform.report are written at each level, since output is told apart by them.
   */
  readonly systemLevel?: 'DEBUG' | 'INFO' | 'WARN';
}
/**
 * One call made before the worker is called ready, so that the runtime and the function are loaded. A call that fails keeps the worker from being ready (reason WarmUpFailed) and is made again.
 */
export interface LambdaWorkerSpecWarmUp {
  /**
   * The payload of that call, any JSON.
   */
  readonly payload: unknown;
}
/**
 * When an idle worker is paused and removed. The resource and its assignment stay; the next call wakes it.
 */
export interface LambdaWorkerSpecIdlePolicy {
  /**
   * Seconds since the last activity after which it is frozen. Without it a worker that rests Running is not paused, and one that rests Paused or Absent returns to that state after 10 seconds.
   */
  readonly pauseAfterSeconds?: number;
  /**
   * Seconds since the last activity after which its container is removed. Without it the container stays.
   */
  readonly removeAfterSeconds?: number;
}
/**
 * Handling of calls with InvocationType Event, as the event invoke configuration of Lambda. The setting belongs to the function: the worker created first decides for all workers of the function, and the first by name among workers created in the same second.
 */
export interface LambdaWorkerSpecAsyncInvoke {
  /**
   * How often a call is made again after the function failed. The first try comes after 1 minute, the second after 2.
   */
  readonly maximumRetryAttempts: number;
  /**
   * Seconds after which a call that has not succeeded is given up, counted from its acceptance.
   */
  readonly maximumEventAgeSeconds: number;
  readonly onSuccess?: LambdaWorkerSpecAsyncInvokeOnSuccess;
  readonly onFailure?: LambdaWorkerSpecAsyncInvokeOnFailure;
}
/**
 * Where the record of a call goes that the function has answered, with the answer. Without it there is no such record.
 */
export interface LambdaWorkerSpecAsyncInvokeOnSuccess {
  /**
   * Function of the same namespace that is called with the record, as an Event of its own.
   */
  readonly functionName?: string;
  /**
   * HTTP endpoint that the record is posted to. Any status from 200 to 299 takes it. No passwords in it.
   */
  readonly url?: string;
}
/**
 * Where the record of a call goes that was given up. Without it the call is dropped and counted.
 */
export interface LambdaWorkerSpecAsyncInvokeOnFailure {
  /**
   * Function of the same namespace that is called with the record, as an Event of its own.
   */
  readonly functionName?: string;
  /**
   * HTTP endpoint that the record is posted to. Any status from 200 to 299 takes it. No passwords in it.
   */
  readonly url?: string;
}
/**
 * How many calls of the function run and wait at once. All but perWorker belong to the function: the worker created first decides for all workers of the function, and the first by name among workers created in the same second.
 */
export interface LambdaWorkerSpecConcurrency {
  /**
   * Calls that this worker takes at once, 1 without it; its runtime client has to ask for as many. The client reads the number from AWS_LAMBDA_MAX_CONCURRENCY, which is set where this is above 1, as in Lambda Managed Instances. Calls share memory, processors and /tmp of the worker. Needs runtimeInterface Lambda. A change makes a new container.
   */
  readonly perWorker?: number;
  /**
   * Calls that run at once, through all gateways together. Each worker has a share of them in status.assignment. Without it as many as the workers of the function take; 0 switches the function off, as in Lambda.
   */
  readonly reserved?: number;
  /**
   * Calls that wait in a gateway for a place before further ones are refused with 429.
   */
  readonly queueDepth: number;
}
/**
 * How the worker is attached to the network.
 */
export interface LambdaWorkerSpecNetwork {
  /**
   * Bridge gives it an address of its own on the node's bridge. Host lets it share the node's network with a port that is chosen for it; it then needs command or args, since only the emulator's flag sets its port.
   */
  readonly mode: 'Bridge' | 'Host';
  /**
   * Destinations of the worker: the Internet without private addresses and the cluster; the Pods and Services of the Cluster; All that the node lets; or None, DNS included. A class takes away and gives nothing that the node denies. Without it the node's default holds (--egress), which is All. A change makes a new container.
   */
  readonly egress?: 'All' | 'Internet' | 'Cluster' | 'None';
}
/**
 * One toleration.
 */
export interface LambdaWorkerSpecToleration {
  /**
   * Key of the taint. Without it every taint is meant, and operator must be Exists.
   */
  readonly key?: string;
  /**
   * Whether the taint must have the same value (Equal) or may have any (Exists).
   */
  readonly operator: 'Equal' | 'Exists';
  /**
   * Value of the taint, for operator Equal.
   */
  readonly value?: string;
  /**
   * Effect of the taint. Without it every effect is meant.
   */
  readonly effect?: 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute';
  /**
   * Seconds from the coming of a taint of effect NoExecute after which the worker leaves after all. Without it, it stays; 0 or less is at once.
   */
  readonly tolerationSeconds?: number;
}
/**
 * How the workers of the function, those of the same namespace and function name, are spread over parts of the cluster such as zones. Without it they are spread over nodes as far as room allows.
 */
export interface LambdaWorkerSpecTopologySpread {
  /**
   * Label of LambdaNodes whose values are the parts, such as topology.kubernetes.io/zone. Nodes without it are not chosen, or with ScheduleAnyway last.
   */
  readonly topologyKey: string;
  /**
   * By how many workers of the function a part may be ahead of the one that has fewest.
   */
  readonly maxSkew: number;
  /**
   * Whether a worker waits when every node that would do is in a part too far ahead (DoNotSchedule), or goes to the part that has fewest (ScheduleAnyway).
   */
  readonly whenUnsatisfiable: 'DoNotSchedule' | 'ScheduleAnyway';
}
/**
 * State of the worker as it is. Written by the controller (assignment, Scheduled) and the node's agent (the rest); lastInvocationTime may be written by others, to wake it.
 */
export interface LambdaWorkerStatus {
  readonly assignment?: LambdaWorkerStatusAssignment;
  readonly unfitArchitectures?: LambdaWorkerStatusUnfitArchitectures;
  /**
   * Epoch of the last assignment, while there is none because it was taken away; the next is higher. Written by the controller alone.
   */
  readonly lastEpoch?: number;
  /**
   * Phase of the worker, in one word. Conditions say why. A change between Running and Paused, which no decision depends on, is told within five minutes, and at once while there are few of them.
   */
  readonly phase?:
    | 'Pending'
    | 'Pulling'
    | 'Creating'
    | 'Running'
    | 'Pausing'
    | 'Paused'
    | 'Resuming'
    | 'Terminating'
    | 'Absent'
    | 'Failed'
    | 'Unknown';
  /**
   * The generation of the spec that this status is about; -1 before anybody has looked.
   */
  readonly observedGeneration?: number;
  /**
   * Name of the container in containerd's namespace esb.
   */
  readonly containerID?: string;
  /**
   * The image that the container was made from, by digest.
   */
  readonly image?: string;
  readonly address?: LambdaWorkerStatusAddress;
  /**
   * When the container was last started.
   */
  readonly startedAt?: string;
  /**
   * Since when it has been paused.
   */
  readonly pausedAt?: string;
  /**
   * How many times it has been started again after it had ended by itself.
   */
  readonly restartCount?: number;
  readonly share?: LambdaWorkerStatusShare;
  readonly lastTermination?: LambdaWorkerStatusLastTermination;
  /**
   * Stamp of the last activity (RFC 3339, as a rule with microseconds). The agent writes that of the last call with the phase, or within five minutes. Others may write it: a value that differs from observedInvocationTime and that the agent did not issue itself wakes the worker. Compared as text, never as time.
   */
  readonly lastInvocationTime?: string;
  /**
   * The value of lastInvocationTime that the agent has acted on, letter by letter.
   */
  readonly observedInvocationTime?: string;
  /**
   * Scheduled, ImageReady, NetworkReady, Ready and UpToDate; LimitsReached, HandlerIgnored, WithinPolicy and CleanedUp only while there is something to tell.
   */
  readonly conditions?: readonly LambdaWorkerStatusCondition[];
}
/**
 * Where the worker lives. Written by the controller alone.
 */
export interface LambdaWorkerStatusAssignment {
  /**
   * Name of the LambdaNode.
   */
  readonly nodeName: string;
  /**
   * Rises with each assignment; agents refuse calls that carry any other.
   */
  readonly epoch: number;
  readonly granted?: LambdaWorkerStatusAssignmentGranted;
  /**
   * Calls that the worker may run at once, of those that concurrency.reserved keeps for its function. The shares of all workers of the function are together no more than that number. Absent where none is reserved.
   */
  readonly share?: number;
}
/**
 * Amounts that the LambdaQuotas of the namespace let the worker have, and count for it. Absent where there is none.
 */
export interface LambdaWorkerStatusAssignmentGranted {
  /**
   * Memory limit and ephemeralStorage in MiB.
   */
  readonly memoryMiB: number;
  /**
   * CPU that it asks for, in thousandths of a core.
   */
  readonly milliCPU: number;
}
/**
 * Processors that the image was found not to be made for: no node with one of them gets the worker, until spec.image is changed. Written by the controller alone.
 */
export interface LambdaWorkerStatusUnfitArchitectures {
  /**
   * spec.image of that time.
   */
  readonly image: string;
  /**
   * Names of processors, as images have them.
   *
   * Items: One of them, such as arm64.
   */
  readonly architectures: readonly string[];
}
/**
 * The address of the worker on its node.
 */
export interface LambdaWorkerStatusAddress {
  /**
   * Address on the node's bridge.
   */
  readonly ip: string;
  /**
   * Port of the emulator. Absent with runtimeInterface Lambda, where nothing is called at the address.
   */
  readonly port?: number;
}
/**
 * Calls that the worker may run by the word of its agent: the share of its assignment, or as many as still run since the share was larger. Absent where the assignment has no share.
 */
export interface LambdaWorkerStatusShare {
  /**
   * Epoch of the assignment that the agent goes by.
   */
  readonly epoch: number;
  /**
   * Number of calls.
   */
  readonly calls: number;
}
/**
 * How it ended the last time.
 */
export interface LambdaWorkerStatusLastTermination {
  /**
   * Exit code of the first process, or of a runtime that ended before it was ready; 128 and the signal's number when a signal ended it.
   */
  readonly exitCode: number;
  /**
   * OOMKilled, Error, Completed and the like.
   */
  readonly reason: string;
  /**
   * When it ended.
   */
  readonly finishedAt: string;
  /**
   * The last lines that it wrote, or why it was not initialized, in Lambda's words.
   */
  readonly message?: string;
}
/**
 * One aspect of the state, in the usual form.
 */
export interface LambdaWorkerStatusCondition {
  /**
   * Which aspect, in CamelCase.
   */
  readonly type: string;
  /**
   * Whether it holds.
   */
  readonly status: 'True' | 'False' | 'Unknown';
  /**
   * The generation of the spec that this is about.
   */
  readonly observedGeneration?: number;
  /**
   * When status last changed.
   */
  readonly lastTransitionTime: string;
  /**
   * Why, in one CamelCase word, for programs.
   */
  readonly reason: string;
  /**
   * Why, for people.
   */
  readonly message: string;
}
