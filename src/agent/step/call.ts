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
  /** Milliseconds that it had waited before; absent for none. */
  readonly waitedMs?: number | undefined;
  /** The name of its caller; absent where that has none. */
  readonly caller?: string | undefined;
  /** State of the worker when the call came. */
  readonly start: InvocationTimings['start'];
  /** How often it was about to be sent, and not a byte was. */
  readonly attempts: number;
}

/** Monotonic milliseconds at which a call began to wait, be it elsewhere. */
export function waitsSince({ arrivedAt, waitedMs = 0 }: Pick<Call, 'arrivedAt' | 'waitedMs'>): number {
  return arrivedAt - waitedMs;
}
