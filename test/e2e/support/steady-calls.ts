import { setTimeout as delay } from 'node:timers/promises';

/** Calls a second; 200 in full (`ESB_CALLS_PER_SECOND`). */
export const callsPerSecond = Number(process.env.ESB_CALLS_PER_SECOND ?? 20);

/** Milliseconds of calls that are looked at after a change. */
const LOOK_MS = 1_000;

/** Calls at their times, however long the ones before them take, and what became of each. */
export class SteadyCalls {
  readonly failures: string[] = [];
  /** The stage of the function that answered, and when the call began on the monotonic clock, in milliseconds. */
  readonly #answers: { readonly stage: string; readonly beganAt: number }[] = [];
  readonly #over = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #load: Promise<void>;
  readonly #beganAt = performance.now();
  #begun = 0;
  #seconds = 0;

  /** @param call resolves with the stage that answered */
  constructor(call: () => Promise<string>) {
    this.#load = this.#begin(call);
  }

  /** Calls that were begun in a second, until the end. */
  get rate(): number {
    return this.#begun / this.#seconds;
  }

  /** Stages that have answered so far. */
  get stages(): ReadonlySet<string> {
    return new Set(this.#answers.map(({ stage }) => stage));
  }

  /** Stages that answer the calls of the second that begins now. */
  async stagesFromNow(): Promise<ReadonlySet<string>> {
    const now = performance.now();
    await delay(LOOK_MS);
    await Promise.all(this.#running);
    return new Set(this.#answers.filter(({ beganAt }) => beganAt >= now).map(({ stage }) => stage));
  }

  /** Begins no more, and waits for those under way. */
  async end(): Promise<void> {
    this.#over.abort();
    await this.#load;
    this.#seconds = (performance.now() - this.#beganAt) / 1_000;
    await Promise.all(this.#running);
  }

  /** With the first failures in words, for runs that are cut off before their assertions. */
  summary(): string {
    const counts = [...Map.groupBy(this.#answers, ({ stage }) => stage)].map(
      ([stage, calls]) => `${calls.length} by ${stage}`,
    );
    const rate = `${this.rate.toFixed(0)} a second`;
    const first = this.failures.slice(0, 3).map((failure) => `\n  ${failure}`);
    return `${this.#begun} calls, ${rate}: ${counts.join(', ')}; ${this.failures.length} failed${first.join('')}`;
  }

  async #begin(call: () => Promise<string>): Promise<void> {
    while (!this.#over.signal.aborted) {
      // Those that are late are begun at once.
      const due = ((performance.now() - this.#beganAt) / 1_000) * callsPerSecond;
      while (this.#begun <= due) {
        this.#run(call);
      }
      await delay(Math.max(1, this.#beganAt + (this.#begun * 1_000) / callsPerSecond - performance.now()));
    }
  }

  #run(call: () => Promise<string>): void {
    const beganAt = performance.now();
    const ended = call()
      .then(
        (stage) => {
          this.#answers.push({ stage, beganAt });
        },
        (error: unknown) => {
          this.failures.push(String(error));
        },
      )
      .finally(() => this.#running.delete(ended));
    this.#running.add(ended);
    this.#begun += 1;
  }
}
