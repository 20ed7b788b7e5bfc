import { SHARE_LAPSE_MS } from '../../api/share.ts';
import type { Clock } from '../../common/clock.ts';

type State =
  /** No renewal of the Lease has succeeded, or the last one was too long ago. */
  | { readonly kind: 'Lapsed' }
  /** The assignments were not read since the renewal, which ended at `since`, in monotonic milliseconds. */
  | { readonly kind: 'Unread'; readonly since: number; readonly renewedAt: number }
  | { readonly kind: 'Held'; readonly renewedAt: number };

export interface ShareLeaseOptions {
  /** Uid and epoch of each worker of this node, as the agent has them now. */
  readonly known: () => Iterable<readonly [uid: string, epoch: number]>;
  readonly clock: Clock;
}

/**
 * Whether the workers of this node may go by their shares of reserved concurrency. The controller gives the shares of a
 * node that is not heard to other workers, and an agent that is cut off hears nothing of that. So shares are held for as
 * long as the Lease of the node was renewed within {@link SHARE_LAPSE_MS}; after a lapse, and after a start, only once
 * the assignments were read again: the controller gives a share away only when it has seen no renewal since the
 * assignment says so.
 */
export class ShareLease {
  readonly #options: ShareLeaseOptions;
  #state: State = { kind: 'Lapsed' };
  /** Epochs, by uid, of workers whose assignment was another one at the last reading. */
  #stale: ReadonlyMap<string, number> = new Map();

  constructor(options: ShareLeaseOptions) {
    this.#options = options;
  }

  /** @param epoch of the assignment that the agent goes by */
  holds(uid: string, epoch: number): boolean {
    const state = this.#state;
    return state.kind === 'Held' && !this.#isOver(state.renewedAt) && this.#stale.get(uid) !== epoch;
  }

  /**
   * The Lease was renewed just now.
   *
   * @param beganAt monotonic milliseconds
   * @returns whether shares are held again only once the assignments were read
   */
  renewed(beganAt: number): boolean {
    const state = this.#state;
    if (state.kind === 'Lapsed' || this.#isOver(state.renewedAt)) {
      this.#state = { kind: 'Unread', since: this.#options.clock.monotonic(), renewedAt: beganAt };
    } else {
      this.#state = { ...state, renewedAt: beganAt };
    }
    return this.#state.kind === 'Unread';
  }

  /**
   * Called before all assignments of this node are read. The returned function takes the epoch of each, by uid, after
   * the agent has them.
   */
  reading(): (listed: ReadonlyMap<string, number>) => void {
    const { clock, known } = this.#options;
    const beganAt = clock.monotonic();
    const before = [...known()];
    return (listed) => {
      const state = this.#state;
      if (state.kind === 'Unread' && beganAt >= state.since) {
        this.#state = { kind: 'Held', renewedAt: state.renewedAt };
      }
      this.#stale = new Map(before.filter(([uid, epoch]) => listed.get(uid) !== epoch));
    };
  }

  #isOver(renewedAt: number): boolean {
    return this.#options.clock.monotonic() - renewedAt >= SHARE_LAPSE_MS;
  }
}
