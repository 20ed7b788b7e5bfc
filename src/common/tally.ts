/** Counts by name. A name whose count is 0 takes no memory. */
export class Tally {
  readonly #counts = new Map<string, number>();

  get(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  /** The highest count; 0 where nothing counts. */
  get most(): number {
    return Math.max(0, ...this.#counts.values());
  }

  add(name: string, count: number): void {
    const sum = this.get(name) + count;
    if (sum > 0) {
      this.#counts.set(name, sum);
    } else {
      this.#counts.delete(name);
    }
  }
}
