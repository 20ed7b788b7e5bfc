import type { WorkerView } from '../model/worker-state.ts';
import { ViewWaiters } from './view-waiters.ts';

/** Keeps what is shown of a worker up to date, and tells those who look at it or wait for it. */
export class StatePublisher {
  readonly waiters = new ViewWaiters();
  readonly #build: (previous: WorkerView | undefined) => WorkerView;
  readonly #onChanged: (view: WorkerView) => void;
  #view: WorkerView | undefined;

  /** @param build the view as it is now, from everything that is known */
  constructor(
    build: (previous: WorkerView | undefined) => WorkerView,
    onChanged: (view: WorkerView) => void,
  ) {
    this.#build = build;
    this.#onChanged = onChanged;
  }

  get view(): WorkerView {
    this.#view ??= this.#build(undefined);
    return this.#view;
  }

  /** Something may have changed. */
  publish(): void {
    this.#show(this.#build(this.#view));
  }

  /** After something that more often than not changes nothing. */
  publishIfChanged(): void {
    const view = this.#build(this.#view);
    if (JSON.stringify(view) !== JSON.stringify(this.#view)) {
      this.#show(view);
    }
  }

  /** Another number of calls waits or runs. Told at every call, so nothing else is looked at. */
  callsChanged(inFlight: number): void {
    const { view } = this;
    if (view.inFlight !== inFlight) {
      this.#show({ ...view, inFlight });
    }
  }

  #show(view: WorkerView): void {
    this.#view = view;
    this.waiters.show(view);
    this.#onChanged(view);
  }
}
