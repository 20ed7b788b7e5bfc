import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/logger.ts';
import type { Tracing } from '../../common/tracing/span.ts';
import { openTracing, type TracingEnvironment } from '../../common/tracing/tracing.ts';
import type { GatewayConfig } from '../../options/gateway.ts';
import { createAccessLog } from './access-log.ts';
import type { CallListener } from './observed-call.ts';

/** What a gateway tells of its calls beside their metrics. */
export interface GatewayObservation {
  readonly listeners: readonly CallListener[];
  /** Where spans go; undefined where nobody wants them. */
  readonly tracing: Tracing | undefined;
  /** Most functions with metrics of their own. */
  readonly maxFunctions: number;
}

/** Makes what the flags ask for, and nothing else. Does not reject. */
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
