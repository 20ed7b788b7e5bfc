import { type LambdaWorker, lambdaWorkers } from '../../api/lambda-worker.ts';
import { backoffDelay } from '../../common/backoff.ts';
import { TokenBucket } from '../../common/bounds/token-bucket.ts';
import { type Clock, type Timer, WakeupTimer } from '../../common/clock.ts';
import { isAborted } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import { ApiError, isUnavailable } from '../../kube/api/api-error.ts';
import type { KubeClient, ObjectCache } from '../../kube/api/types.ts';
import { createStatusApplier, type StatusApplier } from '../../kube/client/status-apply.ts';
import type { Fleet } from '../model/fleet.ts';
import type { WorkerView } from '../model/worker-state.ts';
import { ActivityQueue } from './activity-queue.ts';
import { patienceMs } from './patience.ts';
import { agentOwnership, agentStatus, compareStatus, showSameState, stampsDiffer } from './status-mapping.ts';

/** Writes of one worker that may follow each other at once, and milliseconds until one more. */
const burst = 3;
const refillMs = 1_000;
/** Writes at the same time, of all workers. */
const concurrency = 8;
const writeDeadlineMs = 10_000;
const minBackoffMs = 500;
const maxBackoffMs = 15_000;
/** Milliseconds until a refused write is tried again: the schema may have been mended. */
const refusedMs = 30_000;
/** Milliseconds that the last writes get when the agent stops. */
const flushMs = 3_000;

interface StatusWriterOptions {
  readonly client: Pick<KubeClient, 'get' | 'patch'>;
  readonly fleet: Pick<Fleet, 'view' | 'views' | 'subscribe'>;
  /** The workers of this node as the API server has them. */
  readonly cache: Pick<ObjectCache<LambdaWorker>, 'get'>;
  readonly nodeName: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random?: () => number;
  /** Called after each write. */
  readonly onWrite?: (result: 'written' | 'failed') => void;
}

/** The status of one worker as far as it is known. */
interface Entry {
  /** The last view that was compared. */
  view: WorkerView;
  /** Monotonic milliseconds at which its phase began. */
  phaseSince: number;
  timer: Timer | undefined;
  /** Monotonic milliseconds at which `timer` fires. */
  dueAt: number;
  writing: boolean;
  /** Whether its activity may be written. */
  granted: boolean;
  readonly bucket: TokenBucket;
}

/**
 * Writes the agent's part of each worker's status by forced server-side apply of its own fields. The part is first
 * compared with the present status, and the write holds only for the version that was compared: a status never lands on
 * a worker that was created or assigned again meanwhile. Only after a conflict is the worker read. A resting state is
 * written at once, a transient phase only when it lasts ({@link patienceMs}), and what calls change of a worker that
 * serves when the {@link ActivityQueue} says so, after all else. While the server cannot be reached, one write at a time
 * is tried, at growing intervals; the changes made meanwhile are then written once. A server that is slow because of many
 * nodes does not get all writes at once.
 */
export class StatusWriter {
  readonly #options: StatusWriterOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #queue = new Set<Entry>();
  readonly #activity: ActivityQueue<Entry>;
  /** Uids of workers in a transient phase. */
  readonly #passing = new Set<string>();
  readonly #running = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  readonly #random: () => number;
  readonly #applier: StatusApplier<LambdaWorker>;
  #unsubscribe: (() => void) | undefined;
  /** Whether no write follows, so that none waits for a phase to last. */
  #isLast = false;
  #failures = 0;
  /** Writes at the same time: one after a failure, and one more for each round that succeeded. */
  #allowed: number = concurrency;
  #backoff: Timer | undefined;
  readonly #activityTimer: WakeupTimer;

  constructor(options: StatusWriterOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#activity = new ActivityQueue(options.clock);
    this.#activityTimer = new WakeupTimer(options.clock, () => this.#pump());
    this.#applier = createStatusApplier(options.client, lambdaWorkers, agentOwnership);
  }

  /** Workers whose activity waits for its write. */
  get waiting(): number {
    return this.#activity.size;
  }

  /** See {@link ActivityQueue.shareAmong}. */
  shareAmong(nodes: number | undefined): void {
    this.#activity.shareAmong(nodes);
    this.#armActivity();
  }

  start(): void {
    this.#unsubscribe = this.#options.fleet.subscribe({
      changed: (view) => this.#viewChanged(view),
      removed: (uid) => this.#forget(uid),
    });
    for (const view of this.#options.fleet.views()) {
      this.#viewChanged(view);
    }
  }

  /** Takes in a change from the watch: another party may have written fields of the agent. */
  objectChanged(worker: LambdaWorker): void {
    const entry = this.#entries.get(worker.metadata.uid ?? '');
    if (entry !== undefined) {
      this.#schedule(entry);
    }
  }

  /** Writes the outstanding statuses, activity too, for at most three seconds: the next agent does not know the stamps. */
  async stop(): Promise<void> {
    this.#unsubscribe?.();
    this.#isLast = true;
    for (const entry of this.#entries.values()) {
      entry.granted ||= this.#activity.has(entry);
      if ((entry.timer !== undefined || entry.granted) && !entry.view.transient) {
        this.#enqueue(entry);
      }
    }
    const end = Promise.withResolvers<void>();
    const timer = this.#options.clock.setTimer(() => end.resolve(), flushMs);
    while (this.#running.size > 0 && !this.#stopping.signal.aborted && this.#failures === 0) {
      await Promise.race([Promise.all(this.#running), end.promise.then(() => this.#stopping.abort())]);
    }
    timer.cancel();
    this.#stopping.abort();
    this.#backoff?.cancel();
    this.#activityTimer.cancel();
    for (const entry of this.#entries.values()) {
      entry.timer?.cancel();
    }
    await Promise.all(this.#running);
  }

  #viewChanged(view: WorkerView): void {
    const { uid } = view.identity;
    const now = this.#options.clock.monotonic();
    this.#passing[view.transient ? 'add' : 'delete'](uid);
    const entry = this.#entries.get(uid);
    if (entry === undefined) {
      const made: Entry = {
        view,
        phaseSince: now,
        timer: undefined,
        dueAt: 0,
        writing: false,
        granted: false,
        bucket: new TokenBucket({ burst, everyMs: refillMs }, now),
      };
      this.#entries.set(uid, made);
      this.#schedule(made);
      return;
    }
    const before = entry.view;
    entry.view = view;
    if (before.phase !== view.phase || (view.transient && !before.transient)) {
      entry.phaseSince = now;
    }
    if (!showSameState(before, view)) {
      this.#schedule(entry);
    } else if (
      before.observedInvocationTime !== view.observedInvocationTime ||
      before.lastInvocationTime !== view.lastInvocationTime
    ) {
      this.#stampsChanged(entry);
    }
  }

  /** Monotonic milliseconds from which the phase of a worker may be published. */
  #settledAt(entry: Entry): number {
    return entry.phaseSince + patienceMs(entry.view, this.#present(entry)?.status, this.#passing.size);
  }

  /** Stamps go with the next write, or alone in their own time. */
  #stampsChanged(entry: Entry): void {
    const present = this.#activity.has(entry) ? undefined : this.#present(entry);
    if (present !== undefined && stampsDiffer(entry.view, present.status)) {
      this.#activity.note(entry, rests(entry.view) ? 'Phase' : 'Stamps');
      this.#armActivity();
    }
  }

  #forget(uid: string): void {
    const entry = this.#entries.get(uid);
    if (entry !== undefined) {
      entry.timer?.cancel();
      this.#activity.delete(entry);
    }
    this.#entries.delete(uid);
    this.#passing.delete(uid);
    this.#applier.forget(uid);
  }

  #schedule(entry: Entry, leastMs = 0): void {
    const now = this.#options.clock.monotonic();
    const dueAt = Math.max(now + leastMs, this.#settledAt(entry), now + Math.ceil(entry.bucket.waitMs(now)));
    if (entry.timer !== undefined && entry.dueAt <= dueAt && !entry.view.transient) {
      return;
    }
    entry.timer?.cancel();
    entry.dueAt = dueAt;
    entry.timer = this.#options.clock.setTimer(() => this.#enqueue(entry), dueAt - now);
  }

  #enqueue(entry: Entry): void {
    entry.timer?.cancel();
    entry.timer = undefined;
    this.#queue.add(entry);
    this.#pump();
  }

  #pump(): void {
    while (
      !this.#stopping.signal.aborted &&
      this.#backoff === undefined &&
      this.#running.size < Math.floor(this.#allowed)
    ) {
      const entry = this.#nextInQueue() ?? this.#nextActive();
      if (entry === undefined) {
        this.#armActivity();
        return;
      }
      entry.writing = true;
      const running = this.#write(entry).finally(() => {
        entry.writing = false;
        this.#running.delete(running);
        this.#pump();
      });
      this.#running.add(running);
    }
  }

  #nextInQueue(): Entry | undefined {
    for (const entry of this.#queue) {
      if (!this.#isKnown(entry)) {
        this.#queue.delete(entry);
      } else if (!entry.writing) {
        this.#queue.delete(entry);
        return entry;
      }
    }
    return undefined;
  }

  /** The next whose activity is to be written. One that is being written is written again after that. */
  #nextActive(): Entry | undefined {
    for (let entry = this.#activity.take(); entry !== undefined; entry = this.#activity.take()) {
      entry.granted = true;
      if (!entry.writing) {
        return entry;
      }
      this.#queue.add(entry);
    }
    return undefined;
  }

  #armActivity(): void {
    if (!this.#stopping.signal.aborted) {
      this.#activityTimer.wakeAt(this.#activity.nextAt);
    }
  }

  #isKnown(entry: Entry): boolean {
    return this.#entries.get(entry.view.identity.uid) === entry;
  }

  async #write(entry: Entry): Promise<void> {
    const { clock, onWrite } = this.#options;
    const { view } = entry;
    const present = this.#present(entry);
    if (present === undefined) {
      entry.granted = false;
      return;
    }
    const draft = agentStatus(view, present.status, clock.now());
    const difference = compareStatus(draft, present.status);
    const mayWait = view.transient || !this.#isLast;
    if (difference !== 'none' && mayWait && clock.monotonic() < this.#settledAt(entry)) {
      this.#schedule(entry);
      return;
    }
    if (difference === 'activity' && !entry.granted) {
      this.#activity.note(entry, draft.phase === present.status?.phase && !rests(view) ? 'Stamps' : 'Phase');
      return;
    }
    if (difference !== 'activity' && entry.granted) {
      this.#activity.giveBack();
    }
    entry.granted = false;
    this.#activity.delete(entry);
    if (difference === 'none') {
      return;
    }
    try {
      const { kind } = await this.#applier.apply(present, (object) => agentStatus(view, object.status, clock.now()), {
        mayWrite: (object) => this.#isOurs(object, view),
        signal: this.#stopping.signal,
        deadlineMs: writeDeadlineMs,
      });
      this.#failures = 0;
      this.#allowed = Math.min(concurrency, this.#allowed + 1 / this.#allowed);
      if (kind === 'written') {
        entry.bucket.take();
        onWrite?.('written');
      }
      // The watch reports a worker that is gone or belongs to another node.
    } catch (error) {
      if (this.#stopping.signal.aborted && isAborted(error)) {
        return;
      }
      onWrite?.('failed');
      entry.granted = difference === 'activity';
      this.#failed(entry, error);
    } finally {
      if (!this.#isKnown(entry)) {
        this.#applier.forget(view.identity.uid);
      }
    }
  }

  /** The object of a view, as last seen in the server; undefined when the agent may not write it. */
  #present(entry: Entry): LambdaWorker | undefined {
    const { namespace, name } = entry.view.identity;
    const cached = this.#options.cache.get({ namespace, name });
    return cached !== undefined && this.#isOurs(cached, entry.view) ? this.#applier.latest(cached) : undefined;
  }

  #isOurs(object: LambdaWorker, view: WorkerView): boolean {
    const assignment = object.status?.assignment;
    return (
      object.metadata.uid === view.identity.uid &&
      assignment?.nodeName === this.#options.nodeName &&
      assignment.epoch === view.epoch
    );
  }

  #failed(entry: Entry, error: unknown): void {
    const { clock, logger } = this.#options;
    const worker = `${entry.view.identity.namespace}/${entry.view.identity.name}`;
    if (error instanceof ApiError && (error.code === 'Conflict' || error.code === 'NotFound')) {
      // Another party writes the object again and again.
      this.#schedule(entry, refillMs);
      return;
    }
    if (!isUnavailable(error)) {
      logger.error({ err: error, worker }, 'status of a worker was refused');
      this.#schedule(entry, refusedMs);
      return;
    }
    if (this.#failures === 0) {
      logger.warn({ err: error, worker }, 'status cannot be written; trying again until it can');
    }
    this.#failures += 1;
    this.#allowed = 1;
    this.#queue.add(entry);
    const exponential = backoffDelay(this.#failures, { firstMs: minBackoffMs, maxMs: maxBackoffMs });
    const asked = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0;
    const delayMs = Math.max(asked, exponential * (0.75 + this.#random() / 2));
    this.#backoff ??= clock.setTimer(() => {
      this.#backoff = undefined;
      this.#pump();
    }, delayMs);
  }
}

/** Whether nothing is to come of a worker by itself that its stamps could go with. */
function rests({ phase }: WorkerView): boolean {
  return phase === 'Paused' || phase === 'Absent';
}
