import { type LambdaWorker, lambdaWorkers } from '../../api/lambda-worker.ts';
import { backoffDelay } from '../../common/backoff.ts';
import type { Clock } from '../../common/clock.ts';
import { isAborted, sleep, sleepUnlessHurried } from '../../common/deadline.ts';
import { Limiter } from '../../common/limiter.ts';
import type { Logger } from '../../common/logger.ts';
import { TaskGroup } from '../../common/task-group.ts';
import type { Informer, KubeClient } from '../../kube/api/types.ts';
import type { WorkerIdentity } from '../../runtime/contract/runtime.ts';
import type { Fleet } from '../model/fleet.ts';
import { desiredFromResource } from './desired-mapping.ts';
import type { ShareLease } from './share-lease.ts';
import type { WorkerPolicy } from './worker-policy.ts';

/** Milliseconds between two complete lists, which find missed events and leftovers. */
const sweepEveryMs = 300_000;
const minBackoffMs = 1_000;
const maxBackoffMs = 30_000;
const readDeadlineMs = 15_000;
/**
 * Workers that are read at a time: all workers of a drained node leave at once, and other requests must not wait for
 * their reads.
 */
const maxReads = 8;

interface AssignmentWatchOptions {
  /** Lists and watches the workers assigned to this node. */
  readonly informer: Informer<LambdaWorker>;
  readonly client: Pick<KubeClient, 'get' | 'list'>;
  readonly fleet: Pick<Fleet, 'apply' | 'release' | 'sweep'>;
  readonly nodeName: string;
  /** Field selector of the workers of this node. */
  readonly fieldSelector: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random?: () => number;
  /** Decides which workers need a label of their namespace; without a policy everything is allowed. */
  readonly policy?: Pick<WorkerPolicy, 'judge' | 'subscribe'>;
  /** Notified of each reading of all assignments. */
  readonly shares?: Pick<ShareLease, 'reading'>;
  /** Called with each object that is assigned to this node, after the fleet has it. */
  readonly onObject?: (worker: LambdaWorker) => void;
}

/**
 * Carries the assignments of this node from the API server to the fleet. An assigned object is applied at once. A
 * deletion, or the loss of an assignment, is a hint that is confirmed by reading the object.
 */
export class AssignmentWatch {
  readonly #options: AssignmentWatchOptions;
  readonly #tasks: TaskGroup;
  readonly #random: () => number;
  /** Uids of workers whose end is being confirmed. */
  readonly #confirming = new Set<string>();
  readonly #reads = new Limiter(maxReads);
  #unsubscribe: (() => void) | undefined;
  /** Ends the wait for the next sweep. */
  #hurry = new AbortController();

  constructor(options: AssignmentWatchOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#tasks = new TaskGroup((task, error) => {
      options.logger.error({ err: error, task }, 'task of the worker watch failed');
    });
  }

  start(): void {
    const { informer, policy } = this.#options;
    const leaveInformer = informer.subscribe(({ kind, object }) =>
      kind === 'deleted' ? this.#confirmGone(object) : this.#apply(object),
    );
    const leavePolicy = policy?.subscribe(() => {
      for (const worker of informer.cache.list()) {
        this.#apply(worker);
      }
    });
    this.#unsubscribe = () => {
      leaveInformer();
      leavePolicy?.();
    };
    informer.start();
    this.#tasks.run('sweep', (signal) => this.#sweepForever(signal));
  }

  /** Reads all assignments soon, as after the informer has listed again: events may have been missed. */
  readSoon(): void {
    this.#hurry.abort();
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.();
    await Promise.all([this.#tasks.stop(), this.#options.informer.stop()]);
  }

  #apply(worker: LambdaWorker): void {
    const desired = desiredFromResource(worker, this.#options.nodeName);
    if (desired === undefined) {
      this.#confirmGone(worker);
      return;
    }
    const verdict = this.#options.policy?.judge(worker) ?? { kind: 'Allowed' };
    if (verdict.kind === 'Unknown' && !desired.deleting) {
      // The policy calls back once the namespace is read.
      return;
    }
    const permission = verdict.kind === 'MadeBefore' || verdict.kind === 'Refused' ? verdict : undefined;
    this.#options.fleet.apply(permission === undefined ? desired : { ...desired, permission });
    this.#options.onObject?.(worker);
  }

  /** Reads the object until it is certain whether the worker still belongs here. */
  #confirmGone(worker: LambdaWorker): void {
    const { uid, name, namespace } = worker.metadata;
    if (uid === undefined || this.#confirming.has(uid)) {
      return;
    }
    this.#confirming.add(uid);
    this.#tasks.run('confirm', async (signal) => {
      try {
        for (let failures = 0; ; failures += 1) {
          try {
            const found = await this.#read({ name, namespace: namespace ?? 'default', uid }, signal);
            if (found === undefined) {
              this.#options.fleet.release(uid);
            } else {
              this.#apply(found);
            }
            return;
          } catch (error) {
            if (signal.aborted) {
              throw error;
            }
            this.#options.logger.debug({ err: error, uid }, 'worker cannot be read; trying again');
            await this.#backOff(failures, signal);
          }
        }
      } finally {
        this.#confirming.delete(uid);
      }
    });
  }

  /** The resource as it is now, if it is the same object and assigned to this node. */
  async #read(
    identity: Pick<WorkerIdentity, 'namespace' | 'name' | 'uid'>,
    signal: AbortSignal,
  ): Promise<LambdaWorker | undefined> {
    const { namespace, name } = identity;
    const options = { signal, deadlineMs: readDeadlineMs };
    const leave = await this.#reads.enter(signal);
    const found = await this.#options.client.get(lambdaWorkers, { namespace, name }, options).finally(leave);
    return found?.metadata.uid === identity.uid && found.status?.assignment?.nodeName === this.#options.nodeName
      ? found
      : undefined;
  }

  async #sweepForever(signal: AbortSignal): Promise<void> {
    await this.#options.informer.synced(signal);
    for (let failures = 0; ; ) {
      try {
        // A reading that is asked for while one is under way is the next.
        this.#hurry = new AbortController();
        await this.#sweep(signal);
        failures = 0;
        const waitMs = sweepEveryMs * (0.9 + this.#random() / 5);
        await sleepUnlessHurried(this.#options.clock, waitMs, signal, this.#hurry.signal);
      } catch (error) {
        if (signal.aborted) {
          throw error;
        }
        this.#options.logger.warn({ err: error }, 'workers of this node cannot be listed; trying again');
        await this.#backOff(failures, signal);
        failures += 1;
      }
    }
  }

  /** Lists all workers: applies missed changes, and looks into containers without a resource. */
  async #sweep(signal: AbortSignal): Promise<void> {
    const { client, fleet, fieldSelector, shares } = this.#options;
    const read = shares?.reading();
    const { items } = await client.list(lambdaWorkers, { fieldSelector }, { signal });
    const assigned = new Set(items.flatMap(({ metadata }) => metadata.uid ?? []));
    for (const worker of items) {
      this.#apply(worker);
    }
    read?.(new Map(items.map(({ metadata, status }) => [metadata.uid ?? '', status?.assignment?.epoch ?? 0])));
    await fleet.sweep(assigned, async (identity) => {
      try {
        return (await this.#read(identity, signal)) === undefined;
      } catch (error) {
        if (!isAborted(error)) {
          this.#options.logger.debug({ err: error, uid: identity.uid }, 'worker cannot be read; keeping it');
        }
        return false;
      }
    });
  }

  #backOff(failures: number, signal: AbortSignal): Promise<void> {
    const exponential = backoffDelay(failures + 1, { firstMs: minBackoffMs, maxMs: maxBackoffMs });
    return sleep(this.#options.clock, exponential * (0.75 + this.#random() / 2), signal);
  }
}
