import type { CallOptions } from '../../src/common/deadline.ts';
import { AbortedError } from '../../src/common/deadline.ts';
import { EsbError } from '../../src/common/errors.ts';
import type { Health } from '../../src/common/health.ts';
import type { NodeImages } from '../../src/runtime/contract/images.ts';
import type { NodeInventory, Trace } from '../../src/runtime/contract/inventory.ts';
import type { WorkerLogReader } from '../../src/runtime/contract/logs.ts';
import { refuseForeign } from '../../src/runtime/contract/matches.ts';
import type {
  ContainerRuntime,
  DestroyOptions,
  EnsureRequest,
  ImageRequest,
  KernelState,
  OutputWindow,
  RuntimeEvent,
  RuntimeHealth,
  TaskState,
  WorkerInfo,
} from '../../src/runtime/contract/runtime.ts';
import type { TmpOfNode } from '../../src/runtime/contract/tmp-storage.ts';
import type { WorkerUsage } from '../../src/runtime/contract/usage.ts';
import type { FakeInits } from './fake-inits.ts';

export type FakeOperation = 'ensure' | 'pause' | 'resume' | 'settle' | 'destroy' | 'clear' | 'list' | 'inspect';

export interface FakeFault {
  readonly error: Error;
  /** Whether the operation has its effect all the same, as after a timeout. Default false. */
  readonly afterEffect?: boolean;
}

/** A runtime in memory whose operations take as long, and fail as often, as a test says. */
export class FakeRuntime implements ContainerRuntime {
  readonly containers = new Map<string, WorkerInfo>();
  /** Until when the last output of a worker cannot be read. */
  slowLogs: Promise<void> | undefined;
  readonly logs = new Map<string, string>();
  readonly usages = new Map<string, WorkerUsage>();
  /** Containers whose output does not come to their logs. One that is made again is none of them. */
  readonly outputLost = new Set<string>();
  /** Workers whose output is kept. */
  writers = new Set<string>();
  /** Workers whose kept output was removed, in order. */
  readonly withoutLogs: string[] = [];
  /** Containers that were destroyed and whose output was kept, in order. */
  readonly keptLogs: string[] = [];
  /** Containers whose output was checked, in order. */
  readonly outputChecks: string[] = [];
  /** Times in which the disk was full, by those checks. */
  readonly outputWindows: OutputWindow[] = [];
  /** Leftovers of containers that are gone. */
  traces: Trace[] = [];
  /** Operations in order, such as `resume hello-1`. Reading is not among them. */
  readonly operations: string[] = [];
  readonly requests: EnsureRequest[] = [];
  readonly nodeImages: NodeImages = {
    list: () => Promise.resolve([]),
    remove: () => Promise.resolve(false),
    room: () => Promise.resolve({ totalBytes: 1, freeBytes: 1, totalFiles: 0, freeFiles: 0 }),
    nameOf: (reference) => reference,
  };
  /** Every operation fails with `RuntimeUnavailable`. */
  down = false;
  /** Containers whose shims hang: nothing is known of them but what the kernel says. A removal ends the shim too. */
  readonly hung = new Set<string>();
  /** Containers that cannot be removed. */
  readonly undying = new Set<string>();
  /**
   * Awaited by each operation before its effect. The fault that it resolves to goes before those of {@link
   * FakeRuntime.fail}.
   */
  before: (
    operation: FakeOperation,
    containerId: string,
    options: CallOptions & Pick<DestroyOptions, 'graceSeconds'>,
    // biome-ignore lint/suspicious/noConfusingVoidType: most resolve to nothing.
  ) => Promise<FakeFault | undefined | void> = () => Promise.resolve();
  /**
   * Awaited by `ensure` between what it makes and the start of its process: what stays when an agent is killed there.
   */
  made: ((containerId: string) => Promise<void>) | undefined;
  /** Awaited by `ensure` while it pulls the image, before all else. */
  pull: ((containerId: string) => Promise<void>) | undefined;
  /** Whether a container may get the address of one that is gone. */
  reusesAddresses = false;
  /** Whether images have to be pulled. */
  pulls = true;
  /**
   * Awaited by `ensure` of a process that runs, until it listens. The start fails with the error that it is rejected
   * with.
   */
  listens: ((containerId: string) => Promise<void>) | undefined;
  /** The inits of workers of interface `Lambda`. */
  inits: FakeInits | undefined;
  /** Awaited for each image that is asked for; an image that it rejects cannot be had. */
  registry: (reference: string) => Promise<void> = () => Promise.resolve();
  /** Images that were asked for, in order. */
  readonly resolved: string[] = [];
  /** The image that a reference stands for, by digest. */
  imageOf: (reference: string) => string = (reference) => `${reference}@sha256:0`;
  /** Called when a container goes whose process runs or is frozen, with the signal that the process gets. */
  onEnd: (containerId: string, signal: 'SIGTERM' | 'SIGKILL') => void = () => undefined;
  /** Called with each effect, in the moment that it happens. */
  onEffect: (operation: FakeOperation, containerId: string) => void = () => undefined;
  readonly #faults = new Map<FakeOperation, FakeFault[]>();
  readonly #listeners = new Set<(event: RuntimeEvent) => void>();
  readonly #now: () => number;
  #addresses = 1;
  #nextPid = 0;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** The next calls of `operation` fail, one for each fault. */
  fail(operation: FakeOperation, ...faults: FakeFault[]): void {
    this.#faults.set(operation, [...(this.#faults.get(operation) ?? []), ...faults]);
  }

  /** No operation fails any more. */
  heal(): void {
    this.#faults.clear();
    this.hung.clear();
    this.undying.clear();
    this.down = false;
  }

  /** Whether the next call of `operation` works. */
  works(operation: FakeOperation): boolean {
    return !this.down && (this.#faults.get(operation)?.length ?? 0) === 0;
  }

  count(operation: FakeOperation): number {
    return this.operations.filter((each) => each.startsWith(`${operation} `)).length;
  }

  taskOf(containerId: string): TaskState['kind'] | undefined {
    return this.containers.get(containerId)?.task.kind;
  }

  /** A container as if it had been made before. */
  put(info: WorkerInfo): void {
    this.containers.set(info.containerId, info);
  }

  /** The process of a worker ends by itself. */
  exit(containerId: string, exitCode: number, oomKilled = false): void {
    this.#setTask(containerId, { kind: 'Stopped', exitCode, oomKilled, exitedAt: new Date(this.#now()) });
    this.#initGone(containerId);
    this.emit({ kind: 'Exited', containerId });
  }

  /** Somebody else freezes or thaws a worker. */
  foreign(kind: 'Paused' | 'Running', containerId: string): void {
    this.#setTask(containerId, { kind, pid: 1 });
    this.emit({ kind: kind === 'Paused' ? 'Paused' : 'Resumed', containerId });
  }

  /** The machine restarts: containers without tasks are left. */
  reboot(): void {
    for (const containerId of this.containers.keys()) {
      this.#setTask(containerId, { kind: 'Missing' });
      this.#initGone(containerId);
    }
  }

  emit(event: RuntimeEvent): void {
    for (const listener of this.#listeners) {
      listener(event);
    }
  }

  async ensure(request: EnsureRequest, options: CallOptions = {}): Promise<WorkerInfo> {
    const { containerId } = request;
    this.requests.push(request);
    if (this.pull !== undefined) {
      request.onProgress?.('Pulling');
      await unlessAborted(this.pull(containerId), options.signal);
    }
    await this.#operate('ensure', containerId, options, () => this.#make(request));
    await this.#startMade(containerId, options.signal);
    await this.#listen(request, options.signal);
    const made = this.containers.get(containerId);
    if (made === undefined) {
      throw new EsbError('gone again', { code: 'CreateFailed' });
    }
    return made;
  }

  #make(request: EnsureRequest): void {
    const { containerId, epoch, onProgress, shapeHash } = request;
    const present = this.containers.get(containerId);
    refuseForeign(present?.identity.uid ?? '', request);
    if (present !== undefined && present.shapeHash === shapeHash && isAlive(present.task)) {
      if (present.task.kind === 'Paused') {
        onProgress?.('Resuming');
      }
      this.containers.set(containerId, { ...present, epoch, task: { ...present.task, kind: 'Running' } });
      return;
    }
    this.#end(containerId);
    if (this.pulls) {
      onProgress?.('Pulling');
    }
    onProgress?.('Creating');
    this.containers.set(containerId, this.#created(request, present));
    if (this.made === undefined) {
      this.#begin(containerId);
    }
  }

  #created(request: EnsureRequest, before: WorkerInfo | undefined): WorkerInfo {
    const { containerId, epoch, identity, shape, shapeHash } = request;
    return {
      containerId,
      identity,
      epoch,
      shapeHash,
      image: this.imageOf(shape.image.reference),
      task: { kind: 'Created' },
      timeoutSeconds: shape.timeoutSeconds,
      runtimeInterface: shape.runtimeInterface,
      ...(shape.runtimeInterface === 'Lambda'
        ? { ip: before?.ip ?? this.#freeAddress() }
        : { address: before?.address ?? { ip: this.#freeAddress(), port: shape.port } }),
      ...(this.tmp.isOnDisk ? { tmpOnDisk: true } : {}),
      createdAt: new Date(this.#now()),
    };
  }

  /** The process of a container that goes is ended. */
  #end(containerId: string): void {
    const task = this.containers.get(containerId)?.task;
    if (task !== undefined && isAlive(task)) {
      this.onEnd(containerId, task.kind === 'Running' ? 'SIGTERM' : 'SIGKILL');
    }
  }

  async resolveImage({ reference }: ImageRequest): Promise<void> {
    this.resolved.push(reference);
    if (this.down) {
      throw new EsbError('containerd does not answer', { code: 'RuntimeUnavailable', retryable: true });
    }
    await this.registry(reference);
  }

  async pause(containerId: string, options: CallOptions = {}): Promise<void> {
    await this.#operate('pause', containerId, options, () => {
      this.#mustAnswer(containerId);
      this.#switch(containerId, 'Paused');
    });
  }

  async resume(containerId: string, options: CallOptions = {}): Promise<void> {
    await this.#operate('resume', containerId, options, () => this.#switch(containerId, 'Running'));
  }

  /** Frozen for as long as it takes, as the real one. */
  async settle(containerId: string, options: CallOptions = {}): Promise<boolean> {
    this.operations.push(`settle ${containerId}`);
    if (this.down) {
      throw new EsbError('containerd does not answer', { code: 'RuntimeUnavailable', retryable: true });
    }
    const task = this.containers.get(containerId)?.task;
    if (task?.kind !== 'Running') {
      return true;
    }
    if (this.hung.has(containerId)) {
      return false;
    }
    const { pid } = task;
    this.onEffect('settle', containerId);
    this.#setTask(containerId, { kind: 'Paused', pid });
    const thaw = (): void => {
      if (this.containers.get(containerId)?.task.kind === 'Paused') {
        this.#setTask(containerId, { kind: 'Running', pid });
      }
    };
    options.signal?.addEventListener('abort', thaw, { once: true });
    try {
      if ((await this.#wait('settle', containerId, options)) !== undefined) {
        return false;
      }
      this.emit({ kind: 'Resumed', containerId });
      return true;
    } catch {
      return false;
    } finally {
      options.signal?.removeEventListener('abort', thaw);
      thaw();
    }
  }

  async destroy(containerId: string, options: DestroyOptions = {}): Promise<void> {
    await this.#operate('destroy', containerId, options, () => {
      if (this.undying.has(containerId)) {
        throw new EsbError(`the shim of ${containerId} does not end`, { code: 'TaskStuck', retryable: true });
      }
      this.#end(containerId);
      this.hung.delete(containerId);
      this.#initGone(containerId);
      this.containers.delete(containerId);
      this.outputLost.delete(containerId);
      if (options.keepLog === true) {
        this.keptLogs.push(containerId);
      }
      this.emit({ kind: 'Exited', containerId });
      this.emit({ kind: 'Deleted', containerId });
    });
  }

  removeLogsOf(uid: string): Promise<void> {
    this.withoutLogs.push(uid);
    this.writers.delete(uid);
    return Promise.resolve();
  }

  async list(options: CallOptions = {}): Promise<WorkerInfo[]> {
    await this.#look('list', '', options);
    return [...this.containers.values()].map((info) => this.#told(info));
  }

  async inspect(containerId: string, options: CallOptions = {}): Promise<WorkerInfo | undefined> {
    await this.#look('inspect', containerId, options);
    const info = this.containers.get(containerId);
    return info === undefined ? undefined : this.#told(info);
  }

  usage(containerId: string): Promise<WorkerUsage | undefined> {
    return Promise.resolve(this.containers.has(containerId) ? this.usages.get(containerId) : undefined);
  }

  kernelState(containerId: string): KernelState {
    const kind = this.taskOf(containerId);
    return kind === 'Running' || kind === 'Paused' ? kind : 'Gone';
  }

  inventory(): Promise<NodeInventory> {
    return Promise.resolve({
      containers: new Set(this.containers.keys()),
      uids: new Set([...this.containers.values()].map(({ identity }) => identity.uid)),
      busy: new Set<string>(),
      traces: this.traces.map((trace) => ({ ...trace })),
      writers: new Set(this.writers),
    });
  }

  async clear(containerId: string): Promise<boolean> {
    if (this.containers.has(containerId)) {
      return false;
    }
    await this.#operate('clear', containerId, {}, () => {
      this.traces = this.traces.filter((trace) => trace.containerId !== containerId);
    });
    return true;
  }

  /** Things that each of the next attempts to leave the node cannot remove. */
  readonly obstacles: (readonly string[])[] = [];

  async leave(): Promise<string[]> {
    await Promise.resolve();
    this.traces = [];
    for (const containerId of this.containers.keys()) {
      this.#end(containerId);
    }
    this.containers.clear();
    return [...(this.obstacles.shift() ?? [])];
  }

  readonly workerLogs: WorkerLogReader = {
    extent: (containerId) => {
      const text = this.logs.get(containerId);
      return Promise.resolve(
        text === undefined ? undefined : { id: containerId, first: 0, end: Buffer.byteLength(text) },
      );
    },
    readFrom: (containerId, offset, maxBytes) => {
      const text = Buffer.from(this.logs.get(containerId) ?? '');
      return Promise.resolve({ offset, data: text.subarray(offset, offset + maxBytes) });
    },
    offsetAt: () => Promise.resolve(0),
    begins: () => Promise.resolve([0]),
    newest: (uid) =>
      Promise.resolve([...this.containers.values()].findLast(({ identity }) => identity.uid === uid)?.containerId),
    before: () => Promise.resolve(undefined),
    after: () => Promise.resolve(undefined),
  };

  async readLog(containerId: string, maxBytes: number): Promise<Buffer> {
    await this.slowLogs;
    return Buffer.from(this.logs.get(containerId) ?? '').subarray(-maxBytes);
  }

  logOffset(containerId: string): Promise<number> {
    return Promise.resolve(Buffer.byteLength(this.logs.get(containerId) ?? ''));
  }

  readLogSince(containerId: string, offset: number, maxBytes: number): Promise<Buffer> {
    return Promise.resolve(
      Buffer.from(this.logs.get(containerId) ?? '')
        .subarray(offset)
        .subarray(-maxBytes),
    );
  }

  isOutputLost(containerId: string, full: OutputWindow): Promise<boolean> {
    this.outputChecks.push(containerId);
    this.outputWindows.push(full);
    return Promise.resolve(this.outputLost.has(containerId));
  }

  subscribe(listener: (event: RuntimeEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  health(): Promise<RuntimeHealth> {
    return Promise.resolve(
      this.down ? { ok: false, reason: 'RuntimeUnavailable', message: 'it is down' } : { ok: true, version: '2.4.2' },
    );
  }

  readonly tmp: TmpOfNode & { isOnDisk: boolean } = { isOnDisk: false, storage: () => Promise.resolve(undefined) };

  networkHealth(): Promise<Health> {
    return Promise.resolve({ ok: true });
  }

  images(): Promise<string[]> {
    return Promise.resolve([]);
  }

  start(): Promise<void> {
    return Promise.resolve();
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }

  async #listen({ containerId, onProgress }: EnsureRequest, signal: AbortSignal | undefined): Promise<void> {
    const isLambda = this.containers.get(containerId)?.runtimeInterface === 'Lambda';
    if (this.listens === undefined && !isLambda) {
      return;
    }
    onProgress?.('Starting');
    try {
      await unlessAborted(this.listens?.(containerId) ?? Promise.resolve(), signal);
      if (isLambda) {
        await this.inits?.untilReady(containerId, signal ?? new AbortController().signal);
      }
    } catch (error) {
      this.#initGone(containerId);
      this.containers.delete(containerId);
      this.emit({ kind: 'Exited', containerId });
      this.emit({ kind: 'Deleted', containerId });
      throw error;
    }
  }

  /** Starts the process of what was made. */
  #begin(containerId: string): void {
    this.#nextPid += 1;
    this.#setTask(containerId, { kind: 'Running', pid: this.#nextPid });
    if (this.containers.get(containerId)?.runtimeInterface === 'Lambda') {
      this.inits?.begin(containerId);
    }
    this.emit({ kind: 'Created', containerId });
  }

  #initGone(containerId: string): void {
    if (this.containers.get(containerId)?.runtimeInterface === 'Lambda') {
      this.inits?.gone(containerId);
    }
  }

  async #startMade(containerId: string, signal: AbortSignal | undefined): Promise<void> {
    if (this.made === undefined || this.taskOf(containerId) !== 'Created') {
      return;
    }
    try {
      await unlessAborted(this.made(containerId), signal);
    } catch (error) {
      this.containers.delete(containerId);
      throw error;
    }
    if (this.taskOf(containerId) === 'Created') {
      this.#begin(containerId);
    }
  }

  /** An address that no container has. */
  #freeAddress(): string {
    if (this.reusesAddresses) {
      this.#addresses = 1;
    }
    const taken = [...this.containers.values()].map(({ address, ip = address?.ip }) => ip);
    let address: string;
    do {
      this.#addresses += 1;
      address = `10.${234 + (this.#addresses >> 16)}.${(this.#addresses >> 8) & 255}.${this.#addresses & 255}`;
    } while (taken.includes(address));
    return address;
  }

  #told(info: WorkerInfo): WorkerInfo {
    const { containerId } = info;
    return this.hung.has(containerId)
      ? { ...info, task: { kind: 'Unanswering', kernel: this.kernelState(containerId) } }
      : info;
  }

  #mustAnswer(containerId: string): void {
    if (this.hung.has(containerId)) {
      throw new EsbError(`the shim of ${containerId} does not answer`, {
        code: 'TaskUnanswering',
        retryable: true,
      });
    }
  }

  #switch(containerId: string, kind: 'Paused' | 'Running'): void {
    const task = this.containers.get(containerId)?.task;
    if (task?.kind !== 'Running' && task?.kind !== 'Paused') {
      throw new EsbError(`${containerId} does not run`, { code: 'NotFound' });
    }
    if (task.kind !== kind) {
      this.#setTask(containerId, { kind, pid: task.pid });
      this.emit({ kind: kind === 'Paused' ? 'Paused' : 'Resumed', containerId });
    }
  }

  #setTask(containerId: string, task: TaskState): void {
    const info = this.containers.get(containerId);
    if (info !== undefined) {
      this.containers.set(containerId, { ...info, task });
    }
  }

  async #operate(
    operation: FakeOperation,
    containerId: string,
    options: CallOptions,
    effect: () => void,
  ): Promise<void> {
    this.operations.push(`${operation} ${containerId}`);
    const fault = (await this.#wait(operation, containerId, options)) ?? this.#faults.get(operation)?.shift();
    if (fault === undefined || fault.afterEffect === true) {
      this.onEffect(operation, containerId);
      effect();
    }
    if (fault !== undefined) {
      throw fault.error;
    }
  }

  async #look(operation: 'list' | 'inspect', containerId: string, options: CallOptions): Promise<void> {
    const fault = (await this.#wait(operation, containerId, options)) ?? this.#faults.get(operation)?.shift();
    if (fault !== undefined) {
      throw fault.error;
    }
  }

  async #wait(
    operation: FakeOperation,
    containerId: string,
    options: CallOptions,
    // biome-ignore lint/suspicious/noConfusingVoidType: as `before`.
  ): Promise<FakeFault | undefined | void> {
    const { signal } = options;
    if (this.down) {
      throw new EsbError('containerd does not answer', { code: 'RuntimeUnavailable', retryable: true });
    }
    const aborted = Promise.withResolvers<never>();
    const onAbort = (): void => aborted.reject(new AbortedError(operation));
    if (signal?.aborted === true) {
      throw new AbortedError(operation);
    }
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await Promise.race([this.before(operation, containerId, options), aborted.promise]);
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }
}

async function unlessAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(new AbortedError('ensure'));
  if (signal?.aborted === true) {
    onAbort();
  }
  signal?.addEventListener('abort', onAbort, { once: true });
  await Promise.race([work, aborted.promise]);
}

function isAlive(task: TaskState): task is Extract<TaskState, { readonly kind: 'Running' | 'Paused' }> {
  return task.kind === 'Running' || task.kind === 'Paused';
}
