import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { CallReport } from './invoke-route.ts';

/** Numbers that are read when the page is. */
export interface GatewayGauges {
  readonly functions: () => number;
  readonly workers: () => number;
  readonly agents: () => number;
  readonly agentsConnected: () => number;
  readonly eventsPending: () => number;
  readonly activityPending: () => number;
}

/** What a gateway counts. */
export interface GatewayMetrics {
  called(report: CallReport): void;
  eventEnded(result: string): void;
  agentFailed(): void;
  activityWritten(ok: boolean): void;
  page(): Promise<{ readonly contentType: string; readonly text: string }>;
}

/** Makes the metrics of one gateway, in a registry of their own. */
export function createGatewayMetrics(gauges: GatewayGauges): GatewayMetrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const calls = new Counter({
    name: 'esb_gateway_calls_total',
    help: 'Calls that were answered, by how.',
    labelNames: ['result'],
    registers,
  });
  const durations = new Histogram({
    name: 'esb_gateway_call_duration_seconds',
    help: 'Time from the whole request to the answer of calls that ran, by what they found.',
    labelNames: ['start'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900],
    registers,
  });
  const events = new Counter({
    name: 'esb_gateway_events_total',
    help: 'Calls of type Event that ended, by how.',
    labelNames: ['result'],
    registers,
  });
  const agentFailures = new Counter({
    name: 'esb_gateway_agent_connection_failures_total',
    help: 'Attempts to connect to an agent that failed.',
    registers,
  });
  const activity = new Counter({
    name: 'esb_gateway_activity_writes_total',
    help: 'Patches of status.lastInvocationTime, by whether they succeeded.',
    labelNames: ['ok'],
    registers,
  });
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  };
  gauge('esb_gateway_functions', 'Functions that are known.', gauges.functions);
  gauge('esb_gateway_workers', 'Workers that are known.', gauges.workers);
  gauge('esb_gateway_agents', 'Agents that are known.', gauges.agents);
  gauge('esb_gateway_agents_connected', 'Agents that are connected.', gauges.agentsConnected);
  gauge('esb_gateway_events_pending', 'Calls of type Event that have not ended.', gauges.eventsPending);
  gauge(
    'esb_gateway_activity_pending',
    'Workers whose last call has not been written.',
    gauges.activityPending,
  );
  // Label lookups cost more than counting: each is done once.
  const callCounters = new Map<string, { inc(): void }>();
  const startTimers = new Map<string, { observe(value: number): void }>();
  return {
    called(report) {
      let counter = callCounters.get(report.result);
      if (counter === undefined) {
        counter = calls.labels(report.result);
        callCounters.set(report.result, counter);
      }
      counter.inc();
      if (report.start !== '') {
        let timer = startTimers.get(report.start);
        if (timer === undefined) {
          timer = durations.labels(report.start);
          startTimers.set(report.start, timer);
        }
        timer.observe(report.durationMs / 1000);
      }
    },
    eventEnded: (result) => events.inc({ result }),
    agentFailed: () => agentFailures.inc(),
    activityWritten: (ok) => activity.inc({ ok: String(ok) }),
    page: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
  };
}
