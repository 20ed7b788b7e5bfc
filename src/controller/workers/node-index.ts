import type { LambdaWorker } from '../../api/lambda-worker.ts';

/** Index of the workers' cache: by the node that they are assigned to. */
export const NODE_INDEX = 'node';

export function nodeIndex(worker: LambdaWorker): readonly string[] {
  const name = worker.status?.assignment?.nodeName;
  return name === undefined ? [] : [name];
}
