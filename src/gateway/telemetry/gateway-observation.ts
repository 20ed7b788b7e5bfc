import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/logger.ts';
import type { Tracing } from '../../common/tracing/span.ts';
import { openTracing, type TracingEnvironment } from '../../common/tracing/tracing.ts';
import type { GatewayConfig } from '../../options/gateway.ts';
import { createAccessLog } from './access-log.ts';
import type { CallListener } from './observed-call.ts';

/** The observers of calls beside the metrics. */
export interface GatewayObservation {
  readonly listeners: readonly CallListener[];
  /** Receives spans; undefined for none. */
  readonly tracing: Tracing | undefined;
  /** Most functions with metrics of their own. */
  readonly maxFunctions: number;
}

/** Makes the observers that the flags ask for. Never rejects. */
export async function openObservation(
  flags: GatewayConfig['observation'],
  context: {
    readonly clock: Clock;
    readonly logger: Logger;
    readonly env: TracingEnvironment;
    readonly namespace: string;
  },
): Promise<GatewayObservation> {
  const { logger, namespace } = context;
  return {
    listeners: flags.accessLog ? [createAccessLog(logger)] : [],
    tracing: await openTracing({
      ...context,
      service: 'esb-gateway',
      attributes: { 'k8s.namespace.name': namespace },
      endpoint: flags.otlpEndpoint,
    }),
    maxFunctions: flags.metricsFunctions,
  };
}
