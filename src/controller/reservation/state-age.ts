/** How long something has been in its present state. */
export class StateAge {
  #state: string | undefined;
  #since = 0;

  /** Notes the state at a monotonic time. Returns whether another one was noted before, or none. */
  isNew(state: string, now: number): boolean {
    if (this.#state === state) {
      return false;
    }
    this.#state = state;
    this.#since = now;
    return true;
  }

  ms(now: number): number {
    return now - this.#since;
  }
}
