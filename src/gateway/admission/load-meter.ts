import type { FunctionLoad } from '../../api/load-report.ts';
import { drawOf, type VersionBook } from '../agents/version-book.ts';
import type { FunctionReference } from '../lambda/function-name.ts';

/** A call that is not let in yet. */
export interface ComingCall {
  /** The version that the call goes to as things are; undefined for $LATEST. */
  readonly version: number | undefined;
  /** Counts the call from now on, where its function is scaled by its calls. */
  count(): CountedCall;
}

/** A call that runs or waits. */
export interface CountedCall {
  /** The number that decides for the call between the versions of an alias. */
  readonly draw: () => number;
  /** The version that the call goes to as things are; undefined for $LATEST. */
  readonly version: () => number | undefined;
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
  readonly #book: Pick<VersionBook, 'resolve' | 'scaling'>;
  readonly #random: () => number;
  readonly #counters = new Map<string, Counter>();
  readonly #changed = new Set<Counter>();
  /** Called when a counter changes that was told before. */
  onChange: (() => void) | undefined;

  /** @param random a number of [0, 1), each as likely as the others, for aliases that share their calls */
  constructor(book: Pick<VersionBook, 'resolve' | 'scaling'>, random: () => number) {
    this.#book = book;
    this.#random = random;
  }

  /** Draws for a call once, and counts nothing yet: a call that is refused is no load. */
  expect({ name, qualifier }: FunctionReference): ComingCall {
    let drawn: number | undefined;
    const draw = (): number => {
      drawn ??= drawOf(this.#random);
      return drawn;
    };
    let known: number | undefined;
    const resolve = (): number | undefined => {
      const found = this.#book.resolve(name, qualifier, draw);
      // An alias that is gone leaves the call where it is: the invoker finds that out.
      known = found.kind === 'Version' ? found.version : known;
      return known;
    };
    const version = resolve();
    return { version, count: () => this.#count({ name, version }, draw, resolve) };
  }

  #count(
    { name, version }: { readonly name: string; readonly version: number | undefined },
    draw: () => number,
    resolve: () => number | undefined,
  ): CountedCall {
    let counter = this.#book.scaling(name) === undefined ? undefined : this.#counter(name, version);
    if (counter !== undefined) {
      this.#add(counter, 1);
    }
    return {
      draw,
      version: resolve,
      move: (next) => {
        if (counter !== undefined && next !== counter.version) {
          this.#add(counter, -1);
          counter = this.#counter(name, next);
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
