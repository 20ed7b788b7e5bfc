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
}

/** Calls that arrive in the tick that begins at a time, each by its milliseconds. */
export type Load = (now: number) => readonly number[];

export interface ScaledFunctionOptions extends Partial<Omit<ScaleInput, 'groups' | 'isHeard'>> {
  readonly floor?: number;
  readonly perWorker?: number;
  readonly present?: number;
  readonly gateways?: number;
}

/** One function under {@link planScale}: its workers and calls, with a clock of its own. */
export class ScaledFunction {
  readonly #options: Required<ScaledFunctionOptions>;
  now = 1_000_000;
  #state: ScaleState | undefined;
  /** When each worker takes calls. */
  #workers: number[];
  #running: (Call & { readonly until: number })[] = [];
  #waiting: Call[] = [];
  /** Gateways that the controller hears. */
  readonly heard: Set<number>;
  #peak = 0;
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
      ...options,
    };
    this.#workers = Array.from({ length: this.#options.present }, () => 0);
    this.heard = new Set(Array.from({ length: this.#options.gateways }, (_, gateway) => gateway));
  }

  get workers(): number {
    return this.#workers.length;
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
      load(this.now).forEach((ms, at) => {
        this.#waiting.push({ arrivedAt: this.now, ms, gateway: at % this.#options.gateways });
      });
      this.#serve();
      this.#scale();
    }
  }

  #serve(): void {
    const { perWorker } = this.#options;
    this.#note();
    this.#running = this.#running.filter(({ until }) => until > this.now);
    const places = this.#workers.filter((readyAt) => readyAt <= this.now).length * perWorker - this.#running.length;
    for (const call of this.#waiting.splice(0, Math.max(0, places))) {
      this.waits.push(this.now - call.arrivedAt);
      this.#running.push({ ...call, until: this.now + call.ms });
    }
  }

  /** Gateways tell the most at once, however short. */
  #note(): void {
    this.#peak = Math.max(this.#peak, this.#heardCalls());
  }

  #heardCalls(): number {
    return [...this.#running, ...this.#waiting].filter(({ gateway }) => this.heard.has(gateway)).length;
  }

  #scale(): void {
    const { floor, perWorker, ...bounds } = this.#options;
    const calls = this.#heardCalls();
    const group: ScaleGroup = {
      version: undefined,
      floor,
      isServing: true,
      perWorker,
      present: this.workers,
      calls,
      peak: Math.max(calls, this.#peak),
      inherits: [],
    };
    const plan = planScale(this.#state, { ...bounds, groups: [group], isHeard: this.heard.size > 0 }, this.now);
    this.#state = plan.state;
    this.#peak = 0;
    const wanted = plan.wanted.get(undefined) ?? 0;
    for (; this.workers < wanted; this.created += 1) {
      this.#workers.push(this.now + CREATION_MS);
    }
    for (; this.workers > wanted; this.deleted += 1) {
      this.#workers.pop();
    }
    this.most = Math.max(this.most, this.workers);
  }
}
