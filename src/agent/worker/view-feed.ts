import type { FleetListener } from '../model/fleet.ts';
import type { WorkerView } from '../model/worker-state.ts';

/** Tells of all changes of the workers of a node, in the order in which listeners came. */
export class ViewFeed {
  readonly #listeners = new Set<FleetListener>();

  subscribe(listener: FleetListener): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  changed(view: WorkerView): void {
    for (const listener of this.#listeners) {
      listener.changed(view);
    }
  }

  /** Nothing is left of a worker that was released. */
  removed(uid: string): void {
    for (const listener of this.#listeners) {
      listener.removed(uid);
    }
  }
}
