import type { FleetView, FunctionEntry } from '../agents/fleet-view.ts';
import { chooseRoute, type Route } from '../agents/routing.ts';

/** A call that waits at the agent of a worker without a free place. */
export interface TurnSeeker {
  /** Monotonic milliseconds at which the call came. */
  readonly since: number;
  /** Undefined for $LATEST. */
  readonly version: number | undefined;
  /** The free worker that it may go to; undefined for none. */
  readonly freeWorker: () => Route | undefined;
  /** Takes the call back from the agent, to go there. Its place there counts as taken from now on. */
  readonly moveTo: (route: Route) => void;
}

/**
 * Calls that wait at agents. None waits for one worker while another is free: the one that has waited longest is taken
 * back from its agent, and goes there.
 */
export class Turns {
  readonly #view: Pick<FleetView, 'onNextChange'>;
  readonly #seekers = new WeakMap<FunctionEntry, Set<TurnSeeker>>();
  /** Functions whose changes are heard. */
  readonly #heard = new WeakSet<FunctionEntry>();

  constructor(view: Pick<FleetView, 'onNextChange'>) {
    this.#view = view;
  }

  /** Looks for another worker until the returned function is called. */
  seek(target: FunctionEntry, seeker: TurnSeeker): () => void {
    const seekers = this.#seekers.get(target) ?? new Set();
    this.#seekers.set(target, seekers.add(seeker));
    this.#hear(target);
    return () => seekers.delete(seeker);
  }

  /** A worker of the function may be free: a call has ended there, or its state has changed. */
  look(target: FunctionEntry): void {
    const seekers = this.#seekers.get(target);
    if (seekers === undefined || seekers.size === 0 || target.workers.length < 2) {
      return;
    }
    const full = new Set<number | undefined>();
    for (const seeker of [...seekers].toSorted((one, other) => one.since - other.since)) {
      if (full.has(seeker.version)) {
        continue;
      }
      const workers = target.byVersion.get(seeker.version) ?? [];
      if (chooseRoute(workers, undefined, target.rotation)?.isQueued !== false) {
        full.add(seeker.version);
        continue;
      }
      const route = seeker.freeWorker();
      if (route !== undefined) {
        seekers.delete(seeker);
        seeker.moveTo(route);
      }
    }
  }

  #hear(target: FunctionEntry): void {
    if (this.#heard.has(target)) {
      return;
    }
    this.#heard.add(target);
    this.#view.onNextChange(target.name, () => {
      this.#heard.delete(target);
      if ((this.#seekers.get(target)?.size ?? 0) > 0) {
        this.look(target);
        this.#hear(target);
      }
    });
  }
}
