import type { NodeFleet } from '../../src/agent/worker/node-fleet.ts';
import type { Clock } from '../../src/common/clock.ts';
import type { ContainerRuntime, RuntimeEvent } from '../../src/runtime/contract/runtime.ts';
import type { FakeOperation } from '../support/fake-runtime.ts';
import type { SimulatedClock } from './simulated-clock.ts';

/** Operations that change something: an agent may be killed right before each. */
const changes: ReadonlySet<string> = new Set(['ensure', 'pause', 'resume', 'settle', 'destroy', 'clear']);
const operations = [
  ...changes,
  ...['removeLogsOf', 'resolveImage', 'list', 'inspect', 'inventory', 'readLog', 'logOffset', 'readLogSince'],
  ...['isOutputLost', 'health', 'networkHealth', 'images', 'start', 'leave', 'stop'],
];

/** Hears of each operation that an agent asks for. */
export interface OperationWatcher {
  begins(operation: FakeOperation, containerId: string): void;
  ends(containerId: string): void;
}

/** Never settles. */
const never = new Promise<never>(() => undefined);

/**
 * One run of the agent's process. All that it does to the world goes through here, so that it can be killed right
 * before any effect: the code runs on, and nothing that it does has an effect any more.
 */
export class AgentLife {
  readonly number: number;
  readonly clock: Clock;
  fleet: NodeFleet | undefined;
  /** The agent has adopted its containers, and serves. */
  serves = false;
  /** An end was requested, and calls are refused by now. */
  refusing = false;
  /** Told to end. */
  stopping = false;
  readonly #onDeath: (where: string) => void;
  #listener: ((event: RuntimeEvent) => void) | undefined;
  #alive = true;
  /** Effects until it is killed; undefined for never. */
  #fuse: number | undefined;

  constructor(number: number, clock: SimulatedClock, onDeath: (where: string) => void) {
    this.number = number;
    this.#onDeath = onDeath;
    this.clock = {
      now: () => clock.now(),
      monotonic: () => clock.monotonic(),
      setTimer: (callback, delayMs) =>
        clock.setTimer(() => {
          if (this.#alive) {
            callback();
          }
        }, delayMs),
    };
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** Kills it right before that many effects more. */
  killAfter(effects: number): void {
    this.#fuse = effects;
  }

  kill(where: string): void {
    if (this.#alive) {
      this.#alive = false;
      this.#onDeath(where);
    }
  }

  /** An effect is about to happen. Returns whether it does. */
  spend(what: string): boolean {
    if (this.#alive && this.#fuse !== undefined) {
      this.#fuse -= 1;
      if (this.#fuse < 0) {
        this.kill(what);
      }
    }
    return this.#alive;
  }

  /** A hint comes to it. */
  hear(event: RuntimeEvent): void {
    if (this.#alive) {
      this.#listener?.(event);
    }
  }

  /** The runtime as this process sees it. */
  runtime(
    runtime: ContainerRuntime,
    watcher: OperationWatcher,
    hears: (event: RuntimeEvent, tell: () => void) => void,
  ): ContainerRuntime {
    const seen: Record<string, unknown> = {
      nodeImages: runtime.nodeImages,
      workerLogs: runtime.workerLogs,
      kernelState: (containerId: string) => runtime.kernelState(containerId),
      subscribe: (listener: (event: RuntimeEvent) => void) => {
        this.#listener = listener;
        return runtime.subscribe((event) => {
          if (this.#alive) {
            hears(event, () => this.hear(event));
          }
        });
      },
    };
    for (const name of operations) {
      const isChange = changes.has(name);
      const operate = runtime[name as 'list'].bind(runtime) as (...args: unknown[]) => Promise<unknown>;
      seen[name] = (...args: unknown[]): Promise<unknown> => {
        if (!isChange) {
          return this.#alive ? this.#mine(operate(...args)) : never;
        }
        if (!this.spend(name)) {
          return never;
        }
        const [subject] = args as [string | { readonly containerId: string }];
        const containerId = typeof subject === 'string' ? subject : subject.containerId;
        watcher.begins(name as FakeOperation, containerId);
        return this.#mine(operate(...args), () => watcher.ends(containerId));
      };
    }
    return seen as unknown as ContainerRuntime;
  }

  /** An outcome, which a dead process never hears of. */
  #mine(outcome: Promise<unknown>, onEnd?: () => void): Promise<unknown> {
    return new Promise((resolve, reject) => {
      outcome.then(
        (value) => {
          if (this.#alive) {
            onEnd?.();
            resolve(value);
          }
        },
        (error: unknown) => {
          if (this.#alive) {
            onEnd?.();
            reject(error as Error);
          }
        },
      );
    });
  }
}
