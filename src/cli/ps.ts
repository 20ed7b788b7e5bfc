import { findCondition, workerConditions } from '../api/condition.ts';
import type { LambdaWorker } from '../api/lambda-worker.ts';
import { formatHostPort } from '../common/host-port.ts';
import { ageOf } from './age.ts';
import type { CommandContext } from './command-context.ts';
import { type ClusterOptions, clusterOf } from './kubectl-command.ts';
import { formatList } from './table.ts';
import { readWorkers, WORKER_HEADER, workerCells } from './worker-list.ts';

export interface PsOptions extends ClusterOptions {
  /** Default: every namespace. */
  readonly namespace?: string;
  readonly json: boolean;
}

/** Lists the workers, their nodes and their states. */
export async function runPs(options: PsOptions, context: CommandContext): Promise<void> {
  const workers = await readWorkers(options.namespace, await clusterOf(options, context), context.signal);
  const now = Date.now();
  context.write(formatList(workers, options.json, { header, rowOf: (worker) => rowOf(worker, now) }));
}

/** Characters of the last column: a cause and the way out. The conditions have the whole message. */
const whyLength = 320;

const header = [...WORKER_HEADER, 'ADDRESS', 'CONTAINER', 'LAST CALL', 'WHY'];

/** One line of the list; `now` in milliseconds since the epoch. */
export function rowOf(worker: LambdaWorker, now: number): string[] {
  const { status } = worker;
  return [
    ...workerCells(worker),
    addressOf(status?.address),
    status?.containerID ?? '-',
    status?.lastInvocationTime === undefined ? '-' : ageOf(status.lastInvocationTime, now),
    whyOf(worker),
  ];
}

/** Nothing listens at an address without a port. */
function addressOf(address: NonNullable<LambdaWorker['status']>['address']): string {
  const { ip: host, port } = address ?? {};
  if (host === undefined) {
    return '-';
  }
  return port === undefined ? host : formatHostPort({ host, port });
}

/** The first condition that reports a fault. */
function whyOf({ status }: LambdaWorker): string {
  const condition = (type: string) => findCondition(status?.conditions, type);
  const scheduled = condition(workerConditions.scheduled);
  const ready = condition(workerConditions.ready);
  const upToDate = condition(workerConditions.upToDate);
  const telling =
    [scheduled?.status === 'False' ? scheduled : undefined, ready, upToDate, condition(workerConditions.callable)].find(
      (each) => each !== undefined && each.status !== 'True',
    ) ??
    [condition(workerConditions.limitsReached), condition(workerConditions.handlerIgnored)].find(
      (each) => each?.status === 'True',
    );
  const why = telling === undefined ? '' : `${telling.reason}: ${telling.message}`;
  return why.length > whyLength ? `${why.slice(0, whyLength - 1)}…` : why;
}
