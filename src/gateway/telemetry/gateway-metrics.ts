import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { type FunctionMetrics, type FunctionMetricsOptions, registerFunctionMetrics } from './function-metrics.ts';

/** Numbers that are read with each page: name and help of each metric. */
const GAUGES = {
  functions: ['esb_gateway_functions', 'Functions that are known.'],
  workers: ['esb_gateway_workers', 'Workers that are known.'],
  agents: ['esb_gateway_agents', 'Agents that are known.'],
  agentsConnected: ['esb_gateway_agents_connected', 'Agents that are connected.'],
  eventsPending: ['esb_gateway_events_pending', 'Calls of type Event that have not ended.'],
  eventStoreWorks: [
    'esb_gateway_event_store_up',
    'Whether the event store takes events: 1, or 0 while calls of type Event are answered with 503.',
  ],
  requestsHeld: ['esb_gateway_requests', 'Requests that have arrived and whose answer has not gone out.'],
  bytesHeld: ['esb_gateway_held_bytes', 'Bytes of the bodies and answers of these.'],
  callsWaiting: ['esb_gateway_calls_waiting', 'Calls that wait for a place among those of their function.'],
} as const;

export type GatewayGauges = Readonly<Record<keyof typeof GAUGES, () => number | boolean>>;

export interface GatewayMetrics {
  readonly requests: FunctionMetrics;
  eventTried(result: string): void;
  eventEnded(result: string): void;
  agentFailed(): void;
  /** The next run of an agent was asked for the answer of a call. */
  askedAgain(result: string): void;
  /** Every metric, for their documentation. */
  readonly registry: Registry;
  page(): Promise<{ readonly contentType: string; readonly text: string }>;
}

/** Makes the metrics of one gateway, in a registry of their own. */
export function createGatewayMetrics(
  gauges: GatewayGauges,
  functions: FunctionMetricsOptions = { exists: () => false },
): GatewayMetrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const counter = (name: string, help: string, labelNames: readonly string[] = []) =>
    new Counter({ name, help, labelNames: [...labelNames], registers });
  const requestMetrics = registerFunctionMetrics(registry, functions);
  const events = counter(
    'esb_gateway_events_total',
    'Calls of type Event, and their records, that ended, by how: ok, RetriesExhausted or EventAgeExceeded; TooManyHops for a record behind 16 others, which is not sent; ClaimLost where another process has the event by now; and unreadable ones: Unreadable each time that one is put off, UnreadableDropped for one that is a week old.',
    ['result'],
  );
  const tries = counter(
    'esb_gateway_event_tries_total',
    'Tries of calls of type Event, and of their records, by how they ended.',
    ['result'],
  );
  const agentFailures = counter(
    'esb_gateway_agent_connection_failures_total',
    'Attempts to connect to an agent that failed.',
  );
  const askedAgain = counter(
    'esb_gateway_calls_asked_again_total',
    'Calls whose agent ended under them, by what its next run said: recovered, not_started, after which the call is sent again, or unknown.',
    ['result'],
  );
  for (const [key, [name, help]] of Object.entries(GAUGES)) {
    const read = gauges[key as keyof GatewayGauges];
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(Number(read()));
      },
    });
  }
  return {
    registry,
    requests: requestMetrics,
    eventTried: (result) => tries.inc({ result }),
    eventEnded: (result) => events.inc({ result }),
    agentFailed: () => agentFailures.inc(),
    askedAgain: (result) => askedAgain.inc({ result }),
    page: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
  };
}
