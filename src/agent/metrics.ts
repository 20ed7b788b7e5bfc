import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { type RuntimeObserver, startStages } from '../runtime/contract/instrumentation.ts';
import { addGauge, addGauges, type MetricSources } from './gauges.ts';
import { type GarbageMetrics, leftoverKinds } from './gc/garbage-collector.ts';
import type { InvocationResult, InvocationTimings } from './model/invocation.ts';
import type { FleetMetrics } from './worker/context.ts';

/** Seconds; from the budget of a wake to the longest cold start. */
const buckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900];

/** Milliseconds between two samples of the event loop; the usual 10 would be most of what an idle agent does. */
const EVENT_LOOP_SAMPLE_MS = 100;

const startKinds: Readonly<Record<InvocationTimings['start'], string>> = {
  running: 'warm',
  paused: 'resumed',
  absent: 'cold',
};

export type AgentMetrics = ReturnType<typeof createAgentMetrics>;

/**
 * The agent's metrics; no function of them needs its `this`. Gauges are read when the page is asked for: an idle agent
 * does nothing.
 *
 * @param version of the program
 */
export function createAgentMetrics(version: string) {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: EVENT_LOOP_SAMPLE_MS });
  new Gauge({
    name: 'esb_agent_build_info',
    help: 'Always 1; the labels have the versions of the agent and of Node.js.',
    labelNames: ['version', 'node_version'],
    registers: [registry],
  }).set({ version, node_version: process.versions.node }, 1);
  return {
    /** Name, help, type and labels of every metric, for their documentation. */
    registry,
    page: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
    /** Adds the metrics that are read from the parts of the agent. */
    observe: (sources: MetricSources) => addGauges(registry, sources),
    ...callMetrics(registry),
    ...fleetMetrics(registry),
    ...runtimeMetrics(registry),
    ...garbageMetrics(registry),
    ...writeMetrics(registry),
  };
}

function callMetrics(registry: Registry) {
  const invocations = new Counter({
    name: 'esb_agent_invocations_total',
    help: 'Calls by outcome; with the reason of refusals and unknown outcomes.',
    labelNames: ['outcome', 'reason'],
    registers: [registry],
  });
  for (const outcome of ['Answered', 'Refused', 'Unknown', 'TimedOut']) {
    invocations.inc({ outcome, reason: '' }, 0);
  }
  const starts = counterOf(
    registry,
    'esb_agent_starts_total',
    'Calls that were run, by the state of their worker: warm (running), resumed (paused), cold (absent).',
    'kind',
    Object.values(startKinds),
  );
  const run = histogramOf(
    registry,
    'esb_agent_invocation_run_seconds',
    'Time from the first byte sent to a worker to the end of its answer.',
  );
  const wake = histogramOf(
    registry,
    'esb_agent_wake_seconds',
    'Time until a worker was ready for a call, by the state that the call found.',
    ['start'],
  );
  const queued = histogramOf(registry, 'esb_agent_queued_seconds', 'Time that a call waited for its worker.');
  // On the path of every call: labels are looked up once, which costs more than counting.
  const answered = invocations.labels('Answered', '');
  const started = {
    running: starts.labels(startKinds.running),
    paused: starts.labels(startKinds.paused),
    absent: starts.labels(startKinds.absent),
  };
  return {
    invoked(result: InvocationResult) {
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

function fleetMetrics(registry: Registry): Pick<FleetMetrics, 'action'> & { outputLost(): void } {
  const durations = histogramOf(
    registry,
    'esb_agent_action_seconds',
    'Time that actions on workers took, such as to start, pause, resume or remove one, by whether they succeeded.',
    ['action', 'result'],
  );
  const failures = new Counter({
    name: 'esb_agent_action_failures_total',
    help: 'Actions on workers that failed, by the code of the error.',
    labelNames: ['action', 'code'],
    registers: [registry],
  });
  const lost = new Counter({
    name: 'esb_agent_output_lost_total',
    help: 'Workers that got a new container because a full disk had cut them off from their logs.',
    registers: [registry],
  });
  return {
    /** A worker gets a new container because its output is lost. */
    outputLost: () => lost.inc(),
    action(action, durationMs, outcome) {
      durations.observe({ action, result: outcome === 'ok' ? 'ok' : 'failed' }, durationMs / 1e3);
      if (outcome !== 'ok') {
        failures.inc({ action, code: outcome });
      }
    },
  };
}

function runtimeMetrics(registry: Registry): RuntimeObserver {
  const stages = histogramOf(
    registry,
    'esb_agent_start_stage_seconds',
    'Time that the stages of making a worker (image, network, snapshot, create, start, listen) and of waking one (thaw) took. Image and network run at the same time.',
    ['stage'],
  );
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
    registers: [registry],
  });
  const pulls = counterOf(
    registry,
    'esb_agent_pulls_total',
    'Pulls of images that ended, by result: ok, or the code of the error.',
    'result',
    ['ok'],
  );
  const durations = histogramOf(registry, 'esb_agent_pull_seconds', 'Time that pulls of images took that succeeded.');
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

function garbageMetrics(registry: Registry): GarbageMetrics & Pick<FleetMetrics, 'orphan'> {
  const counter = (name: string, help: string): Counter<'kind'> =>
    counterOf(registry, `esb_agent_leaks_${name}_total`, help, 'kind', leftoverKinds);
  const counters = {
    found: counter('found', 'Things that workers left behind, by kind, each time that one was to be removed.'),
    removed: counter('repaired', 'Things left behind that were removed, by kind.'),
    failed: counter('failed', 'Things left behind that could not be removed, by kind, at each attempt.'),
  };
  const audits = counterOf(
    registry,
    'esb_agent_audits_total',
    'Searches for what workers left behind, by whether everything could be looked at.',
    'result',
    ['ok', 'failed'],
  );
  const durations = histogramOf(
    registry,
    'esb_agent_audit_seconds',
    'Time that searches for what workers left behind took, repairs included.',
  );
  return {
    leftoverFound: (kind) => counters.found.inc({ kind }),
    leftoverRemoved: (kind) => counters.removed.inc({ kind }),
    leftoverFailed: (kind) => counters.failed.inc({ kind }),
    orphan: (outcome) => counters[outcome].inc({ kind: 'container' }),
    audited(durationMs, ok) {
      audits.inc({ result: ok ? 'ok' : 'failed' });
      durations.observe(durationMs / 1e3);
    },
  };
}

function writeMetrics(registry: Registry) {
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
    statusWritten: (result: 'written' | 'failed') => writes.inc({ result }),
    /** @param waiting workers whose activity is to be written */
    observeActivity: (waiting: () => number) =>
      addGauge(
        registry,
        'esb_agent_activity_waiting',
        'Workers whose last change of Running and Paused, or whose last call, has not been written to their status.',
        waiting,
      ),
    leaseRenewed: (ok: boolean) => renewals.inc({ result: ok ? 'renewed' : 'failed' }),
  };
}

/** A counter with one label, at zero for each usual value: a rate is right from the first event on. */
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

/** A histogram of seconds. */
function histogramOf<Label extends string>(
  registry: Registry,
  name: string,
  help: string,
  labelNames: readonly Label[] = [],
): Histogram<Label> {
  return new Histogram({ name, help, labelNames: [...labelNames], buckets, registers: [registry] });
}
