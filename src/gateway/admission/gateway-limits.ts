import type { RateLimit } from '../lambda/caller-rate.ts';
import type { LoadLimits } from './load-shed.ts';

/** How much a gateway takes on. */
export interface GatewayLimits {
  readonly load: LoadLimits;
  readonly callerRate: RateLimit;
  /** Milliseconds that a call waits for a place among those of its function. */
  readonly maxQueueWaitMs: number;
  /** Connections of clients; further ones are closed at once. */
  readonly maxConnections: number;
  /** The same of one address: by default half, so that no address alone keeps others out. */
  readonly maxConnectionsPerAddress: number;
}

/** Flags of `esb gateway` for its limits. */
export interface LimitFlags {
  readonly maxRequests: number;
  /** Bytes. */
  readonly maxHeld: number;
  readonly maxConnections: number;
  /** Half of the above when absent. */
  readonly maxConnectionsPerAddress?: number;
  /** Milliseconds. */
  readonly maxLoopDelay: number;
  /** Percent. */
  readonly maxHeap: number;
  /** Seconds. */
  readonly maxQueueWait: number;
  /** Requests a second; 0 for no limit. */
  readonly callerRate: number;
  /** As many as a second's worth when absent. */
  readonly callerBurst?: number;
}

/** What the flags are when they are not given. */
export const DEFAULT_LIMIT_FLAGS: LimitFlags = {
  maxRequests: 8_192,
  maxHeld: 512 * 2 ** 20,
  maxConnections: 16_384,
  maxLoopDelay: 3_000,
  maxHeap: 85,
  maxQueueWait: 300,
  callerRate: 0,
};

/** The limits that flags ask for. */
export function gatewayLimits(flags: LimitFlags = DEFAULT_LIMIT_FLAGS): GatewayLimits {
  return {
    load: {
      maxRequests: flags.maxRequests,
      maxBytes: flags.maxHeld,
      maxLoopDelayMs: flags.maxLoopDelay,
      maxHeapUse: flags.maxHeap / 100,
    },
    callerRate: { perSecond: flags.callerRate, burst: flags.callerBurst ?? Math.max(1, flags.callerRate) },
    maxQueueWaitMs: flags.maxQueueWait * 1000,
    maxConnections: flags.maxConnections,
    maxConnectionsPerAddress: flags.maxConnectionsPerAddress ?? Math.ceil(flags.maxConnections / 2),
  };
}
