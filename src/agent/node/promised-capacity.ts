import type { LambdaNode, NodeAmounts } from '../../api/lambda-node.ts';
import { quantityToMiB, quantityToMilli } from '../../api/quantity.ts';
import type { Node } from '../../kube/api/resource-types.ts';

/** The part of the memory and of the CPU that is promised to workers by default. */
const DEFAULT_SHARE = 0.7;
/** MiB that the default is a multiple of: the memory of a machine differs by some MiB between kernels. */
const DEFAULT_STEP_MIB = 64;

/** The flags of the agent; without a size of the memory the default holds. */
export interface CapacityFlags {
  readonly memoryMiB?: number | undefined;
  readonly maxWorkers: number;
}

/**
 * The capacity that a node promises to workers: as the owner of the node wishes in `spec.capacity`, else as the flags
 * have it, else 70 % of what Pods may have there (of the machine, where no Node tells). The number of
 * workers never exceeds the flag, for which networks are set up.
 *
 * @param wished `spec.capacity` of the LambdaNode
 * @param node the Node of the same name, where there is one
 * @param machineMiB memory of the machine
 * @param processors of the machine
 */
export function promisedCapacity(
  flags: CapacityFlags,
  wished: LambdaNode['spec']['capacity'],
  node: Node | undefined,
  machineMiB: number,
  processors: number,
): NodeAmounts {
  const forPodsMiB = Math.min(machineMiB, quantityToMiB(node?.status?.allocatable?.memory, machineMiB));
  const defaultMiB = Math.floor((forPodsMiB * DEFAULT_SHARE) / DEFAULT_STEP_MIB) * DEFAULT_STEP_MIB;
  const wishedMiB = wished?.memoryMiB === undefined ? undefined : Math.min(wished.memoryMiB, Math.floor(machineMiB));
  const forPodsMilli = Math.min(
    processors * 1_000,
    quantityToMilli(node?.status?.allocatable?.cpu) ?? Number.POSITIVE_INFINITY,
  );
  return {
    milliCPU: Math.min(forPodsMilli, wished?.milliCPU ?? Math.floor(forPodsMilli * DEFAULT_SHARE)),
    memoryMiB: wishedMiB ?? flags.memoryMiB ?? defaultMiB,
    workers: Math.min(flags.maxWorkers, wished?.workers ?? flags.maxWorkers),
  };
}
