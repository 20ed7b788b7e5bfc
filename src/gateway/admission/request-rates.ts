import type { Clock } from '../../common/clock.ts';
import { strangerAt } from '../access/access-cache.ts';
import { type Principal, principalName } from '../access/principal.ts';
import type { Caller } from '../lambda/caller.ts';
import { CallerRates, type RateLimit } from '../lambda/caller-rate.ts';
import { refusalFor } from './admission-policy.ts';

/** Callers that are remembered for their rates. */
const MAX_CALLERS = 20_000;

export interface RequestRatesOptions {
  /** No limit where `perSecond` is 0. */
  readonly callerRate: RateLimit;
  readonly clock: Pick<Clock, 'monotonic'>;
}

/** Limits the rate of the requests of each caller. */
export class RequestRates {
  readonly #clock: Pick<Clock, 'monotonic'>;
  /** Undefined where rates are not limited. */
  readonly #rates: CallerRates | undefined;

  constructor({ callerRate, clock }: RequestRatesOptions) {
    this.#clock = clock;
    this.#rates = callerRate.perSecond > 0 ? new CallerRates(callerRate, MAX_CALLERS) : undefined;
  }

  /**
   * Checks that the rate of a caller has room for a request, without counting the request: its sender is not proved
   * yet.
   *
   * @throws {LambdaError} TooManyRequestsException with its Reason
   */
  check(principal: Principal, caller: Caller): void {
    if (this.#rates !== undefined) {
      refuseUntil(this.#rates.look(callerKey(principal, caller), this.#clock.monotonic()));
    }
  }

  /**
   * Counts a request against the rate of its caller: once for each, as soon as its sender is proved.
   *
   * @throws {LambdaError} TooManyRequestsException with its Reason
   */
  count(principal: Principal, caller: Caller): void {
    if (this.#rates !== undefined) {
      refuseUntil(this.#rates.take(callerKey(principal, caller), this.#clock.monotonic()));
    }
  }
}

/** The name under which the requests of a caller are counted: the address, for a caller without a name. */
export function callerKey(principal: Principal, caller: Caller): string {
  const name = principalName(principal);
  return name === '' ? strangerAt(caller.address).name : `${principal.kind} ${name}`;
}

function refuseUntil(waitMs: number): void {
  if (waitMs > 0) {
    throw refusalFor('CallerRateLimitExceeded', '', Math.ceil(waitMs / 1000));
  }
}
