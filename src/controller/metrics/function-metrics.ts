import { Gauge, type Registry } from 'prom-client';
import { findCondition, functionConditions, isTrue, nodeConditions, workerConditions } from '../../api/condition.ts';
import { functionOwnerOf, type LambdaFunction } from '../../api/lambda-function.ts';
import { isCordoned, isRetired, type LambdaNode } from '../../api/lambda-node.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';

/** The objects that the gauges count. */
export interface CountedSource {
  readonly functions: () => readonly LambdaFunction[];
  readonly workers: () => readonly LambdaWorker[];
  readonly nodes: () => readonly LambdaNode[];
  /** One process tells: all others see the same objects. */
  readonly isLeader: () => boolean;
}

type WorkerState = 'wanted' | 'ready' | 'stalled';

function statesOf({ metadata, status }: LambdaWorker): readonly WorkerState[] {
  if (metadata.deletionTimestamp !== undefined) {
    return [];
  }
  const { conditions } = status ?? {};
  return [
    'wanted',
    ...(isTrue(conditions, workerConditions.ready) ? (['ready'] as const) : []),
    ...(isTrue(conditions, workerConditions.stalled) ? (['stalled'] as const) : []),
  ];
}

/** Troubles of a function that people have to look at. */
function troublesOf({ status }: LambdaFunction): readonly string[] {
  const { conditions, rollout } = status ?? {};
  const told = [
    ['RolloutStopped', rollout?.state === 'Stopped'],
    ['Stalled', isTrue(conditions, 'Stalled')],
    ['Degraded', isTrue(conditions, functionConditions.degraded)],
    ['DemandUnheard', findCondition(conditions, functionConditions.scalingActive)?.status === 'False'],
  ] as const;
  return told.flatMap(([trouble, holds]) => (holds ? [trouble] : []));
}

function closuresOf(node: LambdaNode): readonly string[] {
  const { conditions } = node.status ?? {};
  const told = [
    ['retired', isRetired(node)],
    ['cordoned', isCordoned(node)],
    ['draining', isTrue(conditions, nodeConditions.draining)],
    ['unheld', isTrue(conditions, nodeConditions.unheld)],
  ] as const;
  return told.flatMap(([closure, holds]) => (holds ? [closure] : []));
}

/** Registers what the leader counts of functions, of workers that wait and of nodes that take none. */
export function registerFunctionMetrics(registry: Registry, source: CountedSource): void {
  const gauge = (name: string, help: string, labelNames: readonly string[], rows: () => readonly string[][]): void => {
    // Registers itself.
    void new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        this.reset();
        for (const row of source.isLeader() ? rows() : []) {
          this.inc(Object.fromEntries(labelNames.map((label, at) => [label, row[at] ?? ''])));
        }
      },
    });
  };
  const keyOf = (namespace: string | undefined, name: string): string => `${namespace ?? ''}/${name}`;
  gauge(
    'esb_function_workers',
    'LambdaWorkers of a LambdaFunction, by state: all that are wanted, and of these the ready and the stalled ones.',
    ['namespace', 'function', 'state'],
    () => {
      const names = new Set(source.functions().map(({ metadata }) => keyOf(metadata.namespace, metadata.name)));
      return source.workers().flatMap((worker) => {
        const { namespace = '' } = worker.metadata;
        // Callers may know the function by another name.
        const { name = '' } = functionOwnerOf(worker.metadata) ?? {};
        return names.has(keyOf(namespace, name)) ? statesOf(worker).map((state) => [namespace, name, state]) : [];
      });
    },
  );
  gauge(
    'esb_function_troubles',
    'Whether a LambdaFunction has a trouble: RolloutStopped, Stalled, Degraded or DemandUnheard; no value for none.',
    ['namespace', 'function', 'trouble'],
    () =>
      source
        .functions()
        .flatMap((one) => troublesOf(one).map((trouble) => [one.metadata.namespace ?? '', one.metadata.name, trouble])),
  );
  gauge('esb_workers_waiting', 'LambdaWorkers without a node, by the reason of Scheduled.', ['reason'], () =>
    source.workers().flatMap(({ status }) => {
      const scheduled = findCondition(status?.conditions, workerConditions.scheduled);
      return status?.assignment === undefined && scheduled?.status === 'False' ? [[scheduled.reason]] : [];
    }),
  );
  gauge('esb_nodes_closed', 'LambdaNodes that take no new workers, by reason.', ['reason'], () =>
    source.nodes().flatMap((node) => closuresOf(node).map((reason) => [reason])),
  );
}
