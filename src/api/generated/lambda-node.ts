// Made from crds/lambdanodes.yaml by `npm run generate`; do not edit.

import type { ObjectMeta } from '../../kube/api/types.ts';

/**
 * LambdaNode is one node that runs workers, registered and kept by the agent there. The life of the agent is told by the Lease of the same name in ESB's own namespace. Deleting a LambdaNode says that the node is gone for good, and takes its Lease along.
 */
export interface LambdaNode {
  /**
   * esb.dev/v1alpha1.
   */
  readonly apiVersion?: string;
  /**
   * LambdaNode.
   */
  readonly kind?: string;
  readonly metadata: ObjectMeta;
  readonly spec: LambdaNodeSpec;
  readonly status?: LambdaNodeStatus;
}
/**
 * Wishes of operators for the node.
 */
export interface LambdaNodeSpec {
  /**
   * Whether no more workers are to be assigned here. Those it has stay.
   */
  readonly unschedulable: boolean;
  /**
   * Whether ESB leaves this node. No more workers are assigned here, those it has are moved elsewhere or, where nothing else has room for them, taken away; then the agent removes everything that it made there and says so in the condition Retired.
   */
  readonly retired: boolean;
  readonly capacity?: LambdaNodeSpecCapacity;
}
/**
 * Capacity that may be promised to workers here, in place of that by the flags of the agent. Workers that are there stay when it is less than they take.
 */
export interface LambdaNodeSpecCapacity {
  /**
   * Memory in MiB, at most that of the machine. A worker takes its memory limit, and the size of its /tmp where that is memory.
   */
  readonly memoryMiB?: number;
  /**
   * Number of workers, at most the flag of the agent.
   */
  readonly workers?: number;
  /**
   * CPU in thousandths of a core, at most what Pods may have there. 70 % of that by default.
   */
  readonly milliCPU?: number;
}
/**
 * Report of the agent about its node.
 */
export interface LambdaNodeStatus {
  /**
   * The generation of the spec that this status is about; -1 before its agent has looked.
   */
  readonly observedGeneration?: number;
  /**
   * Where the agent's gRPC server listens, as host:port.
   */
  readonly endpoint?: string;
  /**
   * The agent's own certificate (PEM), and while it is about to be replaced its successor; gateways trust exactly these at the endpoint.
   */
  readonly certificate?: string;
  readonly versions?: LambdaNodeStatusVersions;
  readonly capacity?: LambdaNodeStatusCapacity;
  readonly allocated?: LambdaNodeStatusAllocated;
  readonly reserved?: LambdaNodeStatusReserved;
  readonly promised?: LambdaNodeStatusPromised;
  readonly ephemeralStorage?: LambdaNodeStatusEphemeralStorage;
  /**
   * References of images that are on the node, completed as Docker does.
   *
   * Items: One reference.
   */
  readonly images?: readonly string[];
  /**
   * Containers that could not be removed for two minutes. Their workers go on without them; what they take is part of what is allocated until they are gone, which is tried again every minute.
   */
  readonly setAside?: readonly LambdaNodeStatusSetAside[];
  /**
   * Uids of workers that are assigned to this node no more, since they were moved, taken away or deleted, and that may still have a container here. The deletion of such a worker waits for that.
   *
   * Items: One uid.
   */
  readonly leaving?: readonly string[];
  /**
   * Whether the Node of the same name is cordoned.
   */
  readonly unschedulable?: boolean;
  /**
   * Ready, ContainerdReady, NetworkReady and Retired, by the agent; Unreachable, Lost, Draining and Unheld, by the controller, each only while it is True. Ready is Unknown, by the controller, while nothing is heard of the agent.
   */
  readonly conditions?: readonly LambdaNodeStatusCondition[];
}
/**
 * Versions of the programs of the node.
 */
export interface LambdaNodeStatusVersions {
  /**
   * Version of the agent.
   */
  readonly agent?: string;
  /**
   * Version of containerd.
   */
  readonly containerd?: string;
  /**
   * Version of the kernel.
   */
  readonly kernel?: string;
  /**
   * Name of the system, such as Debian GNU/Linux 12.
   */
  readonly operatingSystem?: string;
  /**
   * The processor, as images name it, such as amd64.
   */
  readonly architecture?: string;
}
/**
 * Capacity that may be promised to workers.
 */
export interface LambdaNodeStatusCapacity {
  /**
   * Memory in MiB. A worker takes its memory limit, and the size of its /tmp where that is memory.
   */
  readonly memoryMiB: number;
  /**
   * Number of workers.
   */
  readonly workers: number;
  /**
   * CPU in thousandths of a core.
   */
  readonly milliCPU: number;
}
/**
 * Capacity that is promised to workers that exist there, running, paused or being removed.
 */
export interface LambdaNodeStatusAllocated {
  /**
   * Memory in MiB. A worker takes its memory limit, and the size of its /tmp where that is memory.
   */
  readonly memoryMiB: number;
  /**
   * Number of workers.
   */
  readonly workers: number;
}
/**
 * Amounts that the kubelet has allocated to the reservation of the node, for workers; they get no more memory, together. Written by the controller. Absent where nothing is reserved for workers, as without hold Pods; then they may have the whole capacity.
 */
export interface LambdaNodeStatusReserved {
  /**
   * Memory in MiB.
   */
  readonly memoryMiB: number;
  /**
   * CPU in thousandths of a core, by which the workers of the node together are weighed against its Pods.
   */
  readonly milliCPU: number;
}
/**
 * Memory that the agent lets workers have together now, the lesser of capacity and reserved.
 */
export interface LambdaNodeStatusPromised {
  /**
   * Memory in MiB.
   */
  readonly memoryMiB: number;
}
/**
 * Where the /tmp of workers is, and how much of it they may have together. Absent until the agent has tried the disk, and once it leaves the node.
 */
export interface LambdaNodeStatusEphemeralStorage {
  /**
   * LoopFile is a file of its own for each worker, on the disk of the agent's state folder. Tmpfs is memory, and counts as such.
   */
  readonly medium: 'LoopFile' | 'Tmpfs';
  /**
   * How much /tmp there may be, those that are there included. Absent for Tmpfs.
   */
  readonly capacityMiB?: number;
  /**
   * How much there is. Absent for Tmpfs.
   */
  readonly allocatedMiB?: number;
  /**
   * Why no disk is used.
   */
  readonly message?: string;
}
/**
 * One of them.
 */
export interface LambdaNodeStatusSetAside {
  /**
   * Name of the container in containerd.
   */
  readonly containerID: string;
  /**
   * Namespace of the worker that had it.
   */
  readonly namespace: string;
  /**
   * Name of that worker.
   */
  readonly name: string;
  /**
   * Memory in MiB that it takes.
   */
  readonly memoryMiB: number;
  /**
   * When it was set aside.
   */
  readonly since: string;
  /**
   * Why it could not be removed, the last time.
   */
  readonly message: string;
}
/**
 * One aspect of the state, in the usual form.
 */
export interface LambdaNodeStatusCondition {
  /**
   * Which aspect, in CamelCase.
   */
  readonly type: string;
  /**
   * Whether it holds.
   */
  readonly status: 'True' | 'False' | 'Unknown';
  /**
   * The generation of the spec that this is about.
   */
  readonly observedGeneration?: number;
  /**
   * When status last changed.
   */
  readonly lastTransitionTime: string;
  /**
   * Why, in one CamelCase word, for programs.
   */
  readonly reason: string;
  /**
   * Why, for people.
   */
  readonly message: string;
}
