import {
  planScale,
  type ScaleGroup,
  type ScaleInput,
  type ScaleState,
} from '../../src/controller/functions/scaling.ts';

/** Milliseconds between two looks, and until a worker that was created takes calls. */
const TICK_MS = 100;
const CREATION_MS = 1_000;

interface Call {
  readonly arrivedAt: number;
  readonly ms: number;
  readonly gateway: number;
  readonly version: number | undefined;
}

/** Calls that arrive in the tick that begins at a time, each by its milliseconds, and by its version if not $LATEST. */
export type Load = (now: number) => readonly (number | { readonly ms: number; readonly version: number })[];

export interface ScaledFunctionOptions extends Partial<Omit<ScaleInput, 'groups' | 'isHeard'>> {
  readonly floor?: number;
  readonly perWorker?: number;
  readonly present?: number;
  readonly gateways?: number;
  /** Versions beside $LATEST, from 1 on. */
  readonly versions?: number;
}

/** One function under {@link planScale}: its workers and calls, with a clock of its own. */
export class ScaledFunction {
  readonly #options: Required<ScaledFunctionOptions>;
  now = 1_000_000;
  #state: ScaleState | undefined;
  /** When each worker takes calls, by version. */
  readonly #workers: ReadonlyMap<number | undefined, number[]>;
  #running: (Call & { readonly until: number })[] = [];
  #waiting: Call[] = [];
  /** Gateways that the controller hears. */
  readonly heard: Set<number>;
  readonly #peaks = new Map<number | undefined, number>();
  /** Milliseconds that each ended call has waited. */
  readonly waits: number[] = [];
  created = 0;
  deleted = 0;
  most = 0;

  constructor(options: ScaledFunctionOptions = {}) {
    this.#options = {
      maxWorkers: 10,
      spareWorkers: 1,
      delayMs: 300_000,
      floor: 0,
      perWorker: 1,
      reserved: Number.POSITIVE_INFINITY,
      present: 1,
      gateways: 1,
      versions: 0,
      ...options,
    };
    this.#workers = new Map(
      Array.from({ length: this.#options.versions + 1 }, (_, at) => [
        at === 0 ? undefined : at,
        Array.from({ length: this.#options.present }, () => 0),
      ]),
    );
    this.heard = new Set(Array.from({ length: this.#options.gateways }, (_, gateway) => gateway));
  }

  get workers(): number {
    return this.#workers.values().reduce((total, { length }) => total + length, 0);
  }

  workersOf(version: number | undefined): number {
    return this.#workers.get(version)?.length ?? 0;
  }

  get callsLeft(): number {
    return this.#running.length + this.#waiting.length;
  }

  /** Another controller leads, and knows nothing. */
  changeLeader(): void {
    this.#state = undefined;
    this.heard.clear();
  }

  /** The gateway goes away, and its calls with it. */
  lose(gateway: number): void {
    this.heard.delete(gateway);
    this.#running = this.#running.filter((call) => call.gateway !== gateway);
    this.#waiting = this.#waiting.filter((call) => call.gateway !== gateway);
  }

  /** Lets time go by under a load. */
  run(seconds: number, load: Load = () => []): void {
    for (const end = this.now + seconds * 1_000; this.now < end; this.now += TICK_MS) {
      load(this.now).forEach((call, at) => {
        const { ms, version } = typeof call === 'number' ? { ms: call, version: undefined } : call;
        this.#waiting.push({ arrivedAt: this.now, ms, gateway: at % this.#options.gateways, version });
      });
      this.#serve();
      this.#scale();
    }
  }

  #serve(): void {
    this.#note();
    this.#running = this.#running.filter(({ until }) => until > this.now);
    for (const [version, workers] of this.#workers) {
      const ready = workers.filter((readyAt) => readyAt <= this.now).length;
      const running = this.#running.filter((call) => call.version === version).length;
      const places = Math.max(0, ready * this.#options.perWorker - running);
      for (const call of this.#waiting.filter((each) => each.version === version).slice(0, places)) {
        this.waits.push(this.now - call.arrivedAt);
        this.#running.push({ ...call, until: this.now + call.ms });
        this.#waiting.splice(this.#waiting.indexOf(call), 1);
      }
    }
  }

  /** Gateways tell the most at once, however short. */
  #note(): void {
    for (const version of this.#workers.keys()) {
      this.#peaks.set(version, Math.max(this.#peaks.get(version) ?? 0, this.#heardCalls(version)));
    }
  }

  #heardCalls(version: number | undefined): number {
    return [...this.#running, ...this.#waiting].filter(
      (call) => call.version === version && this.heard.has(call.gateway),
    ).length;
  }

  #scale(): void {
    const { floor, perWorker, ...bounds } = this.#options;
    const groups = [...this.#workers].map(([version, { length: present }]): ScaleGroup => {
      const calls = this.#heardCalls(version);
      const peak = Math.max(calls, this.#peaks.get(version) ?? 0);
      return { version, floor, isServing: true, perWorker, present, calls, peak, inherits: [] };
    });
    const plan = planScale(this.#state, { ...bounds, groups, isHeard: this.heard.size > 0 }, this.now);
    this.#state = plan.state;
    this.#peaks.clear();
    for (const [version, workers] of this.#workers) {
      const wanted = plan.wanted.get(version) ?? 0;
      for (; workers.length < wanted; this.created += 1) {
        workers.push(this.now + CREATION_MS);
      }
      for (; workers.length > wanted; this.deleted += 1) {
        workers.pop();
      }
    }
    this.most = Math.max(this.most, this.workers);
  }
}
