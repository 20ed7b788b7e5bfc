import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Fleet } from './fleet.ts';
import type { MetricsPage } from './grpc-server.ts';
import type { InvocationResult } from './invocation.ts';
import type { NodeHealth } from './node-health.ts';

/** Seconds; from the budget of a wake to the longest cold start. */
const buckets = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900,
];

const phases = [
  'Pending',
  'Pulling',
  'Creating',
  'Running',
  'Pausing',
  'Paused',
  'Resuming',
  'Terminating',
  'Absent',
  'Failed',
  'Unknown',
] as const;

export interface AgentMetrics {
  page(): Promise<MetricsPage>;
  invoked(result: InvocationResult): void;
  statusWritten(result: 'written' | 'failed'): void;
  leaseRenewed(ok: boolean): void;
}

export interface AgentMetricsOptions {
  readonly fleet: () => Pick<Fleet, 'views'> | undefined;
  readonly health: Pick<NodeHealth, 'conditions'>;
}

/** The agent's metrics. Gauges are read when the page is asked for, so that an idle agent does nothing. */
export function createAgentMetrics(options: AgentMetricsOptions): AgentMetrics {
  const registry = new Registry();
  const registers = [registry];
  const views = (): ReturnType<Fleet['views']> => options.fleet()?.views() ?? [];

  const gauge = (name: string, help: string, read: (gauge: Gauge) => void): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        read(this);
      },
    });
  };
  new Gauge({
    name: 'esb_agent_workers',
    help: 'Workers of this node by phase.',
    labelNames: ['phase'],
    registers,
    collect() {
      const counts = new Map<string, number>(phases.map((phase) => [phase, 0]));
      for (const { phase } of views()) {
        counts.set(phase, (counts.get(phase) ?? 0) + 1);
      }
      for (const [phase, count] of counts) {
        this.set({ phase }, count);
      }
    },
  });
  gauge('esb_agent_in_flight_calls', 'Calls in workers or waiting for them.', (each) => {
    each.set(views().reduce((sum, { inFlight }) => sum + inFlight, 0));
  });
  new Gauge({
    name: 'esb_agent_node_condition',
    help: 'Conditions of this node: 1 for True, 0 for anything else.',
    labelNames: ['type'],
    registers,
    collect() {
      for (const { type, status } of options.health.conditions()) {
        this.set({ type }, status === 'True' ? 1 : 0);
      }
    },
  });
  gauge('process_resident_memory_bytes', 'Resident memory of the agent.', (each) => {
    each.set(process.memoryUsage.rss());
  });
  new Counter({
    name: 'process_cpu_seconds_total',
    help: 'Processor time of the agent, user and system.',
    registers,
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });

  const invocations = new Counter({
    name: 'esb_agent_invocations_total',
    help: 'Calls by outcome; with the reason of refusals and unknown outcomes.',
    labelNames: ['outcome', 'reason'],
    registers,
  });
  for (const outcome of ['Answered', 'Refused', 'Unknown', 'TimedOut']) {
    invocations.inc({ outcome, reason: '' }, 0);
  }
  const run = new Histogram({
    name: 'esb_agent_invocation_run_seconds',
    help: 'Time from the first byte sent to a worker to the end of its answer.',
    buckets,
    registers,
  });
  const wake = new Histogram({
    name: 'esb_agent_wake_seconds',
    help: 'Time that it took to make a worker ready for a call, by what the call found.',
    labelNames: ['start'],
    buckets,
    registers,
  });
  const queued = new Histogram({
    name: 'esb_agent_queued_seconds',
    help: 'Time that a call waited for its worker.',
    buckets,
    registers,
  });
  const writes = new Counter({
    name: 'esb_agent_status_writes_total',
    help: "Writes of workers' status by result.",
    labelNames: ['result'],
    registers,
  });
  writes.inc({ result: 'written' }, 0);
  writes.inc({ result: 'failed' }, 0);
  const renewals = new Counter({
    name: 'esb_agent_lease_renewals_total',
    help: 'Renewals of the Lease of the node by result.',
    labelNames: ['result'],
    registers,
  });

  return {
    page: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
    invoked(result) {
      const reason = result.kind === 'Refused' || result.kind === 'Unknown' ? result.reason : '';
      invocations.inc({ outcome: result.kind, reason });
      if (result.kind === 'Answered' || result.kind === 'TimedOut') {
        const { timings } = result;
        run.observe(timings.run / 1e6);
        queued.observe(timings.queued / 1e6);
        if (timings.start !== 'running') {
          wake.observe({ start: timings.start }, timings.wake / 1e6);
        }
      }
    },
    statusWritten: (result) => writes.inc({ result }),
    leaseRenewed: (ok) => renewals.inc({ result: ok ? 'renewed' : 'failed' }),
  };
}
