import { readFileSync } from 'node:fs';
import { arch, release } from 'node:os';
import { conditionsOf, nodeStateConditions, progressOf } from '../../api/condition.ts';
import type { LambdaNode, LambdaNodeStatus, NodeAmounts } from '../../api/lambda-node.ts';
import type { Node } from '../../kube/api/resource-types.ts';
import type { SetAside } from '../worker/set-aside.ts';
import type { NodeVerdicts } from './node-health.ts';

/** Limits of the schema. */
const maxImages = 512;
const maxImageLength = 1_024;
const maxVersionLength = 128;
const maxSetAside = 64;
const maxSetAsideMessage = 1_024;
const maxLeaving = 1_024;

export interface NodeFacts {
  readonly endpoint: string;
  readonly certificate: string;
  readonly versions: NonNullable<LambdaNodeStatus['versions']>;
  readonly capacity: NodeAmounts;
  readonly allocated: NonNullable<LambdaNodeStatus['allocated']>;
  /** MiB that workers may have together now. */
  readonly promisedMiB: number;
  /** Where `/tmp` of workers is; undefined while that is not known. */
  readonly ephemeralStorage?: LambdaNodeStatus['ephemeralStorage'];
  readonly images: readonly string[];
  /** Containers that could not be removed. */
  readonly setAside: readonly SetAside[];
  /** Uids of workers that left this node and may still have a container here. */
  readonly leaving: readonly string[];
  /** Whether the Node of the same name is cordoned; undefined where there is none. */
  readonly unschedulable: boolean | undefined;
  readonly conditions: NodeVerdicts;
}

/**
 * The status of a LambdaNode.
 *
 * The object is as it is now: transition times are taken from its status.
 *
 * @param now wall-clock milliseconds
 */
export function nodeStatus(facts: NodeFacts, { metadata, status: present }: LambdaNode, now: number): LambdaNodeStatus {
  const { generation } = metadata;
  const verdicts = { ...facts.conditions, ...progressOf(facts.conditions.Ready) };
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    endpoint: facts.endpoint,
    certificate: facts.certificate,
    versions: Object.fromEntries(
      Object.entries(facts.versions).map(([name, version]) => [name, String(version).slice(0, maxVersionLength)]),
    ),
    capacity: facts.capacity,
    allocated: facts.allocated,
    promised: { memoryMiB: facts.promisedMiB },
    ...(facts.ephemeralStorage === undefined ? {} : { ephemeralStorage: facts.ephemeralStorage }),
    images: facts.images
      .filter((image) => image.length <= maxImageLength)
      .toSorted()
      .slice(0, maxImages),
    ...(facts.setAside.length === 0
      ? {}
      : {
          setAside: facts.setAside.slice(0, maxSetAside).map(({ containerId, message, ...rest }) => ({
            containerID: containerId,
            ...rest,
            message: message.slice(0, maxSetAsideMessage),
          })),
        }),
    leaving: facts.leaving.toSorted().slice(0, maxLeaving),
    ...(facts.unschedulable === undefined ? {} : { unschedulable: facts.unschedulable }),
    conditions: conditionsOf(verdicts, { present: present?.conditions, generation, now }),
  };
}

/** The part of a status that the agent writes: what the controller has found out about the node is not among it. */
export function reportOf(status: LambdaNodeStatus | undefined): LambdaNodeStatus | undefined {
  if (status === undefined) {
    return undefined;
  }
  const { reserved: _, conditions, ...report } = status;
  return conditions === undefined
    ? report
    : { ...report, conditions: conditions.filter(({ type }) => !nodeStateConditions.includes(type)) };
}

/** Versions that do not change while the agent runs. */
export function machineVersions(agentVersion: string): NonNullable<LambdaNodeStatus['versions']> {
  const architectures: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' };
  return {
    agent: agentVersion,
    kernel: release(),
    operatingSystem: operatingSystem(),
    architecture: architectures[arch()] ?? arch(),
  };
}

/** Versions that the kubelet knows better: in a Pod the agent sees the system of its own image. */
export function nodeVersions(node: Node | undefined): { readonly operatingSystem?: string } {
  const osImage = node?.status?.nodeInfo?.osImage ?? '';
  return osImage === '' ? {} : { operatingSystem: osImage };
}

function operatingSystem(): string {
  try {
    const match = /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(readFileSync('/etc/os-release', 'utf8'));
    return match?.[1] ?? 'Linux';
  } catch {
    return 'Linux';
  }
}
