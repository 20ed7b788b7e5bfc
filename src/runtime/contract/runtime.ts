import type { CallOptions } from '../../common/deadline.ts';
import type { Health } from '../../common/health.ts';
import type { TaskProcess, TaskStatus } from '../../containerd/task-service.ts';
import type { SpecShape } from '../../oci/spec-shape.ts';
import type { NodeImages } from './images.ts';
import type { NodeInventory } from './inventory.ts';
import type { LimitHits } from './limits.ts';
import type { WorkerLogReader } from './logs.ts';

/** Who a container belongs to; kept in its labels. */
export interface WorkerIdentity {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly functionName: string;
}

/** How an image is to be obtained. */
export interface ImageRequest {
  /** As the user wrote it; short names are normalised as Docker does. */
  readonly reference: string;
  readonly pullPolicy: 'Always' | 'IfNotPresent' | 'Never';
  /** Reads what a registry may want to know; asked for only when the image is pulled. None when absent. */
  readonly pullSecrets?: (options: CallOptions) => Promise<PullSecrets>;
  /** Names of the Secrets that it reads, to tell requests apart. */
  readonly pullSecretNames?: readonly string[];
}

/** What the pull secrets of a worker hold. */
export interface PullSecrets {
  /** Contents of `.dockerconfigjson` of each, in order. */
  readonly configs: readonly string[];
  /** Names of those that do not exist, or hold nothing of that kind. */
  readonly missing: readonly string[];
}

/** Everything that forms a container, secrets resolved. */
export interface WorkerShape extends SpecShape {
  readonly image: ImageRequest;
  /** Port of the emulator inside the worker; in `Host` mode the runtime chooses one. */
  readonly port: number;
  readonly networkMode: 'Bridge' | 'Host';
  readonly terminationGraceSeconds: number;
}

/** What {@link ContainerRuntime.ensure} is asked for. */
export interface EnsureRequest {
  readonly containerId: string;
  readonly identity: WorkerIdentity;
  readonly epoch: number;
  /** Hash of the resource's shape, kept in a label and never computed here. */
  readonly shapeHash: string;
  readonly shape: WorkerShape;
  /**
   * Told as the work goes on, for the phase: image being pulled, container being made, waiting for the port. With
   * `detail`, how far the present step is, as text for a condition.
   */
  readonly onProgress?: (step: EnsureStep, detail?: string) => void;
}

export type EnsureStep = 'Pulling' | 'Creating' | 'Resuming' | 'Starting';

/** Where a worker answers calls, from the node's network namespace. */
export interface WorkerAddress {
  readonly ip: string;
  readonly port: number;
}

/**
 * What the kernel alone says of the processes of a container. `Gone` where none is left, `Untold` where the kernel's
 * files cannot be found.
 */
export type KernelState = 'Running' | 'Paused' | 'Gone' | 'Untold';

/** What the runtime found of a task. */
export type TaskState =
  | { readonly kind: 'Missing' }
  /** Made and never started: left by a crash. */
  | { readonly kind: 'Created' }
  | {
      readonly kind: 'Running';
      readonly pid: number;
      /** The runtime itself still calls it paused: see {@link ContainerRuntime.settle}. */
      readonly unsettled?: true;
    }
  | { readonly kind: 'Paused'; readonly pid: number }
  | {
      readonly kind: 'Stopped';
      readonly exitCode: number;
      readonly exitedAt?: Date;
      readonly oomKilled: boolean;
    }
  /** The runtime answers for others, and cannot tell of this one: its shim hangs. The kernel says what there is. */
  | { readonly kind: 'Unanswering'; readonly kernel: KernelState };

/** A container of ours, as containerd, the attachment cache and the labels tell it. */
export interface WorkerInfo {
  readonly containerId: string;
  readonly identity: WorkerIdentity;
  readonly epoch: number;
  readonly shapeHash: string;
  /** Image by digest, `name@sha256:…`. */
  readonly image: string;
  readonly task: TaskState;
  /** What the image's runtime takes for the handler, although the resource names another; absent for none. */
  readonly handlerInItsPlace?: string;
  /** Limits that it ran into and lived on; absent for none. */
  readonly limits?: LimitHits;
  readonly address?: WorkerAddress;
  readonly createdAt: Date;
}

/** A hint that something happened; whoever cares reads again. */
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
   * Empty for `Disconnected`, from which on the runtime may be away, and for `Reconnected`, after which everything is to
   * be read again.
   */
  readonly containerId: string;
}

/** The state of the runtime itself, for the node's conditions. */
export type RuntimeHealth =
  | { readonly ok: true; readonly version: string }
  | { readonly ok: false; readonly reason: string; readonly message: string };

/**
 * The container side of one node. Every method may be repeated, takes a signal and a deadline, and leaves nothing
 * half-made when it is ended early: what was begun is finished or undone by the runtime itself.
 *
 * Errors carry these codes: `ImageNotFound`, `ImagePullFailed`, `ImageInvalid`, `NoEntrypoint`, `RegistryUnreachable`,
 * those of {@link ImageRequest.pullSecrets},
 * `NetworkFailed`, `AddressesExhausted`, `CreateFailed`, `StartFailed`, `ExitedAtOnce`, `NotListening`,
 * `RuntimeUnavailable`, `DeadlineExceeded`, `Aborted`, `DiskFull`, `MemoryTooSmall`, `TaskUnanswering`, `TaskStuck`. An
 * `ExitedAtOnce` is a `WorkerExitError` with the exit code and the last output: the container itself is gone by then, its
 * log is kept until `destroy`. `pause` and `resume` of what does not run: `NotFound`. `RuntimeUnavailable` says that the
 * runtime answers for nobody, `TaskUnanswering` that it answers, and the shim of this container does not, `TaskStuck` that
 * the kernel does not do what it was asked with this container.
 */
export interface ContainerRuntime {
  /**
   * Brings a worker to a running task with its port open. Running: nothing to do. Paused: resumed. Stopped: deleted
   * and made anew. Missing: made. One that another worker has is left alone, with `CreateFailed`. Default deadline
   * 300,000 ms, pull included.
   */
  ensure(request: EnsureRequest, options?: CallOptions): Promise<WorkerInfo>;
  /**
   * Makes everything of a worker in advance and starts nothing of it, for an {@link ContainerRuntime.ensure} with the same
   * request to start. Until then, or `destroy`, `inspect` and `list` do not tell of it. Nothing is done where there is
   * something of the worker already. Default deadline as for `ensure`.
   */
  prepare(request: EnsureRequest, options?: CallOptions): Promise<void>;
  /** Freezes the task; already paused is success. After a failure the task is thawed again or reported as it is. */
  pause(containerId: string, options?: CallOptions): Promise<void>;
  /**
   * Thaws the task; already running is success. It runs when this resolves, also where the runtime's own tools do not say
   * so yet.
   */
  resume(containerId: string, options?: CallOptions): Promise<void>;
  /**
   * Sees to it that the runtime's own tools, too, call a running worker running. Only while no call is in it: it may be
   * frozen for a few milliseconds meanwhile. When `signal` fires it runs again at once, and this resolves.
   *
   * @returns whether they do now; false is tried again later
   */
  settle(containerId: string, options?: CallOptions): Promise<boolean>;
  /**
   * SIGTERM, grace, SIGKILL; a frozen worker is killed as it is, so that it runs no more. Then task, container, snapshot,
   * attachment, log. Missing is success.
   */
  destroy(containerId: string, options?: DestroyOptions): Promise<void>;
  /** Removes all output of a worker that is gone for good, with its containers. */
  removeLogsOf(uid: string): Promise<void>;
  /**
   * Everything of ours on this node. A task that cannot be asked is listed as `Unanswering`. Default deadline 60,000 ms.
   *
   * @throws {EsbError} `RuntimeUnavailable` when the runtime answers for nobody
   */
  list(options?: CallOptions): Promise<WorkerInfo[]>;
  /** One of ours, or undefined when there is neither container nor attachment. Errors as for `list`. */
  inspect(containerId: string, options?: CallOptions): Promise<WorkerInfo | undefined>;
  /** What the kernel says of a container, in a few microseconds. Asks no runtime, and never throws. */
  kernelState(containerId: string): KernelState;
  /**
   * What there is on the node that bears the name of a container.
   *
   * @param known containers that the caller knows of, for what can be found only by their names
   */
  inventory(known: ReadonlySet<string>, options?: CallOptions): Promise<NodeInventory>;
  /**
   * Removes what is left of a container that has no record any more, after whatever is under way for it. Returns false,
   * and does nothing, when the container is there. A record in the place of a lost one counts as none.
   */
  clear(containerId: string, options?: ClearOptions): Promise<boolean>;
  /** What workers wrote, from any offset on. */
  readonly workerLogs: WorkerLogReader;
  /** The last lines that a worker wrote, at most `maxBytes`. Empty when there is no log. */
  readLog(containerId: string, maxBytes: number): Promise<Buffer>;
  /** Current size of a worker's log in bytes, to read later what came after it. */
  logOffset(containerId: string): Promise<number>;
  /** What a worker wrote after `offset`, at most the last `maxBytes` of it. */
  readLogSince(containerId: string, offset: number, maxBytes: number): Promise<Buffer>;
  /**
   * Whether what a running or frozen worker writes no longer comes to its log, which makes it stand still once its pipe is
   * full. Only of use after a disk was full: a line that says so is written into its output, and waited for.
   *
   * @param pid its first process, as it was listed
   */
  isOutputLost(containerId: string, pid: number, options?: CallOptions): Promise<boolean>;
  /** Hints of changes made by anybody. Returns what ends the subscription. */
  subscribe(listener: (event: RuntimeEvent) => void): () => void;
  health(options?: CallOptions): Promise<RuntimeHealth>;
  networkHealth(options?: CallOptions): Promise<Health>;
  /** Image references (normalised) present on the node. */
  images(options?: CallOptions): Promise<string[]>;
  /** The same images, for whoever keeps the disk from filling up. */
  readonly nodeImages: NodeImages;
  /** Connects, checks versions, prepares the network. Retried by the caller when it fails. */
  start(options?: StartOptions): Promise<void>;
  /**
   * Removes everything of ours from the node: workers, images, network, control groups. Nothing else may be under way any
   * more, and nothing but {@link ContainerRuntime.stop} comes after it. Goes on after a failure; may be repeated.
   *
   * @returns what could not be removed, one message each; empty when nothing is left
   */
  leave(options?: CallOptions): Promise<string[]>;
  /** Ends subscriptions, waits for what is being undone, closes connections. Touches no worker. */
  stop(): Promise<void>;
}

export interface StartOptions extends CallOptions {
  /** Told once workers can be listed and hints of changes come, before the network is looked at. */
  readonly onObserving?: () => void;
}

export interface ClearOptions extends CallOptions {
  /** Leave the log, of a worker that somebody may ask about. Default false. */
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
  /** What containerd alone says. It goes on saying PAUSED of a task that was thawed below it. */
  readonly told: TaskStatus;
}
