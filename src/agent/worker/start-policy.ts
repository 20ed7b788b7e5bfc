import type { Clock } from '../../common/clock.ts';
import type { PendingCall } from '../invoke/call-queue.ts';
import type { RefusalReason } from '../model/invocation.ts';
import { type Action, isOptional } from '../model/plan.ts';
import { unavailableRetryMs } from '../model/retry-schedule.ts';
import type { ActionRunner } from './action-runner.ts';
import type { NodeCapacity } from './node-capacity.ts';
import type { Rollout } from './rollout.ts';

/** Milliseconds that a call waits for a runtime that does not answer. */
const patienceMs = 5_000;

export interface StartPolicyOptions {
  readonly clock: Clock;
  readonly capacity: NodeCapacity;
  /** Whether the last that was heard of the runtime is that it does not answer. */
  readonly runtimeDown: () => boolean;
  /** Whether the worker is to go for good. */
  readonly ending: () => boolean;
  readonly containers: Rollout;
  /** Refuses the calls that wait and of which `condition` holds. */
  readonly refuse: (
    condition: (call: PendingCall) => boolean,
    reason: RefusalReason,
    message: string,
  ) => void;
}

/** Says whether what is planned may be done now. Where it has to wait, calls are told that need not wait with it. */
export class StartPolicy {
  readonly #options: StartPolicyOptions;
  /** Why the node has no room for the worker, when it has none and nothing serves. */
  nodeFull: string | undefined;

  constructor(options: StartPolicyOptions) {
    this.#options = options;
  }

  mayAct(lane: ActionRunner, action: Action): boolean {
    const { clock, ending, runtimeDown } = this.#options;
    const now = clock.monotonic();
    if (now < lane.retry.notBefore(action.kind)) {
      this.loseFaith(now);
      return false;
    }
    if (action.kind === 'Ensure') {
      return this.#mayStart(lane);
    }
    const canWait = action.kind === 'Pause' || (action.kind === 'Destroy' && isOptional(action) && !ending());
    if (canWait && runtimeDown()) {
      // It would keep calls waiting for nothing. Calls need no runtime as long as it runs.
      lane.retry.putOff(action.kind, unavailableRetryMs);
      return false;
    }
    return true;
  }

  /** Calls do not wait for ever for a runtime that does not answer. */
  loseFaith(now: number): void {
    const { containers, refuse } = this.#options;
    const { retry, setbacks } = containers.present;
    if (retry.failingSince !== undefined && now - retry.failingSince >= patienceMs) {
      refuse(
        (call) => now - call.arrivedAt >= patienceMs,
        'Unavailable',
        `the worker cannot be made ready: ${setbacks.failure?.message ?? 'the container runtime does not answer'}`,
      );
    }
  }

  /** Whether a container may be made now; otherwise those who wait for it are told. */
  #mayStart(lane: ActionRunner): boolean {
    const { capacity, containers, refuse } = this.#options;
    const { container, setbacks } = lane;
    const serves = containers.serves(lane);
    if (setbacks.remainingMs > 0) {
      if (serves) {
        refuse(() => true, ...setbacks.refusal);
      }
      return false;
    }
    // For one beside another the room was looked for when that was decided.
    if (serves && !capacity.fits(container.id, container.takenMiB)) {
      this.nodeFull = containers.noRoom();
      refuse(() => true, 'NodeFull', this.nodeFull);
      return false;
    }
    if (serves) {
      this.nodeFull = undefined;
    }
    capacity.hold(container.id, container.takenMiB);
    return true;
  }
}
