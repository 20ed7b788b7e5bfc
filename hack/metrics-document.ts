import { Registry } from 'prom-client';
import { createAgentMetrics } from '../src/agent/metrics.ts';
import { WorkerMetrics } from '../src/agent/node/worker-usages.ts';
import { registerControllerMetrics } from '../src/controller/metrics/controller-metrics.ts';
import { registerFunctionMetrics } from '../src/controller/metrics/function-metrics.ts';
import { registerReconcilerMetrics } from '../src/controller/metrics/reconciler-metrics.ts';
import { createGatewayMetrics } from '../src/gateway/telemetry/gateway-metrics.ts';
import type { Product } from './product.ts';

/** Facts that prom-client keeps of a metric, as far as they are documented. */
interface MetricFacts {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly labelNames: readonly string[];
}

const introduction = `# Metrics

Each role serves its metrics for Prometheus at \`/metrics\` of its \`--health\` address, beside \`/healthz\` and
\`/readyz\`: the agent at port 9093, the controller at 9091, the gateway at 9092, where nothing else is asked for.
Agents give theirs by gRPC too (\`GetMetrics\`). But for [a page of its own](#workers), no label holds the name of a
worker or an image, and how many series there are does not depend on how many workers there are. Functions have labels
in the gateway alone, and only so many: the first 100 that are called (\`--metrics-functions\`) have series of their
own, some 80 each; the others share \`function="(other)"\`, names that no function has \`function="(unknown)"\`, and
the series of a function end with it. Durations are in seconds, sizes in bytes.

Where one call spent its time is told by [spans](../how-to/tracing.md) and by the access log of the gateway
(\`--access-log\`), a line for each request. [How to watch ESB](../how-to/metrics.md) says which to collect and which are
worth an alarm.

\`/healthz\` says that the process turns. The check asks neither containerd nor the API server: to restart an agent mends
neither, and workers are served without the API server. \`/readyz\` says whether the role does its work now, and why not.
A probe of life belongs on the first, one of readiness on the second.

This page is made from the source by \`npm run generate\`, with the help text of each metric.
`;

const ofNode = '\nBeside these, the role has the usual metrics of Node.js (`nodejs_*`, `process_*`).\n';

const ofWorkers = `
Served by an agent with \`--worker-metrics\` (\`agent.workerMetrics\` of the chart) at \`/metrics/workers\`, apart from its
own metrics: their number grows with that of the workers, and names of workers are told to every client that reaches the
address. The figures are read from the control groups when the page is asked for, once a second at most.
`;

/** The reference of metrics: every metric of every role. */
export function metricsDocument(): readonly Product[] {
  const controller = new Registry();
  registerControllerMetrics(controller, { phases: () => [], livenesses: () => [] });
  registerReconcilerMetrics(controller);
  const none = (): never[] => [];
  registerFunctionMetrics(controller, { functions: none, workers: none, nodes: none, isLeader: () => true });
  const agent = createAgentMetrics('');
  agent.observeActivity(() => 0);
  agent.observe({
    fleet: { views: () => [] },
    health: { conditions: () => ({ Ready: { status: 'True', reason: 'Ready', message: '' } }) },
    slots: () => ({ ready: 0, wanted: 0 }),
    eventLoop: () => ({ mean: 0, p50: 0, p99: 0, max: 0 }),
    heldBytes: () => 0,
    refusals: () => Promise.resolve({ node: 0, metadata: 0, worker: 0, range: 0, source: 0, egress: 0 }),
    images: () => ({ removed: 0, freedBytes: 0, failed: 0, usedPercent: undefined, underPressure: false }),
  });
  const zero = (): number => 0;
  const gateway = createGatewayMetrics({
    functions: zero,
    workers: zero,
    agents: zero,
    agentsConnected: zero,
    eventsPending: zero,
    eventStoreWorks: () => true,
    requestsHeld: zero,
    bytesHeld: zero,
    callsWaiting: zero,
  });
  const text = [
    introduction,
    `${section('Agent', agent.registry)}${ofNode}`,
    `${section('Gateway', gateway.registry)}${ofNode}`,
    section('Controller', controller),
    `${section('Workers', new WorkerMetrics().registry)}${ofWorkers}`,
  ].join('\n');
  return [{ path: 'docs/reference/metrics.md', text }];
}

function section(title: string, registry: Registry): string {
  const metrics = registry.getMetricsAsArray() as unknown as readonly (MetricFacts & {
    readonly constructor: { readonly name: string };
  })[];
  const rows = metrics
    // Metrics of Node.js and of the operating system are documented elsewhere and differ between machines.
    .filter(({ name }) => name.startsWith('esb_'))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map((metric) => {
      const labels = metric.labelNames.filter((name) => name !== 'le').map((name) => `\`${name}\``);
      const kind = metric.constructor.name.toLowerCase();
      return `| \`${metric.name}\` | ${kind} | ${labels.join(', ')} | ${metric.help.replaceAll('|', '\\|')} |`;
    });
  return `## ${title}\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n${rows.join('\n')}\n`;
}
