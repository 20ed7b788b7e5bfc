import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { allowedOf } from '../../api/worker-resources.ts';
import { isAwake, isRefusedByFullNode, isReplacedLater, takesRoom } from '../scheduling/assignment-cache.ts';

/** A node's capacity has so many steps, which bounds the writes of a day and the Pods where none can be resized. */
const STEPS = 16;
/** MiB that a step is a multiple of. */
const STEP_UNIT_MIB = 64;
const LEAST_STEP_MIB = 256;
/** Thousandths of a core, likewise. */
const STEP_UNIT_MILLI_CPU = 50;
const LEAST_STEP_MILLI_CPU = 100;

/** The workers of a node that have no container. */
export interface Resting {
  /** Whether a call would reach any worker of the node. */
  readonly isCallable: boolean;
  /** MiB of the largest worker that has no container and that a call would start. */
  readonly largestMiB: number;
  /** Thousandths of a core of the largest worker that a call would start or wake. */
  readonly largestMilliCPU: number;
  /** MiB of workers that were called and found no room, and of containers that are to take the place of others. */
  readonly waitingMiB: number;
}

export interface SizingInput extends Pick<Resting, 'isCallable' | 'largestMiB' | 'waitingMiB'> {
  /** MiB of workers that have a container or are to have one. */
  readonly usedMiB: number;
  /** Most MiB that the node may promise. */
  readonly capacityMiB: number;
}

/** MiB by which the reservation of a node grows and shrinks. */
export function stepMiB(capacityMiB: number): number {
  return Math.max(LEAST_STEP_MIB, Math.ceil(capacityMiB / STEPS / STEP_UNIT_MIB) * STEP_UNIT_MIB);
}

/** @param tmpOnDisk whether `/tmp` of workers is on the disk of the node */
export function restingOf(workers: readonly LambdaWorker[], tmpOnDisk: boolean): Resting {
  let isCallable = false;
  let largestMiB = 0;
  let largestMilliCPU = 0;
  let waitingMiB = 0;
  for (const worker of workers) {
    if (worker.metadata.deletionTimestamp !== undefined) {
      continue;
    }
    const allowed = allowedOf(worker, worker.status?.assignment?.granted);
    const memoryMiB = tmpOnDisk ? allowed.memoryMiB : allowed.bothMiB;
    if (isReplacedLater(worker)) {
      waitingMiB += memoryMiB;
    }
    if (worker.spec.wakePolicy === 'Never') {
      continue;
    }
    isCallable = true;
    if (!isAwake(worker)) {
      largestMilliCPU = Math.max(largestMilliCPU, allowed.milliCPU);
    }
    if (takesRoom(worker)) {
      continue;
    }
    if (isRefusedByFullNode(worker)) {
      waitingMiB += memoryMiB;
    } else {
      largestMiB = Math.max(largestMiB, memoryMiB);
    }
  }
  return { isCallable, largestMiB, largestMilliCPU, waitingMiB };
}

/**
 * MiB that a node is to have reserved: what its workers take or wait for, in whole steps, with one step or the largest worker that
 * a call may start on top of it as long as calls reach any; nothing where nothing is taken and no call reaches any.
 */
export function wantedMiB({ usedMiB, isCallable, largestMiB, waitingMiB, capacityMiB }: SizingInput): number {
  const step = stepMiB(capacityMiB);
  const headroom = isCallable ? Math.max(step, largestMiB) : 0;
  return Math.min(capacityMiB, Math.ceil((usedMiB + waitingMiB + headroom) / step) * step);
}

/** Thousandths of a core by which the reservation of a node grows and shrinks. */
export function stepMilliCPU(capacity: number): number {
  return Math.max(LEAST_STEP_MILLI_CPU, Math.ceil(capacity / STEPS / STEP_UNIT_MILLI_CPU) * STEP_UNIT_MILLI_CPU);
}

/**
 * Thousandths of a core that a node is to have reserved, by the rules of {@link wantedMiB}: workers that are awake take
 * CPU, and a call may wake one that is not.
 *
 * @param capacity most that the node may promise
 */
export function wantedMilliCPU(
  used: number,
  { isCallable, largestMilliCPU }: Pick<Resting, 'isCallable' | 'largestMilliCPU'>,
  capacity: number,
): number {
  const step = stepMilliCPU(capacity);
  const headroom = isCallable ? Math.max(step, largestMilliCPU) : 0;
  return Math.min(capacity, Math.ceil((used + headroom) / step) * step);
}
