import type { InitAnswer, InitLink, InitNews, InitRequest, WorkerInits } from '../../src/init/contract.ts';
import type { Random } from '../chaos/random.ts';
import type { FakeRuntime } from '../support/fake-runtime.ts';
import type { AgentLife } from './agent-life.ts';
import type { SimulatedClock } from './simulated-clock.ts';
import type { WorkerProcess } from './worker-processes.ts';

/** Milliseconds within which an init finds its agent again. */
const CONNECT_MS = 250;

export interface SimulatedInitsOptions {
  readonly life: AgentLife;
  readonly runtime: FakeRuntime;
  readonly clock: SimulatedClock;
  readonly random: Random;
  readonly processOf: (containerId: string) => WorkerProcess | undefined;
  readonly call: (process: WorkerProcess, request: InitRequest) => Promise<InitAnswer>;
}

/** The inits of a node's workers, as one run of the agent hears them. */
export class SimulatedInits implements Pick<WorkerInits, 'link' | 'subscribe'> {
  readonly #options: SimulatedInitsOptions;
  readonly #connected = new Map<string, WorkerProcess>();
  readonly #listeners = new Set<(news: InitNews) => void>();

  constructor(options: SimulatedInitsOptions) {
    this.#options = options;
  }

  isConnected({ containerId }: WorkerProcess): boolean {
    return this.#connected.has(containerId);
  }

  link(containerId: string): InitLink {
    return {
      containerId,
      ...this.#wordOf(containerId),
      call: (request) => this.#call(containerId, request),
      serveAlone: () => undefined,
      neverHad: () => false,
      abort: (requestId, message) => this.#connected.get(containerId)?.call?.abort(requestId, message),
      leave: (requestId, message) => this.#connected.get(containerId)?.call?.abort(requestId, message),
      // No gateway of the simulation asks again.
      recover: () => undefined,
    };
  }

  subscribe(listener: (news: InitNews) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The init of a process looks for its agent. One that is frozen does so once it is thawed. */
  seek(process: WorkerProcess, withinMs = CONNECT_MS): void {
    const { clock, random } = this.#options;
    clock.setTimer(() => this.connect(process), random.between(1, withinMs));
  }

  connect(process: WorkerProcess): void {
    const { life, processOf, runtime } = this.#options;
    const { containerId } = process;
    if (life.alive && processOf(containerId) === process && runtime.taskOf(containerId) === 'Running') {
      this.#connected.set(containerId, process);
      process.onConnected();
      this.tell(process);
    }
  }

  /** The init of a process has news for its agent. */
  tell(process: WorkerProcess): void {
    if (this.#connected.get(process.containerId) === process) {
      this.#news(process.containerId);
    }
  }

  /** The connection of a process is lost. */
  lose(process: WorkerProcess): void {
    if (this.#connected.get(process.containerId) === process) {
      this.#connected.delete(process.containerId);
      this.#news(process.containerId);
    }
  }

  #call(containerId: string, request: InitRequest): Promise<InitAnswer> {
    const process = this.#connected.get(containerId);
    if (!this.#options.life.alive) {
      return new Promise(() => undefined);
    }
    return process === undefined
      ? Promise.resolve({ kind: 'NotSent', message: 'no init is connected', own: false })
      : this.#options.call(process, request);
  }

  #wordOf(containerId: string): Pick<InitNews, 'state' | 'found'> {
    const process = this.#connected.get(containerId);
    if (process === undefined) {
      return { state: undefined, found: [] };
    }
    const { call, lingers, phase, restarts } = process;
    const found = call !== undefined && call.life !== this.#options.life ? [call] : [];
    const idle = phase === 'Ready' && call === undefined && !lingers;
    return {
      state: { phase, idle, initMs: 1, restarts },
      found: found.map(({ requestId }) => ({ requestId, ended: false })),
    };
  }

  #news(containerId: string): void {
    if (this.#options.life.alive) {
      for (const listener of this.#listeners) {
        listener({ containerId, ...this.#wordOf(containerId) });
      }
    }
  }
}
