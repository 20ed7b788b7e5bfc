import { findCondition, workerConditions } from '../api/condition.ts';
import { functionNameOf, type LambdaWorker } from '../api/lambda-worker.ts';
import { formatHostPort } from '../common/host-port.ts';
import { ageOf } from './age.ts';
import type { CommandContext } from './command-context.ts';
import { type ClusterOptions, clusterOf, kubectlText } from './kubectl-command.ts';
import { formatTable } from './table.ts';

export interface PsOptions extends ClusterOptions {
  /** Default: every namespace. */
  readonly namespace?: string;
  readonly json: boolean;
}

/** Lists the workers, their nodes and their states. */
export async function runPs(options: PsOptions, context: CommandContext): Promise<void> {
  const write = context.write ?? ((text) => void process.stdout.write(text));
  const scope = options.namespace === undefined ? ['--all-namespaces'] : ['--namespace', options.namespace];
  const text = await kubectlText(['get', 'lambdaworkers', ...scope, '-o', 'json'], await clusterOf(options, context), {
    signal: context.signal,
  });
  const workers = (JSON.parse(text) as { readonly items: readonly LambdaWorker[] }).items;
  write(
    options.json
      ? `${JSON.stringify(workers, undefined, 2)}\n`
      : formatTable([header, ...workers.map((worker) => rowOf(worker, Date.now()))]),
  );
}

/** Characters of the last column: a cause and the way out. The conditions have the whole message. */
const whyLength = 320;

const header = ['NAMESPACE', 'NAME', 'FUNCTION', 'PHASE', 'NODE', 'ADDRESS', 'CONTAINER', 'LAST CALL', 'WHY'];

/** One line of the list; `now` in milliseconds since the epoch. */
export function rowOf(worker: LambdaWorker, now: number): string[] {
  const { metadata, status } = worker;
  return [
    metadata.namespace ?? '',
    metadata.name,
    functionNameOf(worker),
    status?.phase ?? 'Pending',
    status?.assignment?.nodeName ?? '-',
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
