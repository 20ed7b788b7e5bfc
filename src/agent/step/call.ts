import type { InvocationTimings } from '../model/invocation.ts';

/** A call that waits for its worker or is in it. */
export interface Call {
  /** Number by which the caller is found again. */
  readonly id: number;
  readonly epoch: number;
  readonly requestId: string;
  readonly bytes: number;
  /** Monotonic milliseconds. */
  readonly arrivedAt: number;
  /** State of the worker when the call came. */
  readonly start: InvocationTimings['start'];
  /** How often it was about to be sent, and not a byte was. */
  readonly attempts: number;
}
