import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { ReconcileOutcome, ReconcilerMetrics } from '../../kube/controller/reconciler.ts';

const outcomes: readonly ReconcileOutcome[] = ['success', 'requeued', 'error'];
const reconcilers = [
  'workers',
  'certificate-requests',
  'holds',
  'nodes',
  'node-states',
  'quotas',
  'functions',
  'revisions',
];

/** Registers the counters of the reconcilers, each label set at zero from the start. */
export function registerReconcilerMetrics(registry: Registry): Required<ReconcilerMetrics> {
  const registers = [registry];
  const labelNames = ['name'];
  const depth = new Gauge({ name: 'esb_workqueue_depth', help: 'Keys that wait.', labelNames, registers });
  const added = new Counter({ name: 'esb_workqueue_adds_total', help: 'Keys added.', labelNames, registers });
  const retries = new Counter({
    name: 'esb_workqueue_retries_total',
    help: 'Keys added after a failure.',
    labelNames,
    registers,
  });
  const seconds = (name: string, help: string): Histogram<string> =>
    new Histogram({ name, help, labelNames, buckets: [0.001, 0.01, 0.1, 1, 10, 60], registers });
  const waited = seconds('esb_workqueue_wait_seconds', 'Time from when a key was due until it was taken.');
  const rounds = new Counter({
    name: 'esb_reconcile_total',
    help: 'Rounds of work, by outcome.',
    labelNames: ['name', 'outcome'],
    registers,
  });
  const duration = seconds('esb_reconcile_seconds', 'Time that a round of work took.');
  for (const name of reconcilers) {
    depth.set({ name }, 0);
    added.inc({ name }, 0);
    retries.inc({ name }, 0);
    waited.zero({ name });
    duration.zero({ name });
    for (const outcome of outcomes) {
      rounds.inc({ name, outcome }, 0);
    }
  }
  return {
    depth: (name, keys) => depth.set({ name }, keys),
    added: (name) => added.inc({ name }),
    retried: (name) => retries.inc({ name }),
    waited: (name, ms) => waited.observe({ name }, ms / 1000),
    reconciled(name, outcome, ms) {
      rounds.inc({ name, outcome });
      duration.observe({ name }, ms / 1000);
    },
  };
}
