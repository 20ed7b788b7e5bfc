import type { AnswerTaker, InitAnswer, InitLink, InitNews, InitRequest, WorkerInits } from '../../src/init/contract.ts';
import type { Random } from '../chaos/random.ts';
import type { FakeRuntime } from '../support/fake-runtime.ts';
import type { AgentLife } from './agent-life.ts';
import type { SimulatedClock } from './simulated-clock.ts';
import type { LiveCall, WorkerProcess } from './worker-processes.ts';

/** Milliseconds within which an init finds its agent again. */
const CONNECT_MS = 250;
/** Milliseconds in which gateways ask for an answer. */
const ASKED_MS = 20_000;

/** Milliseconds that a call may have been on its way to its agent. */
const ON_ITS_WAY_MS = 500;

/** Whether an answer is lost, or its beginning. */
export function isBeheaded({ forgotten, isLarge, passed }: LiveCall): boolean {
  return forgotten || (isLarge && passed > 0);
}

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
  /** Containers whose init was told on this connection where the calls of their worker come. */
  readonly #told = new Set<string>();
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
      disconnected: () => Promise.resolve(),
      serveAlone: (hasLost) => this.#serve(containerId, true, hasLost && !this.#told.has(containerId)),
      serveBeside: () => this.#serve(containerId, false, true),
      neverHad: (requestId, sentMs) => this.#neverHad(containerId, requestId, sentMs),
      abort: (requestId, message) =>
        this.#connected.get(containerId)?.calls.get(requestId)?.abort(requestId, message, false),
      leave: (requestId, message) =>
        this.#connected.get(containerId)?.calls.get(requestId)?.abort(requestId, message, true),
      recover: (requestId, _from, taker) => this.#recover(containerId, requestId, taker),
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
      this.#told.delete(containerId);
      process.onConnected();
      for (const [requestId, call] of process.remembered) {
        if (call.life !== life) {
          this.#options.clock.setTimer(() => {
            if (life.alive && call.ended !== undefined && call.asker?.life !== life) {
              process.remembered.delete(requestId);
            }
          }, ASKED_MS);
        }
      }
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
      for (const { asker } of process.remembered.values()) {
        if (asker?.life === this.#options.life) {
          asker.onEnd({ kind: 'Unknown', message: 'the connection to the init of the worker ended' });
        }
      }
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

  /** @param isAfresh whether calls of the worker may have come to other containers until now */
  #serve(containerId: string, isAlone: boolean, isAfresh: boolean): void {
    const process = this.#connected.get(containerId);
    if (process !== undefined && this.#options.life.alive) {
      this.#told.add(containerId);
      const since = isAfresh ? undefined : process.aloneSince;
      process.aloneSince = isAlone ? (since ?? this.#options.clock.monotonic()) : undefined;
    }
  }

  #neverHad(containerId: string, requestId: string, sentMs: number): boolean {
    const { aloneSince, had } = this.#connected.get(containerId) ?? {};
    const ago = this.#options.clock.monotonic() - (aloneSince ?? Number.POSITIVE_INFINITY);
    return had !== undefined && !had.has(requestId) && ago > sentMs + ON_ITS_WAY_MS;
  }

  /** The whole answer of a call of an earlier agent: once, and where its beginning is not lost with that agent. */
  #recover(containerId: string, requestId: string, taker: AnswerTaker): Promise<InitAnswer> | undefined {
    const { life } = this.#options;
    const call = this.#connected.get(containerId)?.remembered.get(requestId);
    if (call === undefined || call.life === life || call.asker?.life === life || isBeheaded(call)) {
      return undefined;
    }
    const { ended, parts, streaming } = call;
    return new Promise((resolve) => {
      const pass = (part: string): void => taker.onChunk(Buffer.from(part));
      const begin = (): void => taker.onHead({ contentType: 'application/json', streaming });
      if (parts.length > 0) {
        begin();
        parts.forEach(pass);
      }
      let hasBegun = parts.length > 0;
      call.asker = {
        life,
        onPart: (part) => {
          if (!hasBegun) {
            hasBegun = true;
            begin();
          }
          pass(part);
        },
        onEnd: resolve,
      };
      if (ended !== undefined) {
        resolve({ kind: 'Ended', end: ended });
      }
    });
  }

  #wordOf(containerId: string): Pick<InitNews, 'state' | 'found'> {
    const process = this.#connected.get(containerId);
    if (process === undefined) {
      return { state: undefined, found: { running: 0, requestId: undefined } };
    }
    const { calls, held, lingers, phase, places, remembered, restarts } = process;
    const found = [...remembered.values()].filter(
      ({ ended, life }) => life !== this.#options.life && ended === undefined,
    );
    const idle = phase === 'Ready' && calls.size === 0 && held === 0 && !lingers;
    const several = places > 1 ? { places, held } : {};
    return {
      state: { phase, idle, initMs: 1, restarts, ...several },
      found: { running: found.length, requestId: found[0]?.requestId },
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
