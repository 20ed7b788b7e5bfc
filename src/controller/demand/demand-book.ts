import { type DemandReport, MAX_DEMANDS } from '../../api/demand-report.ts';
import type { Clock, Timer } from '../../common/clock.ts';

/**
 * Milliseconds for which the calls of a gateway count whose stream broke off: it may come back, and its calls go on
 * meanwhile.
 */
const HOLD_MS = 60_000;

/** News of demand in a namespace. */
export type DemandChange =
  /** Gateways are heard from now on, or are not any more. */
  | { readonly kind: 'heard'; readonly namespace: string }
  | {
      readonly kind: 'calls';
      readonly namespace: string;
      readonly functionName: string;
      /** Undefined for $LATEST. */
      readonly version: number | undefined;
      /** The most at once since the change before; those of now included. */
      readonly peak: number;
    };

/** One gateway and its calls. */
interface Source {
  readonly namespace: string;
  /** By function and version. */
  readonly calls: Map<string, Counted>;
  /** The stream that speaks for it. */
  stream: object | undefined;
  /** Ends the time for which its calls count without a stream. */
  held: Timer | undefined;
}

interface Counted {
  readonly functionName: string;
  readonly version: number | undefined;
  readonly calls: number;
}

/** The stream of one gateway. */
export interface DemandStream {
  take(report: DemandReport): void;
  /** The stream is over. Without an earlier goodbye the calls count for a while. */
  end(): void;
}

/** The calls of all gateways, by namespace, function and version, as gateways tell of them. */
export class DemandBook {
  readonly #clock: Clock;
  readonly #onChange: (change: DemandChange) => void;
  /** By namespace and id of the gateway. */
  readonly #sources = new Map<string, Source>();
  /** By namespace, function and version. */
  readonly #totals = new Map<string, number>();
  /** By namespace, gateways whose calls count. */
  readonly #heard = new Map<string, number>();

  constructor(clock: Clock, onChange: (change: DemandChange) => void) {
    this.#clock = clock;
    this.#onChange = onChange;
  }

  /** Gateways whose calls count. */
  get size(): number {
    return this.#sources.size;
  }

  isHeard(namespace: string): boolean {
    return (this.#heard.get(namespace) ?? 0) > 0;
  }

  /** Calls that run or wait now. */
  calls(namespace: string, functionName: string, version: number | undefined): number {
    return this.#totals.get(`${namespace}/${counterKey(functionName, version)}`) ?? 0;
  }

  /**
   * Begins to take the reports of a gateway. A stream of before that the gateway had is over.
   *
   * @param id of the process
   */
  open(namespace: string, id: string): DemandStream {
    const key = `${namespace}/${id}`;
    const stream = {};
    let isGoodbye = false;
    const own = (): Source | undefined => {
      const source = this.#sources.get(key);
      return source?.stream === stream ? source : undefined;
    };
    const known = this.#sources.get(key);
    if (known !== undefined) {
      known.held?.cancel();
      known.stream = stream;
    }
    return {
      take: (report) => {
        isGoodbye = report.kind === 'bye';
        // Heard with its first word, which is about all of its calls: before, little would be known of many.
        const source = own() ?? (known === undefined ? this.#add(key, namespace, stream) : undefined);
        if (source !== undefined && report.kind !== 'bye') {
          this.#take(source, report);
        }
      },
      end: () => {
        const source = own();
        if (source === undefined) {
          return;
        }
        source.stream = undefined;
        if (isGoodbye) {
          this.#drop(key, source);
        } else {
          source.held = this.#clock.setTimer(() => this.#drop(key, source), HOLD_MS);
        }
      },
    };
  }

  /** Ends all waits. */
  close(): void {
    for (const { held } of this.#sources.values()) {
      held?.cancel();
    }
  }

  #add(key: string, namespace: string, stream: object): Source | undefined {
    if (this.#sources.has(key)) {
      return undefined;
    }
    const source: Source = { namespace, calls: new Map(), stream, held: undefined };
    this.#sources.set(key, source);
    this.#countHeard(namespace, 1);
    return source;
  }

  #drop(key: string, source: Source): void {
    this.#sources.delete(key);
    this.#take(source, { kind: 'all', demand: [] });
    this.#countHeard(source.namespace, -1);
  }

  #countHeard(namespace: string, more: number): void {
    const before = this.#heard.get(namespace) ?? 0;
    if (before + more === 0) {
      this.#heard.delete(namespace);
    } else {
      this.#heard.set(namespace, before + more);
    }
    if (before === 0 || before + more === 0) {
      this.#onChange({ kind: 'heard', namespace });
    }
  }

  #take(source: Source, { demand, kind }: Exclude<DemandReport, { kind: 'bye' }>): void {
    const told = new Set<string>();
    for (const { calls, functionName, peak, version } of demand) {
      told.add(counterKey(functionName, version));
      this.#count(source, { functionName, version, calls }, peak);
    }
    for (const [key, counted] of kind === 'all' ? source.calls : []) {
      if (!told.has(key)) {
        this.#count(source, { ...counted, calls: 0 }, 0);
      }
    }
  }

  #count({ calls: known, namespace }: Source, counted: Counted, peak: number): void {
    const { calls, functionName, version } = counted;
    const key = counterKey(functionName, version);
    // A gateway that names more functions than it can tell of at once is none of ours.
    if (!known.has(key) && known.size >= MAX_DEMANDS) {
      return;
    }
    const before = known.get(key)?.calls ?? 0;
    const total = `${namespace}/${key}`;
    const others = (this.#totals.get(total) ?? 0) - before;
    if (calls === 0) {
      known.delete(key);
    } else {
      known.set(key, counted);
    }
    if (others + calls === 0) {
      this.#totals.delete(total);
    } else {
      this.#totals.set(total, others + calls);
    }
    this.#onChange({ kind: 'calls', namespace, functionName, version, peak: others + Math.max(before, calls, peak) });
  }
}

function counterKey(functionName: string, version: number | undefined): string {
  return `${functionName}:${version ?? ''}`;
}
