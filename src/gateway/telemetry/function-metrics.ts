import { Counter, Histogram, type Registry } from 'prom-client';
import type { InvokeTimings } from '../../protocol/generated/agent.ts';
import type { CallListener, CallRecord, CallReport } from './observed-call.ts';
import { type StartKind, startKind } from './observed-call.ts';

/** Labels of functions without a label of their own; no function can have these names. */
const OTHERS = '(other)';
const UNKNOWN = '(unknown)';

/** Seconds. Few, since there is a histogram of each kind for each function. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30, 300];

export interface FunctionMetricsOptions {
  /** Whether there is a function of that name now. */
  readonly exists: (functionName: string) => boolean;
  /** Most functions with a label of their own; the others share one. Default 100. */
  readonly maxFunctions?: number | undefined;
}

export interface FunctionMetrics extends CallListener {
  /** A try of an Event has run. Its wait in the gateway is intended, and not counted. */
  ran(functionName: string, timings: InvokeTimings): void;
}

interface Timer {
  observe(seconds: number): void;
}

/** The meters of one function, each looked up once: label lookups cost more than counting. */
interface FunctionMeters {
  readonly label: string;
  readonly calls: Map<string, { inc(): void }>;
  readonly duration: Timer;
  readonly queue: Timer;
  readonly run: Timer;
  readonly wakes: Map<StartKind, Timer>;
}

/**
 * Counts and times the requests by function. The number of series is bounded: names without a function share one label,
 * as do functions beyond the limit, and the series of a deleted function are removed.
 */
export function registerFunctionMetrics(
  registry: Registry,
  { exists, maxFunctions = 100 }: FunctionMetricsOptions,
): FunctionMetrics {
  const registers = [registry];
  const known = new Map<string, FunctionMeters>();
  const calls = new Counter({
    name: 'esb_gateway_calls_total',
    help: 'Calls that were answered, by function, by how (ok, function_error, timed_out, exited, interrupted, too_large, init_failed, unknown, accepted, dry_run, hung_up, or the name of an error) and by how they found their worker: warm, resumed, cold; empty when they did not run.',
    labelNames: ['function', 'outcome', 'start'],
    registers,
    // The first metric of the page: afterwards all of a deleted function are gone.
    collect: () => forgetMissing(),
  });
  const histogram = <Label extends string>(
    name: string,
    help: string,
    labelNames: readonly Label[],
  ): Histogram<Label> => new Histogram({ name, help, labelNames: [...labelNames], buckets: BUCKETS, registers });
  const durations = histogram(
    'esb_gateway_call_duration_seconds',
    'Time from the whole request to the answer of calls that ran.',
    ['function'],
  );
  const queues = histogram(
    'esb_gateway_call_queue_seconds',
    'Time that calls which ran waited for a place: in the gateway, if a caller waits for them, and at the worker. Here and below, tries of Events count.',
    ['function'],
  );
  const wakes = histogram(
    'esb_gateway_call_wake_seconds',
    'Time that it took to make the worker ready, of calls that found it paused (resumed) or absent (cold).',
    ['function', 'start'],
  );
  const runs = histogram('esb_gateway_call_run_seconds', 'Time that calls were in their worker.', ['function']);
  const rest = histogram(
    'esb_gateway_call_overhead_seconds',
    'Time of calls that was neither waiting nor waking nor running: gateway, agent and the network between them.',
    [],
  ).labels();
  const requests = new Counter({
    name: 'esb_gateway_requests_total',
    help: 'Requests by operation of the Lambda API and status of the answer; Unknown for what is no operation, status 0 for clients who left.',
    labelNames: ['operation', 'status'],
    registers,
  });

  const forgetMissing = (): void => {
    for (const [label, meters] of known) {
      if (label !== OTHERS && label !== UNKNOWN && !exists(label)) {
        known.delete(label);
        for (const key of meters.calls.keys()) {
          const [outcome = '', start = ''] = key.split(' ');
          calls.remove(label, outcome, start);
        }
        for (const start of meters.wakes.keys()) {
          wakes.remove(label, start);
        }
        for (const each of [durations, queues, runs]) {
          each.remove(label);
        }
      }
    }
  };
  const make = (label: string): FunctionMeters => {
    const meters: FunctionMeters = {
      label,
      calls: new Map(),
      duration: durations.labels(label),
      queue: queues.labels(label),
      run: runs.labels(label),
      wakes: new Map(),
    };
    known.set(label, meters);
    return meters;
  };
  const metersOf = (functionName: string): FunctionMeters => {
    const found = known.get(functionName);
    if (found !== undefined) {
      return found;
    }
    if (!exists(functionName)) {
      return known.get(UNKNOWN) ?? make(UNKNOWN);
    }
    const shared = Number(known.has(OTHERS)) + Number(known.has(UNKNOWN));
    return known.size - shared < maxFunctions ? make(functionName) : (known.get(OTHERS) ?? make(OTHERS));
  };
  /** The seconds of all of them. */
  const observeStages = (meters: FunctionMeters, timings: InvokeTimings, queuedMs: number): number => {
    const start = startKind(timings.start);
    const queued = queuedMs / 1_000 + timings.queued / 1_000_000;
    const wake = timings.wake / 1_000_000;
    const run = timings.run / 1_000_000;
    meters.queue.observe(queued);
    meters.run.observe(run);
    if (start !== 'warm') {
      cached(meters.wakes, start, () => wakes.labels(meters.label, start)).observe(wake);
    }
    return queued + wake + run;
  };
  const requestCounters = new Map<string, { inc(): void }>();

  return {
    answered(record: CallRecord, report: CallReport) {
      const { operation } = record.info;
      cached(requestCounters, `${operation} ${report.status}`, () =>
        requests.labels(operation, String(report.status)),
      ).inc();
      if (!operation.startsWith('Invoke')) {
        return;
      }
      const meters = metersOf(record.functionName);
      const start = startKind(report.start);
      cached(meters.calls, `${report.result} ${start}`, () => calls.labels(meters.label, report.result, start)).inc();
      if (report.timings !== undefined) {
        const duration = report.durationMs / 1_000;
        meters.duration.observe(duration);
        rest.observe(Math.max(0, duration - observeStages(meters, report.timings, record.queuedMs)));
      }
    },
    ran(functionName, timings) {
      observeStages(metersOf(functionName), timings, 0);
    },
  };
}

function cached<Key, Value>(values: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = values.get(key);
  if (value === undefined) {
    value = make();
    values.set(key, value);
  }
  return value;
}
