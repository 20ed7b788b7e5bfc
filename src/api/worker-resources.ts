import type { Assignment, LambdaWorker } from './lambda-worker.ts';
import { quantityToMiB, quantityToMilli } from './quantity.ts';

/** Resources that a worker may use, in the units of nodes. */
export interface WorkerResources {
  readonly memoryMiB: number;
  /** Absent means no limit. */
  readonly milliCpu?: number;
  readonly pids: number;
  /** Size of `/tmp`. */
  readonly ephemeralStorageMiB: number;
}

/**
 * MiB that a worker may take of its node's memory: the limit of its control group, and what is counted, placed and
 * promised while a container exists, running or paused. The kernel charges a tmpfs to the writing process.
 *
 * @param tmpOnDisk whether its `/tmp` is a file on disk, and no tmpfs
 */
export function takenMiB(
  worker: Pick<WorkerResources, 'memoryMiB' | 'ephemeralStorageMiB'>,
  tmpOnDisk: boolean,
): number {
  return worker.memoryMiB + (tmpOnDisk ? 0 : worker.ephemeralStorageMiB);
}

/** Thousandths of a core that a worker asks for where its spec does not say. */
const DEFAULT_REQUEST_MILLI_CPU = 10;

/** Thousandths of a core that are counted on the node of a worker while it is awake. */
export function requestedMilliCPU({ spec: { resources } }: LambdaWorker): number {
  const limit = quantityToMilli(resources?.limits?.cpu) ?? Number.POSITIVE_INFINITY;
  return Math.min(limit, quantityToMilli(resources?.requests?.cpu) ?? DEFAULT_REQUEST_MILLI_CPU);
}

/** The limits of a worker as numbers. The defaults are those of the schema, for objects that never met it. */
export function resourcesOf(worker: LambdaWorker): WorkerResources {
  const { resources, ephemeralStorage } = worker.spec;
  const milliCpu = quantityToMilli(resources?.limits?.cpu);
  return {
    memoryMiB: quantityToMiB(resources?.limits?.memory, 128),
    ...(milliCpu === undefined ? {} : { milliCpu }),
    pids: resources?.pids ?? 256,
    ephemeralStorageMiB: quantityToMiB(ephemeralStorage, 64),
  };
}

/** Amounts that quotas count of a worker. */
export type Granted = NonNullable<Assignment['granted']>;

/** The present size of a worker, as quotas count it. */
export function grantOf(worker: LambdaWorker): Granted {
  // Counted before there is a node, on which `/tmp` may be memory.
  return { memoryMiB: takenMiB(resourcesOf(worker), false), milliCPU: requestedMilliCPU(worker) };
}

/** Most that a worker may take on its node of each resource. */
export interface AllowedResources extends Pick<WorkerResources, 'ephemeralStorageMiB' | 'memoryMiB'> {
  /** Memory and `/tmp` together, where that is memory as well. */
  readonly bothMiB: number;
  readonly milliCPU: number;
}

/**
 * Amounts that a worker may take on its node: those that it asks for, and none beyond what quotas have granted it. Its agent
 * makes no container beyond that, and the one that is there may divide the memory otherwise between limit and `/tmp`.
 */
export function allowedOf(worker: LambdaWorker, granted: Granted | undefined): AllowedResources {
  const { ephemeralStorageMiB, memoryMiB } = resourcesOf(worker);
  const asked = grantOf(worker);
  const { memoryMiB: mostMiB, milliCPU: mostMilliCPU } = granted ?? asked;
  return {
    memoryMiB: Math.min(memoryMiB, mostMiB),
    ephemeralStorageMiB: Math.min(ephemeralStorageMiB, mostMiB),
    bothMiB: Math.min(asked.memoryMiB, mostMiB),
    milliCPU: Math.min(asked.milliCPU, mostMilliCPU),
  };
}

/** Whether a worker asks for more than the quotas of its namespace have granted it. */
export function exceedsGrant(worker: LambdaWorker, granted: Granted): boolean {
  const { memoryMiB, milliCPU } = grantOf(worker);
  return memoryMiB > granted.memoryMiB || milliCPU > granted.milliCPU;
}
