import { setImmediate } from 'node:timers/promises';
import { type Clock, WakeupTimer } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRuntime, RuntimeEvent, WorkerInfo } from '../../runtime/contract/runtime.ts';
import type { WorkerRecord } from '../model/worker-record.ts';
import type { Answers } from './answers.ts';
import type { RuntimeOutlook } from './context.ts';
import type { WorkerRegistry } from './registry.ts';
import type { SetAsides } from './set-aside.ts';

/** Milliseconds between two looks at the whole node; the last one is cut short by up to a quarter, so that nodes differ. */
const lookEveryMs = 60_000;
const lookJitter = 0.25;
/** Milliseconds between two looks while a container does not answer. */
const doubtMs = 10_000;
/** Milliseconds between two looks while the runtime does not answer. */
const relistMs = 1_000;
/** Workers that a look is told to without a pause. */
const toldAtOnce = 50;

export interface NodeLookOptions {
  readonly runtime: ContainerRuntime;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A number from 0 up to 1. */
  readonly random: () => number;
  readonly registry: WorkerRegistry;
  readonly answers: Answers;
  readonly setAsides: SetAsides;
}

/** Looks at the whole node, again and again, and whenever the runtime is back or in doubt. */
export class NodeLook implements RuntimeOutlook {
  readonly #options: NodeLookOptions;
  readonly #ended = new AbortController();
  readonly #next: WakeupTimer;
  #unsubscribe: (() => void) | undefined;
  /** The workers are there that a look is told to. */
  #hasBegun = false;
  #isDown = false;
  #isListed = false;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #lookFailed = false;
  #isStopping = false;

  constructor(options: NodeLookOptions) {
    this.#options = options;
    this.#next = new WakeupTimer(options.clock, () => this.#look());
  }

  get isDown(): boolean {
    return this.#isDown;
  }

  /** Whether it is known what containers there are. */
  get isListed(): boolean {
    return this.#isListed;
  }

  /**
   * Listens to the runtime from here on, and lists what there is; undefined where it cannot be listed. Looks wait until
   * {@link NodeLook.begun}: one before would find containers, and no worker to tell of them.
   */
  async begin(options: CallOptions): Promise<readonly WorkerInfo[] | undefined> {
    const { logger, runtime } = this.#options;
    // Before the list: what happens in between is told by an event.
    this.#unsubscribe = runtime.subscribe((event) => this.#onEvent(event));
    try {
      const containers = await runtime.list(options);
      this.#isListed = true;
      return containers;
    } catch (error) {
      if (hasCode(error, 'Aborted')) {
        throw error;
      }
      this.#isDown = true;
      logger.warn({ err: error }, 'cannot list the containers of the node, serving from the records');
      return undefined;
    }
  }

  /** Looks from here on, as the workers are there of which records tell. */
  begun(): void {
    this.#hasBegun = true;
    this.#goOn();
  }

  /** The runtime answered, or did not. While it does not, it is asked again and again by one look for all workers. */
  heard(answers: boolean): void {
    const wasDown = this.#isDown;
    this.#isDown = !answers;
    if (!answers) {
      this.#within(relistMs);
    } else if (wasDown) {
      // After the present step, which may be one of a worker's.
      this.#options.clock.setTimer(() => this.#retryAll(), 0);
    }
  }

  doubt(): void {
    this.#within(relistMs);
  }

  /** A container has begun not to answer. */
  doubtContainer(): void {
    this.#within(doubtMs);
  }

  /** Looks again after a while, unless that is to be done sooner. */
  #later(): void {
    if (this.#isDown || this.#lookFailed || !this.#isListed) {
      this.#within(relistMs);
    } else if (this.#options.answers.inDoubt) {
      this.#within(doubtMs);
    } else {
      this.#within(Math.round(lookEveryMs * (1 - lookJitter * this.#options.random())));
    }
  }

  /** Reads what there is on the node, and passes it to all workers. */
  async read(options: CallOptions): Promise<readonly WorkerInfo[]> {
    const { registry, runtime, setAsides } = this.#options;
    const looks = registry.all.map((worker) => ({ worker, take: worker.look() }));
    const containers = await runtime.list(options);
    const byUid = registry.byUid(containers);
    const byId = new Map(containers.map((info) => [info.containerId, info]));
    const known = new Set(looks.map(({ worker }) => worker));
    const knownUids = new Set(looks.map(({ worker }) => worker.uid));
    // One that went meanwhile took its container along.
    registry.noteUnclaimed([...byUid].filter(([uid]) => !knownUids.has(uid)));
    if (!this.#isListed) {
      this.#isListed = true;
      registry.keepOrphans(byUid);
      // Workers that became known while the list was taken wait for it as well, and have touched nothing yet.
      looks.push(
        ...registry.all.filter((worker) => !known.has(worker)).map((worker) => ({ worker, take: worker.look() })),
      );
    }
    this.heard(true);
    setAsides.retry();
    for (const [index, { take, worker }] of looks.entries()) {
      if (index % toldAtOnce === toldAtOnce - 1) {
        // Calls are let in between.
        await setImmediate();
      }
      if (registry.workers.get(worker.uid) === worker && !this.#isStopping) {
        take(byId, byUid.get(worker.uid) ?? []);
      }
    }
    return containers;
  }

  /** Hears nothing of the runtime any more, and begins no look. */
  refuse(): void {
    this.#isStopping = true;
    this.#next.cancel();
    this.#unsubscribe?.();
  }

  /** Resolves when no look is under way. */
  async stop(): Promise<void> {
    this.#ended.abort();
    await this.#looking;
  }

  #onEvent({ containerId, kind }: RuntimeEvent): void {
    if (kind === 'Disconnected') {
      this.heard(false);
      return;
    }
    if (kind === 'Reconnected') {
      this.#isDown = false;
      this.#look();
      this.#retryAll();
      return;
    }
    this.#options.registry.ofContainer(containerId)?.hint(containerId, kind);
  }

  /** Tries again what had to wait. */
  #retryAll(): void {
    for (const worker of this.#isStopping ? [] : this.#options.registry.all) {
      worker.step({ kind: 'Retried' });
    }
  }

  /** Looks at the whole node after that time, or sooner where that is to be done already. */
  #within(delayMs: number): void {
    if (!this.#isStopping) {
      this.#next.wakeAt(this.#options.clock.monotonic() + delayMs);
    }
  }

  /** Reads everything again, one look at a time. Tried again until it works. */
  #look(): void {
    if (!this.#hasBegun || this.#looking !== undefined) {
      this.#lookAgain = true;
      return;
    }
    this.#looking = this.read({ signal: this.#ended.signal })
      .then(() => {
        this.#lookFailed = false;
      })
      .catch((error: unknown) => {
        if (this.#isStopping) {
          return;
        }
        // Tried every second: once is enough to say that the runtime is away.
        const level = this.#lookFailed ? 'debug' : 'warn';
        this.#options.logger[level]({ err: error }, 'cannot list the containers of the node');
        this.#lookFailed = true;
        this.#isDown ||= hasCode(error, 'RuntimeUnavailable') || hasCode(error, 'DeadlineExceeded');
      })
      .finally(() => {
        this.#looking = undefined;
        this.#goOn();
      });
  }

  /** Looks again at once where that was asked for meanwhile, and after a while otherwise. */
  #goOn(): void {
    if (this.#lookAgain) {
      this.#lookAgain = false;
      this.#within(0);
    }
    this.#later();
  }
}

/** The container that served, where no list can be had and the kernel says that it is there. Undefined otherwise. */
export function standingOf(
  { container, desired, served }: WorkerRecord,
  runtime: Pick<ContainerRuntime, 'kernelState'>,
): readonly WorkerInfo[] | undefined {
  if (container === undefined || served === undefined) {
    return undefined;
  }
  const kernel = runtime.kernelState(container.id);
  return kernel === 'Running' || kernel === 'Paused'
    ? [
        {
          containerId: container.id,
          identity: desired.identity,
          epoch: served.epoch,
          shapeHash: container.shapeHash,
          image: served.image,
          runtimeInterface: container.runtimeInterface ?? 'Emulator',
          ...(served.address === undefined ? {} : { address: served.address }),
          ...(served.ip === undefined ? {} : { ip: served.ip }),
          createdAt: new Date(served.createdAt),
          task: { kind: kernel, pid: 0 },
        },
      ]
    : undefined;
}
