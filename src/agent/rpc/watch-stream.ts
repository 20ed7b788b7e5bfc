import type { ServerWritableStream } from '@grpc/grpc-js';
import type { WatchEvent } from '../../protocol/generated/agent.ts';
import type { Sparse } from '../../protocol/sparse.ts';
import type { WorkerView } from '../model/worker-state.ts';
import type { ServedFleet } from './served-fleet.ts';
import { othersIn, workerRefMessage, workerStateMessage } from './worker-message.ts';

export type WatchCall = ServerWritableStream<unknown, Sparse<WatchEvent>>;

/**
 * Serves one Watch until the watcher hangs up or `signal` fires: a snapshot, then the changes. Of a worker that changed
 * several times since the watcher last kept up, only the latest state is sent.
 *
 * @param run name of this process
 */
export async function serveWatch(call: WatchCall, fleet: ServedFleet, run: string, signal: AbortSignal): Promise<void> {
  const ended = Promise.withResolvers<void>();
  const end = (): void => ended.resolve();
  const sender = new Sender(call);
  const unsubscribe = fleet.subscribe({
    changed: (view) => sender.changed(view),
    removed: (uid) => sender.removed(uid),
  });
  try {
    sender.snapshot(fleet.views(), run);
    call.on('cancelled', end);
    call.on('close', end);
    signal.addEventListener('abort', end, { once: true });
    if (!signal.aborted && !call.cancelled) {
      await ended.promise;
    }
  } finally {
    unsubscribe();
    sender.stop();
    signal.removeEventListener('abort', end);
    call.off('cancelled', end);
    call.off('close', end);
  }
}

class Sender {
  readonly #call: WatchCall;
  /** The watcher, as it names itself in its calls. */
  readonly #caller: string;
  /** Last state that the watcher got. */
  readonly #told = new Map<string, WorkerView>();
  readonly #pending = new Map<string, WorkerView | 'removed'>();
  #scheduled = false;
  #blocked = false;
  #stopped = false;

  constructor(call: WatchCall) {
    this.#call = call;
    this.#caller = call.getHost();
  }

  snapshot(views: readonly WorkerView[], run: string): void {
    this.#pending.clear();
    this.#told.clear();
    for (const view of views) {
      this.#told.set(view.identity.uid, view);
    }
    this.#send({ snapshot: { workers: views.map((view) => workerStateMessage(view, this.#caller)), run } });
  }

  changed(view: WorkerView): void {
    this.#pending.set(view.identity.uid, view);
    this.#schedule();
  }

  removed(uid: string): void {
    this.#pending.set(uid, 'removed');
    this.#schedule();
  }

  stop(): void {
    this.#stopped = true;
  }

  /** After the synchronous run of changes that this one is part of. */
  #schedule(): void {
    if (!this.#scheduled) {
      this.#scheduled = true;
      setImmediate(() => this.#flush());
    }
  }

  #flush(): void {
    this.#scheduled = false;
    if (this.#stopped) {
      return;
    }
    for (const [uid, state] of this.#pending) {
      if (this.#blocked) {
        return;
      }
      this.#pending.delete(uid);
      const told = this.#told.get(uid);
      if (state === 'removed') {
        if (told !== undefined) {
          this.#told.delete(uid);
          this.#send({ removed: workerRefMessage(told.identity) });
        }
      } else if (told === undefined || !isSame(told, state, this.#caller)) {
        this.#told.set(uid, state);
        this.#send({ changed: workerStateMessage(state, this.#caller) });
      }
    }
  }

  #send(event: Sparse<WatchEvent>): void {
    if (this.#call.write(event)) {
      return;
    }
    this.#blocked = true;
    this.#call.once('drain', () => {
      this.#blocked = false;
      this.#flush();
    });
  }
}

/** Whether two views of a worker are the same to a watcher, who knows of its own calls. */
function isSame(a: WorkerView, b: WorkerView, caller: string): boolean {
  const [one, other] = [othersIn(a, caller), othersIn(b, caller)];
  return (
    a.phase === b.phase &&
    one.others === other.others &&
    one.othersPlaced === other.othersPlaced &&
    a.places === b.places &&
    a.callable === b.callable &&
    a.epoch === b.epoch &&
    a.containerId === b.containerId
  );
}
