import type { EgressClass } from '../../cni/host/egress-rules.ts';
import type { CallOptions } from '../../common/deadline.ts';
import type { Health } from '../../common/health.ts';
import type { TaskProcess, TaskStatus } from '../../containerd/task-service.ts';
import type { SpecShape } from '../../oci/spec-shape.ts';
import type { NodeImages } from './images.ts';
import type { NodeInventory } from './inventory.ts';
import type { LimitHits } from './limits.ts';
import type { WorkerLogReader } from './logs.ts';
import type { TmpOfNode } from './tmp-storage.ts';
import type { WorkerUsage } from './usage.ts';

/** The owner of a container; kept in its labels. */
export interface WorkerIdentity {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly functionName: string;
}

/** An image and the way to obtain it. */
export interface ImageRequest {
  /** Reference as the user wrote it; short names are normalised as Docker does. */
  readonly reference: string;
  readonly pullPolicy: 'Always' | 'IfNotPresent' | 'Never';
  /** Reads the pull secrets; called only when the image is pulled. None when absent. */
  readonly pullSecrets?: (options: CallOptions) => Promise<PullSecrets>;
  /** Names of the Secrets that `pullSecrets` reads, to tell requests apart. */
  readonly pullSecretNames?: readonly string[];
}

/** The contents of a worker's pull secrets. */
export interface PullSecrets {
  /** Contents of `.dockerconfigjson` of each, in order. */
  readonly configs: readonly string[];
  /** Names of secrets that do not exist, or hold nothing of that kind. */
  readonly missing: readonly string[];
}

/**
 * Speaker of the Runtime API in a worker. `Lambda`: our init, which is process 1 of the container. `Emulator`: the
 * emulator that the image brings, on a port.
 */
export type RuntimeInterface = 'Lambda' | 'Emulator';

/** Everything that forms a container, secrets resolved. */
export interface WorkerShape extends SpecShape {
  readonly image: ImageRequest;
  readonly runtimeInterface: RuntimeInterface;
  /** Seconds until a worker of interface `Lambda` has to be ready. */
  readonly startupTimeoutSeconds: number;
  /** Port of the emulator inside the worker; in `Host` mode the runtime chooses one. Of no meaning for `Lambda`. */
  readonly port: number;
  readonly networkMode: 'Bridge' | 'Host';
  /** Destinations of a worker in `Bridge` mode; absent for the default of the node. */
  readonly egress?: EgressClass;
  readonly terminationGraceSeconds: number;
}

/** A request to {@link ContainerRuntime.ensure}. */
export interface EnsureRequest {
  readonly containerId: string;
  readonly identity: WorkerIdentity;
  readonly epoch: number;
  /** Hash of the resource's shape, kept in a label and never computed here. */
  readonly shapeHash: string;
  readonly shape: WorkerShape;
  /**
   * Called at each step, for the phase: image being pulled, container being made, waiting for the port. `detail` is the
   * progress of the present step, as text for a condition.
   */
  readonly onProgress?: (step: EnsureStep, detail?: string) => void;
}

export type EnsureStep = 'Pulling' | 'Creating' | 'Resuming' | 'Starting';

/** Address at which a worker answers calls, from the node's network namespace. */
export interface WorkerAddress {
  readonly ip: string;
  readonly port: number;
}

/**
 * State of a container's processes by the kernel alone. `Gone` where none is left, `Untold` where the kernel's files
 * cannot be found.
 */
export type KernelState = 'Running' | 'Paused' | 'Gone' | 'Untold';

/** State of a task as the runtime found it. */
export type TaskState =
  | { readonly kind: 'Missing' }
  /** Made and never started: left by a crash. */
  | { readonly kind: 'Created' }
  | {
      readonly kind: 'Running';
      readonly pid: number;
      /** The runtime itself still calls the task paused: see {@link ContainerRuntime.settle}. */
      readonly unsettled?: true;
    }
  | { readonly kind: 'Paused'; readonly pid: number }
  | {
      readonly kind: 'Stopped';
      readonly exitCode: number;
      readonly exitedAt?: Date;
      readonly oomKilled: boolean;
    }
  /** The runtime answers for other tasks; the shim of this one hangs. The state is the kernel's. */
  | { readonly kind: 'Unanswering'; readonly kernel: KernelState };

/** A container of ours, put together from containerd, the attachment cache and the labels. */
export interface WorkerInfo {
  readonly containerId: string;
  readonly identity: WorkerIdentity;
  readonly epoch: number;
  readonly shapeHash: string;
  /** Image by digest, `name@sha256:…`. */
  readonly image: string;
  readonly task: TaskState;
  /** The longest that a call in it may take. Absent of a container that an earlier version made. */
  readonly timeoutSeconds?: number;
  /** Argument that the image's runtime takes for the handler, although the resource names another; absent for none. */
  readonly handlerInItsPlace?: string;
  /** Limits that the worker reached and survived; absent for none. */
  readonly limits?: LimitHits;
  /** Interface of the container; the resource may name another by now. */
  readonly runtimeInterface: RuntimeInterface;
  /** Destinations that were asked for; absent for the default of the node. */
  readonly egress?: EgressClass;
  /** Where it is called. Absent for the interface `Lambda`: calls go by the worker's init. */
  readonly address?: WorkerAddress;
  /** Address of its network, to be shown, of a worker that nothing is called at. */
  readonly ip?: string;
  /** Whether its `/tmp` is a file on disk; absent for a tmpfs, which counts as memory. */
  readonly tmpOnDisk?: boolean;
  readonly createdAt: Date;
}

/** A hint of a change; listeners read the state again. */
export interface RuntimeEvent {
  readonly kind:
    | 'Exited'
    | 'OutOfMemory'
    | 'LimitReached'
    | 'Paused'
    | 'Resumed'
    | 'Created'
    | 'Deleted'
    | 'Disconnected'
    | 'Reconnected';
  /**
   * Empty for `Disconnected`, after which the runtime may be away, and for `Reconnected`, after which all state has to
   * be read again.
   */
  readonly containerId: string;
}

/** The state of the runtime itself, for the node's conditions. */
export type RuntimeHealth = { readonly ok: true; readonly version: string } | Extract<Health, { readonly ok: false }>;

/**
 * The container side of one node. Every method may be repeated, takes a signal and a deadline, and leaves nothing
 * half-made when ended early: the runtime itself finishes or undoes work that has begun.
 *
 * Errors carry these codes: `ImageNotFound`, `ImagePullFailed`, `ImageInvalid`, `NoEntrypoint`, `RegistryUnreachable`,
 * those of {@link ImageRequest.pullSecrets}, `NetworkFailed`, `AddressesExhausted`, `CreateFailed`, `StartFailed`,
 * `ExitedAtOnce`, `InitFailed`, `NotListening`, `RuntimeUnavailable`, `DeadlineExceeded`, `Aborted`, `DiskFull`,
 * `MemoryTooSmall`, `TaskUnanswering`, `TaskStuck`.
 *
 * An `ExitedAtOnce` is a `WorkerExitError` with the exit code and the last output: the container is gone by then, its
 * log is kept until `destroy`. So is the container of an `InitFailed`, whose message has Lambda's words. `pause` and
 * `resume` of a container that does not run: `NotFound`. `RuntimeUnavailable`: the runtime answers no call.
 * `TaskUnanswering`: the runtime answers, the shim of this container does not. `TaskStuck`: the kernel does not carry out
 * a request for this container.
 */
export interface ContainerRuntime {
  /**
   * Brings a worker to a running task that can take calls: its port is open, or its init is ready. Running: nothing to
   * do. Paused: resumed. Stopped: deleted and replaced. Missing: made. The container of another worker is left alone,
   * with `CreateFailed`. Default deadline 300,000 ms, pull included, and the time that an init may take.
   */
  ensure(request: EnsureRequest, options?: CallOptions): Promise<WorkerInfo>;
  /**
   * Succeeds where a start would have the image: it is on the node and may be used from there, or the registry has its
   * manifest and its configuration for this node. Keeps no layers. Default deadline 60,000 ms. Errors as for `ensure`.
   */
  resolveImage(request: ImageRequest, options?: ResolveOptions): Promise<void>;
  /** Freezes the task; already paused is success. After a failure the task is thawed or reported in its state. */
  pause(containerId: string, options?: CallOptions): Promise<void>;
  /** Thaws the task; already running is success. Once resolved the task runs, even while the runtime's tools deny that. */
  resume(containerId: string, options?: CallOptions): Promise<void>;
  /**
   * Makes the runtime's own tools call a running worker running. Only for a worker without a call: the worker may be
   * frozen for a few milliseconds. When `signal` fires the worker runs at once, and this resolves.
   *
   * @returns whether the tools do now; false is tried again later
   */
  settle(containerId: string, options?: CallOptions): Promise<boolean>;
  /**
   * SIGTERM, grace, SIGKILL; a frozen worker is killed frozen and runs no more. Then task, container, snapshot,
   * attachment, log are removed. Missing is success.
   */
  destroy(containerId: string, options?: DestroyOptions): Promise<void>;
  /** Removes all output of a worker that is gone for good, with its containers. */
  removeLogsOf(uid: string): Promise<void>;
  /**
   * Everything of ours on this node. A task that cannot be asked is listed as `Unanswering`. Default deadline 60,000 ms.
   *
   * @throws {EsbError} `RuntimeUnavailable` when the runtime does not answer
   */
  list(options?: CallOptions): Promise<WorkerInfo[]>;
  /** A container of ours, or undefined when there is neither container nor attachment. Errors as for `list`. */
  inspect(containerId: string, options?: CallOptions): Promise<WorkerInfo | undefined>;
  /** State of a container by the kernel, in a few microseconds. Asks no runtime, and never throws. */
  kernelState(containerId: string): KernelState;
  /** Processor time and memory of a worker, frozen or not; undefined without one. Default deadline 10,000 ms. */
  usage(containerId: string, options?: CallOptions): Promise<WorkerUsage | undefined>;
  /**
   * Everything on the node that bears the name of a container.
   *
   * @param known containers that the caller knows of, for leftovers that only their names lead to
   */
  inventory(known: ReadonlySet<string>, options?: CallOptions): Promise<NodeInventory>;
  /**
   * Removes the leftovers of a container without a record, after all work under way for that container. Returns false,
   * and does nothing, when there is a record. A stand-in for a lost record counts as none.
   */
  clear(containerId: string, options?: ClearOptions): Promise<boolean>;
  /** Output of workers, from any offset on. */
  readonly workerLogs: WorkerLogReader;
  /** Last output of a worker, at most `maxBytes`. Empty when there is no log. */
  readLog(containerId: string, maxBytes: number): Promise<Buffer>;
  /** Current size of a worker's log in bytes, to read later output from there. */
  logOffset(containerId: string): Promise<number>;
  /** Output of a worker after `offset`, at most the last `maxBytes`. */
  readLogSince(containerId: string, offset: number, maxBytes: number): Promise<Buffer>;
  /**
   * Whether a full disk may have stopped the copy of a worker's output to its log for good: the worker wrote while the
   * disk was full. Such a worker stands still once its pipe is full.
   */
  isOutputLost(containerId: string, full: OutputWindow): Promise<boolean>;
  /** Hints of changes from any source. Returns the function that ends the subscription. */
  subscribe(listener: (event: RuntimeEvent) => void): () => void;
  health(options?: CallOptions): Promise<RuntimeHealth>;
  networkHealth(options?: CallOptions): Promise<Health>;
  /** Where `/tmp` of workers is. */
  readonly tmp: TmpOfNode;
  /** Image references (normalised) present on the node. */
  images(options?: CallOptions): Promise<string[]>;
  /** Images of the node, for the collector that keeps the disk from filling up. */
  readonly nodeImages: NodeImages;
  /** Connects, checks versions, prepares the network. Retried by the caller when it fails. */
  start(options?: StartOptions): Promise<void>;
  /**
   * Removes everything of ours from the node: workers, images, network, control groups. No other work may be under way,
   * and only {@link ContainerRuntime.stop} may follow. Goes on after a failure; may be repeated.
   *
   * @returns one message for each thing that could not be removed; empty when nothing is left
   */
  leave(options?: CallOptions): Promise<string[]>;
  /** Ends subscriptions, waits until half-done work is undone, closes connections. Touches no worker. */
  stop(): Promise<void>;
}

/** Time in which a disk was full, as far as known; in milliseconds since the epoch. */
export interface OutputWindow {
  readonly from: number;
  readonly until: number;
}

export interface StartOptions extends CallOptions {
  /** Called once workers can be listed and hints of changes come, before the network is prepared. */
  readonly onObserving?: () => void;
}

export interface ResolveOptions extends CallOptions {
  /** Namespace of the worker that wants the image. */
  readonly namespace?: string;
}

export interface ClearOptions extends CallOptions {
  /** Leave the log, for questions about the worker. Default false. */
  readonly keepLog?: boolean;
}

export interface DestroyOptions extends CallOptions {
  /** Seconds between SIGTERM and SIGKILL. Default 10; 0 kills at once. */
  readonly graceSeconds?: number;
  /** Keeps the output for a while: an hour, and 256 MiB of all removed containers. Default false. */
  readonly keepLog?: boolean;
}

/** A task as containerd and the kernel have it together. */
export interface FoundTask extends TaskProcess {
  /** State by containerd alone, which goes on saying PAUSED of a task that was thawed below containerd. */
  readonly told: TaskStatus;
}
