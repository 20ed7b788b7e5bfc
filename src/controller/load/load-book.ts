import { type LoadReport, MAX_LOADS } from '../../api/load-report.ts';
import type { Clock, Timer } from '../../common/clock.ts';
import { Tally } from '../../common/tally.ts';

/**
 * Milliseconds for which the calls of a gateway count whose stream broke off: it may come back, and its calls go on
 * meanwhile.
 */
const HOLD_MS = 60_000;
/**
 * Gateways of a namespace at most, and functions of all of them: those that went away count, so that no tenant fills the
 * memory of the leader with names that it makes up.
 */
const MAX_GATEWAYS = 256;
const MAX_COUNTED = 50_000;

/** News of load in a namespace. */
export type LoadChange =
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
  /** The stream that speaks for it: the one that began last. */
  stream: number;
  /** Ends the time for which its calls count without a stream. */
  held: Timer | undefined;
}

interface Counted {
  readonly functionName: string;
  readonly version: number | undefined;
  readonly calls: number;
}

/** The stream of one gateway. */
export interface LoadStream {
  take(report: LoadReport): void;
  /** The stream is over. Without an earlier goodbye the calls count for a while. */
  end(): void;
}

/** The calls of all gateways, by namespace, function and version, as gateways tell of them. */
export class LoadBook {
  readonly #clock: Clock;
  readonly #onChange: (change: LoadChange) => void;
  /** By namespace and id of the gateway. */
  readonly #sources = new Map<string, Source>();
  /** By namespace, function and version. */
  readonly #totals = new Map<string, number>();
  /** By namespace, gateways whose calls count. */
  readonly #heard = new Tally();
  /** By namespace, functions and versions with calls, of each gateway. */
  readonly #counted = new Tally();
  #streams = 0;
  #isClosed = false;

  constructor(clock: Clock, onChange: (change: LoadChange) => void) {
    this.#clock = clock;
    this.#onChange = onChange;
  }

  /** Gateways whose calls count. */
  get size(): number {
    return this.#sources.size;
  }

  isHeard(namespace: string): boolean {
    return this.#heard.get(namespace) > 0;
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
  open(namespace: string, id: string): LoadStream {
    const key = `${namespace}/${id}`;
    this.#streams += 1;
    const stream = this.#streams;
    let isGoodbye = false;
    const own = (): Source | undefined => {
      const source = this.#sources.get(key);
      if (source !== undefined && source.stream < stream) {
        source.held?.cancel();
        source.stream = stream;
      }
      return source?.stream === stream ? source : undefined;
    };
    const isKnown = own() !== undefined;
    return {
      take: (report) => {
        isGoodbye = report.kind === 'bye';
        // Heard with its first word, which is about all of its calls: before, little would be known of many.
        const source = own() ?? (isKnown ? undefined : this.#add(key, namespace, stream));
        if (source !== undefined && report.kind !== 'bye') {
          this.#take(source, report);
        }
      },
      end: () => {
        const source = own();
        if (source === undefined || this.#isClosed) {
          return;
        }
        if (isGoodbye) {
          this.#drop(key, source);
        } else {
          source.held = this.#clock.setTimer(() => this.#drop(key, source), HOLD_MS);
        }
      },
    };
  }

  /** Ends all waits, and begins none any more. */
  close(): void {
    this.#isClosed = true;
    for (const { held } of this.#sources.values()) {
      held?.cancel();
    }
  }

  #add(key: string, namespace: string, stream: number): Source | undefined {
    if (this.#sources.has(key) || this.#heard.get(namespace) >= MAX_GATEWAYS) {
      return undefined;
    }
    const source: Source = { namespace, calls: new Map(), stream, held: undefined };
    this.#sources.set(key, source);
    this.#countHeard(namespace, 1);
    return source;
  }

  #drop(key: string, source: Source): void {
    this.#sources.delete(key);
    this.#take(source, { kind: 'all', load: [] });
    this.#countHeard(source.namespace, -1);
  }

  #countHeard(namespace: string, more: number): void {
    const before = this.#heard.get(namespace);
    this.#heard.add(namespace, more);
    if (before === 0 || before + more === 0) {
      this.#onChange({ kind: 'heard', namespace });
    }
  }

  #take(source: Source, { load, kind }: Exclude<LoadReport, { kind: 'bye' }>): void {
    const told = new Set<string>();
    for (const { calls, functionName, peak, version } of load) {
      const key = counterKey(functionName, version);
      if (!told.has(key)) {
        told.add(key);
        this.#count(source, { functionName, version, calls }, peak);
      }
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
    const before = known.get(key)?.calls ?? 0;
    const isNew = before === 0 && calls > 0;
    // A gateway that names more functions than it can tell of at once is none of ours.
    const isTooMuch = isNew && (known.size >= MAX_LOADS || this.#counted.get(namespace) >= MAX_COUNTED);
    const isSame = calls === before && peak <= calls;
    if (isTooMuch || isSame) {
      return;
    }
    const total = `${namespace}/${key}`;
    const others = (this.#totals.get(total) ?? 0) - before;
    if (calls === 0) {
      this.#counted.add(namespace, known.delete(key) ? -1 : 0);
    } else {
      this.#counted.add(namespace, isNew ? 1 : 0);
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
