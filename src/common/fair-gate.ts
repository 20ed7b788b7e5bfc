import { abortable } from './deadline.ts';

export interface GateLimits {
  readonly places: number;
  /** Places that only urgent entries take. Default 0. */
  readonly forUrgent?: number;
  /** Places that entries of one namespace take at most. Default all. */
  readonly perNamespace?: number;
  /** Places that entries of one resource take at most. Default all. */
  readonly perResource?: number;
}

/** A task that wants to pass. */
export interface GateEntry {
  readonly namespace: string;
  /** A resource shared by several entries that may be slow, such as a registry. */
  readonly resource?: string;
  /** Whether a call waits for the task. Read whenever a place is free. Default no. */
  readonly urgent?: () => boolean;
}

interface Waiter {
  readonly entry: GateEntry;
  readonly enter: () => void;
}

/**
 * Runs a bounded number of tasks at once. Urgent tasks go first, then those of the namespace that has the fewest
 * inside, then in order of arrival: a namespace with many tasks waits behind its own alone.
 */
export class FairGate {
  readonly #limits: GateLimits;
  readonly #inside = new Set<GateEntry>();
  readonly #waiting = new Set<Waiter>();

  constructor(limits: GateLimits) {
    this.#limits = limits;
  }

  /** Whether an entry would have to wait now. */
  isFullFor(entry: GateEntry): boolean {
    const { forUrgent = 0, perNamespace, perResource, places } = this.#limits;
    return (
      this.#inside.size >= (entry.urgent?.() === true ? places : places - forUrgent) ||
      (perNamespace !== undefined && this.#insideOf('namespace', entry.namespace) >= perNamespace) ||
      (perResource !== undefined && this.#insideOf('resource', entry.resource) >= perResource)
    );
  }

  /**
   * Runs `work` when there is a place for it. `work` may leave its place before its end, by the function that it gets:
   * a pull takes minutes and none of the resources that a gate protects.
   *
   * @throws {AbortedError} when `signal` fires before there is a place
   */
  async pass<T>(entry: GateEntry, signal: AbortSignal, work: (leave: () => void) => Promise<T>): Promise<T> {
    // A copy, so that an entry that is given twice counts twice.
    const own = { ...entry };
    await abortable<void>('waiting for a place', signal, (enter) => {
      const waiter: Waiter = { entry: own, enter };
      this.#waiting.add(waiter);
      this.reconsider();
      return () => this.#waiting.delete(waiter);
    });
    const leave = (): void => {
      if (this.#inside.delete(own)) {
        this.reconsider();
      }
    };
    try {
      return await work(leave);
    } finally {
      leave();
    }
  }

  /** Admits the waiting tasks that may enter. To be called when a task has become urgent. */
  reconsider(): void {
    while (this.#waiting.size > 0 && this.#inside.size < this.#limits.places) {
      const next = this.#next();
      if (next === undefined) {
        return;
      }
      this.#waiting.delete(next);
      this.#inside.add(next.entry);
      next.enter();
    }
  }

  #insideOf(key: 'namespace' | 'resource', value: string | undefined): number {
    let count = 0;
    for (const entry of this.#inside) {
      count += entry[key] === value ? 1 : 0;
    }
    return count;
  }

  #next(): Waiter | undefined {
    let best: { readonly waiter: Waiter; readonly urgent: boolean; readonly inside: number } | undefined;
    for (const waiter of this.#waiting) {
      const urgent = waiter.entry.urgent?.() === true;
      if ((best?.urgent === true && !urgent) || this.isFullFor(waiter.entry)) {
        continue;
      }
      const inside = this.#insideOf('namespace', waiter.entry.namespace);
      if (best === undefined || (urgent && !best.urgent) || inside < best.inside) {
        best = { waiter, urgent, inside };
      }
    }
    return best?.waiter;
  }
}
