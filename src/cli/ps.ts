import { functionNameOf, type LambdaWorker } from '../api/lambda-worker.ts';
import { formatHostPort } from '../common/host-port.ts';
import { type ClusterOptions, kubectlText } from './kubectl-command.ts';
import { formatTable } from './table.ts';
import type { CommandContext } from './up.ts';

export interface PsOptions extends ClusterOptions {
  /** Every namespace when absent. */
  readonly namespace?: string;
  readonly json: boolean;
}

/** Lists the workers, where they are and how they are. */
export async function runPs(options: PsOptions, context: CommandContext): Promise<void> {
  const write = context.write ?? ((text) => void process.stdout.write(text));
  const scope = options.namespace === undefined ? ['--all-namespaces'] : ['--namespace', options.namespace];
  const text = await kubectlText(['get', 'lambdaworkers', ...scope, '-o', 'json'], options, {
    signal: context.signal,
  });
  const workers = (JSON.parse(text) as { readonly items: readonly LambdaWorker[] }).items;
  write(
    options.json
      ? `${JSON.stringify(workers, undefined, 2)}\n`
      : formatTable([header, ...workers.map((worker) => rowOf(worker, Date.now()))]),
  );
}

const header = ['NAMESPACE', 'NAME', 'FUNCTION', 'PHASE', 'NODE', 'ADDRESS', 'CONTAINER', 'LAST CALL', 'WHY'];

/** One line of the list; `now` in milliseconds since the epoch. */
export function rowOf(worker: LambdaWorker, now: number): string[] {
  const { metadata, status } = worker;
  const ready = status?.conditions?.find((condition) => condition.type === 'Ready');
  return [
    metadata.namespace ?? '',
    metadata.name,
    functionNameOf(worker),
    status?.phase ?? 'Pending',
    status?.assignment?.nodeName ?? '-',
    status?.address === undefined
      ? '-'
      : formatHostPort({ host: status.address.ip, port: status.address.port }),
    status?.containerID ?? '-',
    status?.lastInvocationTime === undefined ? '-' : ageOf(status.lastInvocationTime, now),
    ready === undefined || ready.status === 'True' ? '' : `${ready.reason}: ${ready.message}`.slice(0, 80),
  ];
}

function ageOf(time: string, now: number): string {
  const seconds = Math.max(0, Math.round((now - Date.parse(time)) / 1000));
  if (seconds < 120) {
    return `${seconds} s ago`;
  }
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min ago` : `${Math.round(minutes / 60)} h ago`;
}
