import { BoundedMap } from '../../common/bounds/bounded-map.ts';
import { type CallOptions, withDeadline } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import { KeyedQueue, type QueuedCall } from '../../common/keyed-queue.ts';
import { Limiter } from '../../common/limiter.ts';
import type { NodeImages } from '../contract/images.ts';
import type { NodeInventory } from '../contract/inventory.ts';
import type { WorkerLogReader } from '../contract/logs.ts';
import { fits, refuseForeign } from '../contract/matches.ts';
import type {
  ClearOptions,
  ContainerRuntime,
  DestroyOptions,
  EnsureRequest,
  ImageRequest,
  KernelState,
  OutputWindow,
  ResolveOptions,
  RuntimeEvent,
  RuntimeHealth,
  StartOptions,
  WorkerInfo,
} from '../contract/runtime.ts';
import type { TmpOfNode } from '../contract/tmp-storage.ts';
import type { WorkerUsage } from '../contract/usage.ts';
import { HOST_MODE_IP } from '../start/host-port.ts';
import { placeOf } from './creation-steps.ts';
import type { RuntimeBackend } from './runtime-backend.ts';
import type { RuntimeParts } from './runtime-parts.ts';

const ENSURE_DEADLINE_MS = 300_000;
const RESOLVE_DEADLINE_MS = 60_000;
const SWITCH_DEADLINE_MS = 30_000;
const SETTLE_DEADLINE_MS = 5_000;
/** On top of the grace. */
const DESTROY_DEADLINE_MS = 180_000;
/** Freezer states that are settled at a time. Each is a start of runc for which no call waits. */
const SETTLED_AT_ONCE = 2;
const READ_DEADLINE_MS = 10_000;
/** Time for a thousand shims to tell their state. */
const LIST_DEADLINE_MS = 60_000;
const START_DEADLINE_MS = 60_000;
const PRUNE_EVERY_MS = 5 * 60_000;
/** Time in which somebody may ask why a container was removed; longer than any pause between two starts. */
const KEEP_LOG_MS = 60 * 60_000;
const DEFAULT_GRACE_SECONDS = 10;
/** Bound of the containers that are remembered as removed. */
const MAX_REMOVED = 4_096;
/** Codes of an unusable runtime that a node shows as they are; all others show as `RuntimeUnavailable`. */
const OWN_REASONS: ReadonlySet<string> = new Set(['RuntimeTooOld', 'SnapshotterMissing']);

/**
 * Lifecycle of workers over one container engine: one piece of work at a time for each container, deadlines, logs,
 * events. The backend does the work on the engine.
 */
export class WorkerRuntime implements ContainerRuntime {
  readonly #backend: RuntimeBackend;
  readonly #parts: RuntimeParts;
  readonly #queue = new KeyedQueue();
  /** Last containers that this run removed: those of workers that rest Absent, which a call may start soon. */
  readonly #removed = new BoundedMap<string, true>(MAX_REMOVED);
  readonly #settled = new Limiter(SETTLED_AT_ONCE);
  #following: Promise<void> | undefined;
  #pruneAfter = 0;

  constructor(backend: RuntimeBackend, parts: RuntimeParts) {
    this.#backend = backend;
    this.#parts = parts;
  }

  async start(options: StartOptions = {}): Promise<void> {
    const { inits, logs } = this.#parts;
    const deadlineMs = options.deadlineMs ?? START_DEADLINE_MS;
    // Workers with an init are served without the runtime as well, but not before their inits can connect: those that
    // do not in time are given up. The sockets are files in memory.
    await inits?.start();
    await withDeadline('starting the runtime', deadlineMs, options.signal, async (signal) => {
      await this.#backend.check({ signal });
      await logs.prepare();
      await this.#backend.restore({ signal });
      logs.watch();
      this.#following ??= this.#backend.follow();
      await this.#following;
      options.onObserving?.();
      await this.#backend.prepareNode({ signal });
    });
  }

  async stop(): Promise<void> {
    this.#queue.cancelAll('the runtime stops');
    await this.#queue.idle();
    await this.#parts.background.stop();
    await this.#parts.inits?.stop();
    await this.#parts.logs.stop();
    await this.#backend.stop();
  }

  async leave(options: CallOptions = {}): Promise<string[]> {
    const remove = async (containerId: string, call: CallOptions): Promise<void> => {
      await this.destroy(containerId, { ...call, graceSeconds: 0 });
      await this.clear(containerId, call);
    };
    return await this.#backend.leave(remove, options);
  }

  async ensure(request: EnsureRequest, options: CallOptions = {}): Promise<WorkerInfo> {
    const { containerId, epoch, shape, shapeHash } = request;
    const initMs = shape.runtimeInterface === 'Lambda' ? shape.startupTimeoutSeconds * 1000 : 0;
    const call = callOf(`ensuring ${containerId}`, ENSURE_DEADLINE_MS + initMs, options);
    return await this.#queue.run(containerId, `ensure ${epoch} ${shapeHash}`, call, (signal) =>
      this.#ensure(request, signal),
    );
  }

  async #ensure(request: EnsureRequest, signal: AbortSignal): Promise<WorkerInfo> {
    const backend = this.#backend;
    const { containerId, epoch, shape } = request;
    // A container that this run removed is gone, and no other program makes containers of ours.
    const found = this.#removed.delete(containerId) ? undefined : await backend.find(containerId);
    if (found === undefined || found.identity.uid === '') {
      return await backend.create(request, signal);
    }
    refuseForeign(found.identity.uid, request);
    if (found.task.kind === 'Unanswering') {
      throw new EsbError(`the shim of ${containerId} does not answer`, { code: 'TaskUnanswering' });
    }
    if (!fits(found, request)) {
      this.#parts.logger.info({ containerId, task: found.task.kind }, 'the rest of a worker is replaced');
      // The network of the other mode is of no use to the next container.
      const keepNetwork = (found.address?.ip === HOST_MODE_IP) === (shape.networkMode === 'Host');
      const graceMs = shape.terminationGraceSeconds * 1000;
      await backend.remove(containerId, { graceMs, keepNetwork, keepLog: true });
      return await backend.create(request, signal);
    }
    if (found.task.kind === 'Paused') {
      request.onProgress?.('Resuming');
      await backend.freezing.resume(containerId);
    }
    if (found.epoch !== epoch) {
      await backend.setEpoch(containerId, epoch);
    }
    // An agent that died during the creation did not wait for the worker.
    request.onProgress?.('Starting');
    const { pid } = found.task;
    await backend.untilReady(containerId, placeOf(found, pid, shape), signal);
    return { ...found, epoch, task: { kind: 'Running', pid } };
  }

  async resolveImage(request: ImageRequest, options: ResolveOptions = {}): Promise<void> {
    await this.#backend.images.resolve(request, { deadlineMs: RESOLVE_DEADLINE_MS, ...options });
  }

  async pause(containerId: string, options: CallOptions = {}): Promise<void> {
    const call = callOf(`pausing ${containerId}`, SWITCH_DEADLINE_MS, options);
    await this.#queue.run(containerId, 'pause', call, (signal) => this.#backend.freezing.pause(containerId, signal));
  }

  async resume(containerId: string, options: CallOptions = {}): Promise<void> {
    const { clock, observer } = this.#parts;
    // A call waits for the thaw: with nothing under way, neither queue nor engine is asked.
    const isDirect = options.signal?.aborted !== true && !this.#queue.has(containerId);
    const begun = clock.monotonic();
    if (!isDirect || !this.#backend.freezing.thawDirectly(containerId)) {
      await this.#resume(containerId, options);
    }
    observer?.stage('thaw', clock.monotonic() - begun);
  }

  async #resume(containerId: string, options: CallOptions): Promise<void> {
    const call = callOf(`resuming ${containerId}`, SWITCH_DEADLINE_MS, options);
    await this.#queue.run(containerId, 'resume', call, () => this.#backend.freezing.resume(containerId));
  }

  async settle(containerId: string, options: CallOptions = {}): Promise<boolean> {
    const { freezing } = this.#backend;
    const call = callOf(`settling ${containerId}`, SETTLE_DEADLINE_MS, options);
    try {
      return await this.#queue.run(containerId, 'settle', call, (ended) => {
        // `ended` fires some steps after its last caller has left: too late for a call that is about to be sent.
        const signal = options.signal === undefined ? ended : AbortSignal.any([ended, options.signal]);
        return this.#settled.run(() => freezing.settle(containerId, signal), signal);
      });
    } catch (error) {
      if (!hasCode(error, 'Aborted') && !hasCode(error, 'DeadlineExceeded')) {
        throw error;
      }
      // `settle` thaws when its signal fires. Before a call is sent, the kernel has to confirm that.
      if (freezing.isFrozen(containerId)) {
        await this.#resume(containerId, {});
      }
      return false;
    }
  }

  async destroy(containerId: string, options: DestroyOptions = {}): Promise<void> {
    const graceMs = (options.graceSeconds ?? DEFAULT_GRACE_SECONDS) * 1000;
    const what = `destroying ${containerId}`;
    const keepLog = options.keepLog === true;
    const kind = `${graceMs === 0 ? 'kill' : 'destroy'}${keepLog ? ', keeping its log' : ''}`;
    this.#queue.cancel(containerId, (each) => each.startsWith('ensure '), what);
    // A removal that has begun ignores its signal: half a removal is of no use.
    await this.#queue.run(containerId, kind, callOf(what, DESTROY_DEADLINE_MS + graceMs, options), async () => {
      await this.#backend.remove(containerId, { graceMs, keepLog });
      this.#removed.set(containerId, true);
    });
  }

  async clear(containerId: string, options: ClearOptions = {}): Promise<boolean> {
    const keepLog = options.keepLog === true;
    const call = callOf(`clearing up after ${containerId}`, DESTROY_DEADLINE_MS, options);
    return await this.#queue.run(containerId, keepLog ? 'clear some' : 'clear', call, async () => {
      if (await this.#backend.has(containerId)) {
        return false;
      }
      await this.#backend.clear(containerId, keepLog);
      return true;
    });
  }

  async inventory(known: ReadonlySet<string>, options: CallOptions = {}): Promise<NodeInventory> {
    const call = { deadlineMs: LIST_DEADLINE_MS, ...options };
    return await this.#backend.inventory(() => this.#queue.keys(), known, call);
  }

  kernelState(containerId: string): KernelState {
    return this.#backend.freezing.kernelState(containerId);
  }

  async usage(containerId: string, options: CallOptions = {}): Promise<WorkerUsage | undefined> {
    return await this.#backend.usage(containerId, { deadlineMs: READ_DEADLINE_MS, ...options });
  }

  async list(options: CallOptions = {}): Promise<WorkerInfo[]> {
    const deadlineMs = options.deadlineMs ?? LIST_DEADLINE_MS;
    const { containerIds, workers } = await withDeadline('listing the workers', deadlineMs, options.signal, (signal) =>
      this.#backend.list(signal),
    );
    this.#prune(containerIds);
    return [...workers];
  }

  async inspect(containerId: string, options: CallOptions = {}): Promise<WorkerInfo | undefined> {
    return await this.#backend.find(containerId, { deadlineMs: READ_DEADLINE_MS, ...options });
  }

  get workerLogs(): WorkerLogReader {
    return this.#parts.logs.reader;
  }

  async readLog(containerId: string, maxBytes: number): Promise<Buffer> {
    return await this.#parts.logs.read(containerId, 0, maxBytes);
  }

  async logOffset(containerId: string): Promise<number> {
    return await this.#parts.logs.size(containerId);
  }

  async readLogSince(containerId: string, offset: number, maxBytes: number): Promise<Buffer> {
    return await this.#parts.logs.read(containerId, offset, maxBytes);
  }

  async isOutputLost(containerId: string, full: OutputWindow): Promise<boolean> {
    return this.#backend.canLoseOutput && (await this.#parts.logs.wroteWithin(containerId, full));
  }

  async removeLogsOf(uid: string): Promise<void> {
    await this.#parts.logs.removeOf(uid);
  }

  subscribe(listener: (event: RuntimeEvent) => void): () => void {
    return this.#parts.events.subscribe(listener);
  }

  async health(options: CallOptions = {}): Promise<RuntimeHealth> {
    try {
      return { ok: true, version: await this.#backend.check(options) };
    } catch (error) {
      const { code, message } = EsbError.from(error);
      return { ok: false, reason: OWN_REASONS.has(code) ? code : 'RuntimeUnavailable', message };
    }
  }

  get tmp(): TmpOfNode {
    return this.#backend.tmp;
  }

  async networkHealth(options: CallOptions = {}): Promise<Health> {
    try {
      return await this.#backend.network.health({ deadlineMs: READ_DEADLINE_MS, ...options });
    } catch (error) {
      return { ok: false, reason: 'NetworkFailed', message: messageOf(error) };
    }
  }

  async images(options: CallOptions = {}): Promise<string[]> {
    return await this.#backend.images.names({ deadlineMs: LIST_DEADLINE_MS, ...options });
  }

  get nodeImages(): NodeImages {
    return this.#backend.nodeImages;
  }

  /** Removes old logs, ports and files now and then, after a list that shows which containers there are. */
  #prune(containerIds: ReadonlySet<string>): void {
    const { background, clock, hostPorts, logs } = this.#parts;
    const now = clock.monotonic();
    if (now < this.#pruneAfter) {
      return;
    }
    this.#pruneAfter = now + PRUNE_EVERY_MS;
    const before = clock.now() - KEEP_LOG_MS;
    background.run('removing old logs', () => logs.prune(containerIds, before));
    background.run('giving ports back', async () => void (await hostPorts.prune(containerIds)));
    background.run('upkeep of the node', () => this.#backend.upkeep(containerIds, before));
  }
}

function callOf(what: string, deadlineMs: number, options: CallOptions): QueuedCall {
  return { what, deadlineMs: options.deadlineMs ?? deadlineMs, signal: options.signal };
}
