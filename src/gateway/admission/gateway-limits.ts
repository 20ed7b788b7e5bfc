import { defaultsOf } from '../../options/flag.ts';
import { type GatewayConfig, gatewayFlags } from '../../options/gateway.ts';
import type { RateLimit } from '../lambda/caller-rate.ts';
import type { LoadLimits } from './room.ts';

export interface GatewayLimits {
  readonly load: LoadLimits;
  readonly callerRate: RateLimit;
  /** Milliseconds that a call waits for a place among those of its function. */
  readonly maxQueueWaitMs: number;
  /** Connections of clients; further ones are closed at once. */
  readonly maxConnections: number;
  /** Connections of one address: by default half of all, so that no address alone keeps others out. */
  readonly maxConnectionsPerAddress: number;
}

export const DEFAULT_LIMIT_FLAGS = defaultsOf(gatewayFlags.limits);

/** The limits that flags ask for. */
export function gatewayLimits(flags: GatewayConfig['limits'] = DEFAULT_LIMIT_FLAGS): GatewayLimits {
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
