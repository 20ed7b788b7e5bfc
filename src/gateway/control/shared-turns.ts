/** Turns of one key: the one that has begun, and the one after it. */
interface Turns<T> {
  current: Promise<T>;
  next: Promise<T> | undefined;
}

/**
 * Runs tasks of one key one at a time. All who come while one is under way share the next one: the task of each begins
 * after it was asked for, and however many ask, one turn is under way and one waits.
 */
export class SharedTurns<T> {
  readonly #turns = new Map<string, Turns<T>>();

  /** The result of a task that begins from now on; of several that wait for one turn, that of the first. */
  run(key: string, task: () => Promise<T>): Promise<T> {
    const turns = this.#turns.get(key);
    if (turns === undefined) {
      const first: Turns<T> = { current: task(), next: undefined };
      this.#turns.set(key, first);
      this.#follow(key, first);
      return first.current;
    }
    turns.next ??= turns.current.then(task, task);
    return turns.next;
  }

  #follow(key: string, turns: Turns<T>): void {
    const ended = (): void => {
      if (turns.next === undefined) {
        this.#turns.delete(key);
        return;
      }
      turns.current = turns.next;
      turns.next = undefined;
      this.#follow(key, turns);
    };
    turns.current.then(ended, ended);
  }
}
