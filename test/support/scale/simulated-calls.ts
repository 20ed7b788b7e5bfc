import { randomUUID } from 'node:crypto';
import type { Fleet } from '../../../src/agent/model/fleet.ts';

/** Milliseconds between the end of a call and the next, of a worker that is called so. */
const paces: readonly { readonly prefix: string; readonly waitMs: () => number }[] = [
  // Poisson, five seconds in the mean: now and then long enough for a pause of workers that are paused after ten.
  { prefix: 'busy-', waitMs: () => -Math.log(1 - Math.random()) * 5_000 },
  { prefix: 'minutely-', waitMs: () => 60_000 },
];

/** Calls the workers of one node whose functions have a name that begins with `busy-` or `minutely-`. */
export class SimulatedCalls {
  readonly #fleet: Pick<Fleet, 'invoke' | 'view' | 'views'>;
  readonly #timers = new Map<string, NodeJS.Timeout>();
  #on = false;

  constructor(fleet: Pick<Fleet, 'invoke' | 'view' | 'views'>) {
    this.#fleet = fleet;
  }

  /** Begins to call, or ends. A call that is under way goes on. */
  toggle(): void {
    this.#on = !this.#on;
    if (!this.#on) {
      for (const timer of this.#timers.values()) {
        clearTimeout(timer);
      }
      return;
    }
    for (const { identity } of this.#fleet.views()) {
      const pace = paces.find(({ prefix }) => identity.functionName.startsWith(prefix));
      if (pace !== undefined) {
        this.#later(identity.uid, pace.waitMs, Math.random() * pace.waitMs());
      }
    }
  }

  #later(uid: string, waitMs: () => number, delayMs: number): void {
    const timer = setTimeout(() => {
      void this.#call(uid).finally(() => {
        if (this.#on) {
          this.#later(uid, waitMs, waitMs());
        }
      });
    }, delayMs);
    this.#timers.set(uid, timer);
  }

  async #call(uid: string): Promise<void> {
    const view = this.#fleet.view(uid);
    if (view === undefined) {
      return;
    }
    const result = await this.#fleet.invoke({
      uid,
      epoch: view.epoch,
      requestId: randomUUID(),
      payload: Buffer.from('{}'),
      clientContext: '',
      tailLog: false,
      signal: new AbortController().signal,
      onHead: () => undefined,
      onChunk: () => undefined,
    });
    if (result.kind !== 'Answered') {
      console.error(`a call of ${view.identity.name} was not answered: ${JSON.stringify(result)}`);
    }
  }
}
