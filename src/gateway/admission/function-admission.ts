import { addressGroup } from '../../common/address-connections.ts';
import type { Clock } from '../../common/clock.ts';
import { type Principal, principalName } from '../access/principal.ts';
import type { FleetView, FunctionEntry } from '../agents/fleet-view.ts';
import type { FunctionCall } from '../agents/function-call.ts';
import type { Caller } from '../lambda/caller.ts';
import { CallerRates, type RateLimit } from '../lambda/caller-rate.ts';
import { type LambdaError, throttled } from '../lambda/lambda-error.ts';
import type { Admission, Admitted } from './admission.ts';
import { decideEntry, refusalText } from './admission-policy.ts';
import { FunctionLane, type LaneOptions } from './function-lane.ts';
import type { Room } from './room.ts';

/** Callers that are remembered for their rates. */
const MAX_CALLERS = 20_000;

export interface FunctionAdmissionOptions {
  readonly view: Pick<FleetView, 'function' | 'onNextChange'>;
  readonly room: Room;
  readonly callerRate: RateLimit;
  /** Milliseconds that a call waits for a place. */
  readonly maxWaitMs: number;
  readonly clock: Clock;
}

/** A call that has a place in the lane of its function. */
class Place implements Admitted {
  readonly queuedMs: number;
  readonly #lane: FunctionLane;
  readonly #bytes: number;
  #running = true;

  constructor(lane: FunctionLane, bytes: number, queuedMs: number) {
    this.#lane = lane;
    this.#bytes = bytes;
    this.queuedMs = queuedMs;
  }

  answered(bytes: number): void {
    this.#lane.answered(bytes);
  }

  release(): void {
    const lane = this.#lane;
    lane.heldCalls -= 1;
    lane.heldBytes -= this.#bytes;
    this.stepAside();
  }

  stepAside(): void {
    if (this.#running) {
      this.#running = false;
      this.#lane.running -= 1;
      this.#lane.advance();
    }
  }

  stepBack(caller: Caller): Promise<void> | undefined {
    const lane = this.#lane;
    if (!lane.hasPlace) {
      return lane.wait(caller, true).then(() => {
        this.#running = true;
      });
    }
    lane.running += 1;
    this.#running = true;
    return undefined;
  }
}

/** The place of a call whose function has just gone: whoever runs it finds that out. */
const NOWHERE: Admitted = {
  queuedMs: 0,
  answered: () => undefined,
  release: () => undefined,
  stepAside: () => undefined,
  stepBack: () => undefined,
};

/**
 * Lets calls in by the rate of their caller, the share of their function in the gateway, and the concurrency of the function. A call that is
 * let in at once costs a few comparisons and the place.
 */
export class FunctionAdmission implements Admission {
  readonly #options: FunctionAdmissionOptions;
  readonly #rates: CallerRates;
  readonly #laneOptions: LaneOptions;
  /** By the entry of the function, with which they go. */
  readonly #lanes = new WeakMap<FunctionEntry, FunctionLane>();
  #waiting = 0;

  constructor(options: FunctionAdmissionOptions) {
    const { clock, maxWaitMs, view } = options;
    this.#options = options;
    this.#rates = new CallerRates(options.callerRate, MAX_CALLERS);
    this.#laneOptions = {
      clock,
      maxWaitMs,
      isKnown: (target) => view.function(target.name) === target,
      onNextChange: (name, listener) => void view.onNextChange(name, listener),
      overload: () => this.#fullOfBytes(),
      refusal: functionBusy,
    };
  }

  /** Calls that wait for a place, of all functions. */
  get waiting(): number {
    return this.#waiting;
  }

  look(principal: Principal, caller: Caller): void {
    if (this.#rates.enabled) {
      refuseUntil(this.#rates.look(rateKey(principal, caller), this.#options.clock.monotonic()));
    }
  }

  pass(principal: Principal, caller: Caller): void {
    if (this.#rates.enabled) {
      refuseUntil(this.#rates.take(rateKey(principal, caller), this.#options.clock.monotonic()));
    }
  }

  enter(call: FunctionCall, caller: Caller): Promise<Admitted> | Admitted {
    return this.#enter(call, caller);
  }

  enterEvent(call: FunctionCall, caller: Caller): Promise<Admitted> | Admitted {
    if (this.#options.room.overload() !== undefined) {
      throw overloaded(call.reference.name);
    }
    return this.#enter(call, caller);
  }

  #enter(call: FunctionCall, caller: Caller): Promise<Admitted> | Admitted {
    const { room, view } = this.#options;
    const target = view.function(call.reference.name);
    if (target === undefined) {
      return NOWHERE;
    }
    let lane = this.#lanes.get(target);
    if (lane === undefined) {
      lane = new FunctionLane(target, this.#laneOptions);
      this.#lanes.set(target, lane);
    }
    const full = this.#fullOfBytes();
    if (full !== undefined) {
      throw full;
    }
    const bytes = call.payload.length;
    const entry = decideEntry(lane, room.freeRequests, room.freeBytes);
    if (entry === 'Enter') {
      lane.running += 1;
      lane.heldCalls += 1;
      lane.heldBytes += bytes;
      return new Place(lane, bytes, 0);
    }
    if (entry === 'Wait') {
      return this.#wait(lane, bytes, caller);
    }
    throw throttled(refusalText(entry, target.name), entry);
  }

  /** Bytes that have come since the request was taken in, or while it waited, may have left no room for an answer. */
  #fullOfBytes(): LambdaError | undefined {
    return this.#options.room.freeBytes < 0 ? overloaded() : undefined;
  }

  async #wait(lane: FunctionLane, bytes: number, caller: Caller): Promise<Admitted> {
    const { clock } = this.#options;
    const since = clock.monotonic();
    this.#waiting += 1;
    lane.heldCalls += 1;
    lane.heldBytes += bytes;
    try {
      await lane.wait(caller, false);
      return new Place(lane, bytes, clock.monotonic() - since);
    } catch (error) {
      lane.heldCalls -= 1;
      lane.heldBytes -= bytes;
      throw error;
    } finally {
      this.#waiting -= 1;
    }
  }
}

/** Whose rate a request counts against: an address, where nobody says who it is. */
function rateKey(principal: Principal, caller: Caller): string {
  const name = principalName(principal);
  return name === '' ? `address ${addressGroup(caller.address)}` : `${principal.kind} ${name}`;
}

function refuseUntil(waitMs: number): void {
  if (waitMs > 0) {
    const text = refusalText('CallerRateLimitExceeded', '');
    throw throttled(text, 'CallerRateLimitExceeded', Math.ceil(waitMs / 1000));
  }
}

/** What a caller is told when the whole gateway has too much on its hands. */
export function overloaded(functionName = ''): LambdaError {
  return throttled(
    refusalText('ConcurrentInvocationLimitExceeded', functionName),
    'ConcurrentInvocationLimitExceeded',
  );
}

function functionBusy(functionName: string): LambdaError {
  const reason = 'ReservedFunctionConcurrentInvocationLimitExceeded';
  return throttled(refusalText(reason, functionName), reason);
}
