import type { LambdaWorker } from './generated/lambda-worker.ts';
import { quantityToMiB, quantityToMilli } from './quantity.ts';

/** What a worker may use, in the units that nodes count in. */
export interface WorkerResources {
  /** Counted against the node's capacity while a container exists, running or paused. */
  readonly memoryMiB: number;
  /** Absent means no limit. */
  readonly milliCpu?: number;
  readonly pids: number;
  readonly ephemeralStorageMiB: number;
}

/** The limits of a worker as numbers. The defaults are those of the schema, for objects that never met it. */
export function resourcesOf(worker: LambdaWorker): WorkerResources {
  const { resources, ephemeralStorage } = worker.spec;
  const milliCpu = quantityToMilli(resources?.limits?.cpu);
  return {
    memoryMiB: quantityToMiB(resources?.limits?.memory, 128),
    ...(milliCpu === undefined ? {} : { milliCpu }),
    pids: resources?.pids ?? 256,
    ephemeralStorageMiB: quantityToMiB(ephemeralStorage, 512),
  };
}
