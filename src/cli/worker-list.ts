import { functionNameOf, type LambdaWorker } from '../api/lambda-worker.ts';
import { type Cluster, kubectlObject } from './kubectl-command.ts';

/** The workers of a namespace, or of all without one. */
export async function readWorkers(
  namespace: string | undefined,
  cluster: Cluster,
  signal: AbortSignal,
): Promise<readonly LambdaWorker[]> {
  const scope = namespace === undefined ? ['--all-namespaces'] : ['--namespace', namespace];
  type List = { readonly items: readonly LambdaWorker[] };
  return (await kubectlObject<List>(['lambdaworkers', ...scope], cluster, { signal })).items;
}

/** Headings of the columns that every list of workers begins with. */
export const WORKER_HEADER = ['NAMESPACE', 'NAME', 'FUNCTION', 'PHASE', 'NODE'] as const;

/** The cells of a worker below `WORKER_HEADER`. */
export function workerCells(worker: LambdaWorker): readonly string[] {
  const { metadata, status } = worker;
  return [
    metadata.namespace ?? '',
    metadata.name,
    functionNameOf(worker),
    status?.phase ?? 'Pending',
    status?.assignment?.nodeName ?? '-',
  ];
}
