import type { LambdaNode } from '../../src/api/lambda-node.ts';
import { reserveView } from '../../src/controller/reservation/hold-view.ts';
import type { Pod } from '../../src/kube/api/resource-types.ts';
import { type EsbCluster, systemNamespace } from './esb-cluster.ts';

/** The reservation of a node, and its use. */
export interface Held {
  readonly name: string;
  readonly capacityMiB: number;
  readonly takenMiB: number;
  readonly promisedMiB: number;
  readonly requestedMiB: number;
  readonly allocatedMiB: number;
  /** Pods of the reservation: several where the kubelet resizes none. */
  readonly pods: number;
}

export function text({ name, takenMiB, promisedMiB, requestedMiB, allocatedMiB, pods }: Held): string {
  return `${name}: ${takenMiB} MiB taken, ${promisedMiB} promised, ${allocatedMiB} of ${requestedMiB} allocated to ${pods} Pods`;
}

/** Objects that kubectl lists. */
export async function items<T>({ lab }: EsbCluster, ...what: readonly string[]): Promise<readonly T[]> {
  return (JSON.parse(await lab.kubectl(['get', ...what, '-o', 'json'])) as { readonly items: readonly T[] }).items;
}

/** The LambdaNodes first: what they take was allocated before. */
export async function held(esb: EsbCluster): Promise<readonly Held[]> {
  const nodes = await items<LambdaNode>(esb, 'lambdanodes');
  const label = ['-n', systemNamespace, '-l', 'esb.dev/hold-role=reserve'];
  const pods = await items<Pod>(esb, 'pods', ...label);
  return nodes.map(({ metadata: { name }, status }) => {
    const views = pods.filter(({ spec }) => spec?.nodeName === name).flatMap((pod) => reserveView(pod) ?? []);
    return {
      name,
      capacityMiB: status?.capacity?.memoryMiB ?? 0,
      takenMiB: status?.allocated?.memoryMiB ?? 0,
      promisedMiB: status?.promised?.memoryMiB ?? 0,
      requestedMiB: views.reduce((sum, { memoryMiB }) => sum + memoryMiB, 0),
      allocatedMiB: views.reduce((sum, { allocatedMiB }) => sum + allocatedMiB, 0),
      pods: views.length,
    };
  });
}

/** Waits until a condition of an object has a status. */
export async function conditionOf({ lab }: EsbCluster, object: string, type: string, status: string): Promise<void> {
  await lab.kubectl(['wait', object, `--for=condition=${type}=${status}`, '--timeout=120s']);
}

/** The Pods that ask for nodes. */
export function demands(esb: EsbCluster): Promise<readonly Pod[]> {
  return items<Pod>(esb, 'pods', '-n', systemNamespace, '-l', 'esb.dev/hold-role=demand');
}
