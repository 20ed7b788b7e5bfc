import type { FunctionLoad } from '../../api/load-report.ts';
import type { VersionBook } from '../agents/version-book.ts';

/** A call that runs or waits. */
export interface CountedCall {
  /** Counts the call for the version that it goes to now; undefined for $LATEST. */
  move(version: number | undefined): void;
  /** The call is over: to be called once. */
  end(): void;
}

interface Counter {
  readonly functionName: string;
  readonly version: number | undefined;
  calls: number;
  /** Most at once since it was last told. */
  peak: number;
}

/** Counts the calls of a gateway that run or wait, of each function that is scaled by its calls, and each version. */
export class LoadMeter {
  readonly #book: Pick<VersionBook, 'scaling'>;
  readonly #counters = new Map<string, Counter>();
  readonly #changed = new Set<Counter>();
  /** Called when a counter changes that was told before. */
  onChange: (() => void) | undefined;

  constructor(book: Pick<VersionBook, 'scaling'>) {
    this.#book = book;
  }

  /**
   * Counts a call from now on, where its function is scaled by its calls.
   *
   * @param version that the call goes to; undefined for $LATEST
   */
  count(functionName: string, version: number | undefined): CountedCall {
    let counter = this.#book.scaling(functionName) === undefined ? undefined : this.#counter(functionName, version);
    if (counter !== undefined) {
      this.#add(counter, 1);
    }
    return {
      move: (next) => {
        if (counter !== undefined && next !== counter.version) {
          this.#add(counter, -1);
          counter = this.#counter(functionName, next);
          this.#add(counter, 1);
        }
      },
      end: () => {
        if (counter !== undefined) {
          this.#add(counter, -1);
        }
      },
    };
  }

  /** All that there are, and that they were told. */
  all(): readonly FunctionLoad[] {
    for (const counter of this.#counters.values()) {
      this.#changed.add(counter);
    }
    return this.changes();
  }

  /** Returns the counters that have changed since the last report, and marks them reported. */
  changes(): readonly FunctionLoad[] {
    const told = [...this.#changed].map((counter) => ({ ...counter }));
    for (const counter of this.#changed) {
      counter.peak = counter.calls;
      if (counter.calls === 0) {
        this.#counters.delete(keyOf(counter.functionName, counter.version));
      }
    }
    this.#changed.clear();
    return told;
  }

  #counter(functionName: string, version: number | undefined): Counter {
    const key = keyOf(functionName, version);
    const counter = this.#counters.get(key) ?? { functionName, version, calls: 0, peak: 0 };
    this.#counters.set(key, counter);
    return counter;
  }

  #add(counter: Counter, more: number): void {
    // One that was told and forgotten, while a call of it held it, is known again.
    this.#counters.set(keyOf(counter.functionName, counter.version), counter);
    counter.calls += more;
    counter.peak = Math.max(counter.peak, counter.calls);
    const isFirst = this.#changed.size === 0;
    this.#changed.add(counter);
    if (isFirst) {
      this.onChange?.();
    }
  }
}

function keyOf(functionName: string, version: number | undefined): string {
  return `${functionName}:${version ?? ''}`;
}
