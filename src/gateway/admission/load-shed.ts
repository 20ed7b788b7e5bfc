/**
 * Requests under way below which neither a late event loop nor a full heap makes the gateway refuse anything: they have another reason then, and
 * refusing would not help. It also is what a gateway comes back by, since a heap is only cleaned while there is work.
 */
const LEAST_LOAD = 64;

/** What a gateway has on its hands. */
export interface Load {
  /** Requests that have come and whose answer has not gone out. */
  readonly requests: number;
  /** Bytes of bodies and answers of these. */
  readonly bytes: number;
}

/** How the process is doing. */
export interface Pressure {
  /** Milliseconds by which the event loop is late. */
  readonly loopDelayMs: number;
  /** Part of the heap's limit that is in use, from 0 to 1. */
  readonly heapUse: number;
}

/** Where a gateway begins to refuse. */
export interface LoadLimits {
  readonly maxRequests: number;
  readonly maxBytes: number;
  readonly maxLoopDelayMs: number;
  /** From 0 to 1. */
  readonly maxHeapUse: number;
}

/** What there is too much of. */
export type Overload = 'Requests' | 'Bytes' | 'LoopDelay' | 'Heap';

/** Why one more request is too much; undefined when it is not. */
export function overloadOf(load: Load, pressure: Pressure, limits: LoadLimits): Overload | undefined {
  if (load.requests >= limits.maxRequests) {
    return 'Requests';
  }
  if (load.bytes >= limits.maxBytes) {
    return 'Bytes';
  }
  if (load.requests < LEAST_LOAD) {
    return undefined;
  }
  if (pressure.loopDelayMs > limits.maxLoopDelayMs) {
    return 'LoopDelay';
  }
  return pressure.heapUse > limits.maxHeapUse ? 'Heap' : undefined;
}
