import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Refusals } from '../cni/host/nftables.ts';
import type { SlotCounts } from '../cni/node-network.ts';
import type { MetricsPage } from '../common/metrics-page.ts';
import { type RuntimeObserver, startStages } from '../runtime/contract/instrumentation.ts';
import { type CountedKind, type GarbageMetrics, leftoverKinds } from './gc/garbage-collector.ts';
import type { ImageCollection } from './gc/image-gc.ts';
import type { Fleet } from './model/fleet.ts';
import type { InvocationResult, InvocationTimings } from './model/invocation.ts';
import type { WorkerView } from './model/worker-state.ts';
import type { EventLoopDelay } from './node/event-loop.ts';
import type { NodeHealth } from './node/node-health.ts';
import type { FleetMetrics } from './worker/worker-manager.ts';

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

const startKinds: Readonly<Record<InvocationTimings['start'], string>> = {
  running: 'warm',
  paused: 'resumed',
  absent: 'cold',
};

export interface AgentMetrics extends FleetMetrics, GarbageMetrics, RuntimeObserver {
  page(): Promise<MetricsPage>;
  /** Name, help, type and labels of every metric, for their documentation. */
  readonly registry: Registry;
  invoked(result: InvocationResult): void;
  statusWritten(result: 'written' | 'failed'): void;
  leaseRenewed(ok: boolean): void;
  /** A worker is made anew because what it writes is lost. */
  outputLost(): void;
}

export interface AgentMetricsOptions {
  readonly fleet: () => Pick<Fleet, 'views'> | undefined;
  readonly health: Pick<NodeHealth, 'conditions'>;
  /** Version of the program. */
  readonly version: string;
  readonly slots: () => SlotCounts;
  readonly eventLoop: () => EventLoopDelay;
  /** Bytes of payloads and answers. */
  readonly heldBytes: () => number;
  /** What the rules of the node refused workers, undefined without rules; asked for each page. */
  readonly refusals: () => Promise<Refusals | undefined>;
  readonly images: () => ImageCollection;
}

/** The agent's metrics. Gauges are read when the page is asked for, so that an idle agent does nothing. */
export function createAgentMetrics(options: AgentMetricsOptions): AgentMetrics {
  const registry = new Registry();
  addGauges(registry, options);
  addImageMetrics(registry, options.images);
  addRefusals(registry, options.refusals);
  return {
    registry,
    page: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
    ...callMetrics(registry),
    ...fleetMetrics(registry),
    ...runtimeMetrics(registry),
    ...garbageMetrics(registry),
    ...writeMetrics(registry),
    ...outputMetrics(registry),
  };
}

function addGauges(registry: Registry, options: AgentMetricsOptions): void {
  const registers = [registry];
  const views = (): readonly WorkerView[] => options.fleet()?.views() ?? [];
  const gauge = (
    name: string,
    help: string,
    read: () => number | readonly (readonly [label: string, value: number])[],
    label?: string,
  ): void => {
    new Gauge({
      name,
      help,
      labelNames: label === undefined ? [] : [label],
      registers,
      collect() {
        const value = read();
        if (typeof value === 'number') {
          this.set(value);
          return;
        }
        for (const [of, each] of value) {
          this.set({ [label ?? '']: of }, each);
        }
      },
    });
  };
  gauge(
    'esb_agent_workers',
    'Workers of this node by phase.',
    () => {
      const counts = new Map<string, number>(phases.map((phase) => [phase, 0]));
      for (const { phase } of views()) {
        counts.set(phase, (counts.get(phase) ?? 0) + 1);
      }
      return [...counts];
    },
    'phase',
  );
  gauge('esb_agent_in_flight_calls', 'Calls in workers or waiting for them.', () =>
    views().reduce((sum, { inFlight }) => sum + inFlight, 0),
  );
  gauge(
    'esb_agent_queued_calls',
    'Calls that wait: for their turn, or for their worker to be ready. A worker has one call at a time.',
    () =>
      views().reduce(
        (sum, { inFlight, phase }) => sum + Math.max(0, inFlight - (phase === 'Running' ? 1 : 0)),
        0,
      ),
  );
  gauge(
    'esb_agent_held_bytes',
    'Bytes of payloads and answers that calls hold, and room kept for payloads that are being read.',
    options.heldBytes,
  );
  gauge(
    'esb_agent_network_slots',
    'Network attachments prepared in advance: how many there are, and how many are asked for.',
    () => Object.entries(options.slots()),
    'state',
  );
  gauge(
    'esb_agent_node_condition',
    'Conditions of this node: 1 for True, 0 for anything else.',
    () => options.health.conditions().map(({ type, status }) => [type, status === 'True' ? 1 : 0]),
    'type',
  );
  gauge(
    'esb_agent_event_loop_delay_seconds',
    'How late the event loop of the agent was since this was asked for last.',
    () => Object.entries(options.eventLoop()),
    'statistic',
  );
  new Gauge({
    name: 'esb_agent_build_info',
    help: 'Always 1; the labels tell the versions of the agent and of Node.js.',
    labelNames: ['version', 'node_version'],
    registers,
  }).set({ version: options.version, node_version: process.versions.node }, 1);
  gauge('process_resident_memory_bytes', 'Resident memory of the agent.', () => process.memoryUsage.rss());
  gauge(
    'process_start_time_seconds',
    'When the agent was started, in seconds since the epoch.',
    () => Math.round(performance.timeOrigin) / 1e3,
  );
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
}

function addRefusals(registry: Registry, read: () => Promise<Refusals | undefined>): void {
  new Counter({
    name: 'esb_agent_refused_packets_total',
    help: 'Packets of workers that the rules of the node refused, by where they were to go; source: those with a foreign sender. Starts anew when the rules are written anew.',
    labelNames: ['destination'],
    registers: [registry],
    async collect() {
      // A node without rules has none to tell; its condition says why.
      const refusals = await read().catch(() => undefined);
      if (refusals !== undefined) {
        this.reset();
        for (const [destination, packets] of Object.entries(refusals)) {
          this.inc({ destination }, packets);
        }
      }
    },
  });
}

function addImageMetrics(registry: Registry, images: () => ImageCollection): void {
  const registers = [registry];
  new Gauge({
    name: 'esb_agent_image_disk_used_ratio',
    help: 'Part of the file system of the images that is taken, from 0 to 1; absent where it cannot be seen.',
    registers,
    collect() {
      const { usedPercent } = images();
      this.remove();
      if (usedPercent !== undefined) {
        this.set(usedPercent / 100);
      }
    },
  });
  const total = (name: string, help: string, read: (images: ImageCollection) => number): void => {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read(images()));
      },
    });
  };
  total('esb_agent_images_removed_total', 'Images removed to make room.', ({ removed }) => removed);
  total('esb_agent_image_bytes_freed_total', 'Bytes freed by that.', ({ freedBytes }) => freedBytes);
  total('esb_agent_image_removals_failed_total', 'Images that could not be removed.', ({ failed }) => failed);
}

function callMetrics(registry: Registry): Pick<AgentMetrics, 'invoked'> {
  const registers = [registry];
  const invocations = new Counter({
    name: 'esb_agent_invocations_total',
    help: 'Calls by outcome; with the reason of refusals and unknown outcomes.',
    labelNames: ['outcome', 'reason'],
    registers,
  });
  for (const outcome of ['Answered', 'Refused', 'Unknown', 'TimedOut']) {
    invocations.inc({ outcome, reason: '' }, 0);
  }
  const starts = counterOf(
    registry,
    'esb_agent_starts_total',
    'Calls that were run, by how they found their worker: warm (running), resumed (it was paused), cold (it was made).',
    'kind',
    Object.values(startKinds),
  );
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
  // On the path of every call: labels are looked up once, which costs more than counting.
  const answered = invocations.labels('Answered', '');
  const started = {
    running: starts.labels(startKinds.running),
    paused: starts.labels(startKinds.paused),
    absent: starts.labels(startKinds.absent),
  };
  return {
    invoked(result) {
      if (result.kind === 'Answered') {
        answered.inc();
      } else {
        invocations.inc({ outcome: result.kind, reason: 'reason' in result ? result.reason : '' });
      }
      if (result.kind === 'Answered' || result.kind === 'TimedOut') {
        const { timings } = result;
        started[timings.start].inc();
        run.observe(timings.run / 1e6);
        queued.observe(timings.queued / 1e6);
        if (timings.start !== 'running') {
          wake.observe({ start: timings.start }, timings.wake / 1e6);
        }
      }
    },
  };
}

function fleetMetrics(registry: Registry): Pick<AgentMetrics, 'action'> {
  const registers = [registry];
  const durations = new Histogram({
    name: 'esb_agent_action_seconds',
    help: 'Time that actions on workers took, such as to start, pause, resume or remove one, by whether they succeeded.',
    labelNames: ['action', 'result'],
    buckets,
    registers,
  });
  const failures = new Counter({
    name: 'esb_agent_action_failures_total',
    help: 'Actions on workers that failed, by the code of the error.',
    labelNames: ['action', 'code'],
    registers,
  });
  return {
    action(action, durationMs, outcome) {
      durations.observe({ action, result: outcome === 'ok' ? 'ok' : 'failed' }, durationMs / 1e3);
      if (outcome !== 'ok') {
        failures.inc({ action, code: outcome });
      }
    },
  };
}

function runtimeMetrics(registry: Registry): RuntimeObserver {
  const registers = [registry];
  const stages = new Histogram({
    name: 'esb_agent_start_stage_seconds',
    help: 'Time that the stages of making a worker (image, network, snapshot, create, start, listen) and of waking one (thaw) took. Image and network run at the same time.',
    labelNames: ['stage'],
    buckets,
    registers,
  });
  for (const stage of startStages) {
    stages.zero({ stage });
  }
  const limits = counterOf(
    registry,
    'esb_agent_limit_hits_total',
    'How often the kernel held workers to a limit: processes that were refused, or ended for want of memory.',
    'limit',
    ['processes', 'memory'],
  );
  const pulling = new Gauge({
    name: 'esb_agent_pulls_in_progress',
    help: 'Images that are being pulled.',
    registers,
  });
  const pulls = counterOf(
    registry,
    'esb_agent_pulls_total',
    'Pulls of images that ended, by result: ok, or the code of the error.',
    'result',
    ['ok'],
  );
  const durations = new Histogram({
    name: 'esb_agent_pull_seconds',
    help: 'Time that pulls of images took that succeeded.',
    buckets,
    registers,
  });
  return {
    stage: (stage, durationMs) => stages.observe({ stage }, durationMs / 1e3),
    limitReached: (limit, count) => limits.inc({ limit }, count),
    pullBegan: () => pulling.inc(),
    pullEnded(durationMs, outcome) {
      pulling.dec();
      pulls.inc({ result: outcome });
      if (outcome === 'ok') {
        durations.observe(durationMs / 1e3);
      }
    },
  };
}

function garbageMetrics(registry: Registry): GarbageMetrics & Pick<AgentMetrics, 'orphan'> {
  const counter = (name: string, help: string): Counter<'kind'> =>
    counterOf(registry, name, help, 'kind', leftoverKinds);
  const counters = {
    found: counter(
      'esb_agent_leaks_found_total',
      'Things that workers left behind, by kind, each time that one was to be removed.',
    ),
    removed: counter('esb_agent_leaks_repaired_total', 'Things left behind that were removed, by kind.'),
    failed: counter(
      'esb_agent_leaks_failed_total',
      'Things left behind that could not be removed, by kind, at each attempt.',
    ),
  };
  const audits = counterOf(
    registry,
    'esb_agent_audits_total',
    'Searches for what workers left behind, by whether everything could be looked at.',
    'result',
    ['ok', 'failed'],
  );
  const durations = new Histogram({
    name: 'esb_agent_audit_seconds',
    help: 'Time that searches for what workers left behind took, repairs included.',
    buckets,
    registers: [registry],
  });
  return {
    leftoverFound: (kind: CountedKind) => counters.found.inc({ kind }),
    leftoverRemoved: (kind: CountedKind) => counters.removed.inc({ kind }),
    leftoverFailed: (kind: CountedKind) => counters.failed.inc({ kind }),
    orphan: (outcome) => counters[outcome].inc({ kind: 'container' }),
    audited(durationMs, ok) {
      audits.inc({ result: ok ? 'ok' : 'failed' });
      durations.observe(durationMs / 1e3);
    },
  };
}

function outputMetrics(registry: Registry): Pick<AgentMetrics, 'outputLost'> {
  const lost = new Counter({
    name: 'esb_agent_output_lost_total',
    help: 'Workers that were made anew because a full disk had cut them off from their logs.',
    registers: [registry],
  });
  return { outputLost: () => lost.inc() };
}

function writeMetrics(registry: Registry): Pick<AgentMetrics, 'statusWritten' | 'leaseRenewed'> {
  const writes = counterOf(
    registry,
    'esb_agent_status_writes_total',
    "Writes of workers' status by result.",
    'result',
    ['written', 'failed'],
  );
  const renewals = counterOf(
    registry,
    'esb_agent_lease_renewals_total',
    'Renewals of the Lease of the node by result.',
    'result',
    ['renewed', 'failed'],
  );
  return {
    statusWritten: (result) => writes.inc({ result }),
    leaseRenewed: (ok) => renewals.inc({ result: ok ? 'renewed' : 'failed' }),
  };
}

/** A counter with one label, at zero for each of its usual values, so that a rate is right from the first one on. */
function counterOf<Label extends string>(
  registry: Registry,
  name: string,
  help: string,
  label: Label,
  values: readonly string[],
): Counter<Label> {
  const counter = new Counter({ name, help, labelNames: [label], registers: [registry] });
  for (const value of values) {
    counter.inc({ [label]: value } as Record<Label, string>, 0);
  }
  return counter;
}
