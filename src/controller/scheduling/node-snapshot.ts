import { isCordoned, isRetired, type LambdaNode, lambdaNodes, type NodeAmounts } from '../../api/lambda-node.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { unreachable } from '../../common/errors.ts';
import { nodes as coreNodes, type Node } from '../../kube/api/resource-types.ts';
import type { KubeClient, ObjectCache } from '../../kube/api/types.ts';
import { isSilent, type NodeLife, type NodeLiveness, type ReadNode } from '../nodes/liveness.ts';
import type { HoldClosure } from '../nodes/node-state.ts';
import { type AssignmentCache, functionKeyOf, isRefusedByFullNode } from './assignment-cache.ts';
import { completeImageName } from './image-name.ts';
import {
  departureTaintOf,
  goneBecause,
  isNodeCordoned,
  isNodeDeleted,
  type NodeFacts,
  type NodeStanding,
  type NodeView,
  nodeView,
  resizesNoPod,
} from './node-view.ts';
import type { Candidate } from './place.ts';
import { evictionBy, type Taint, taintText, taintVerdict } from './taint.ts';

/** Labels of a Node that say where it is. */
const REGION_LABEL = 'topology.kubernetes.io/region';
const ZONE_LABEL = 'topology.kubernetes.io/zone';

/** Nodes that are closed to new workers because of their guard or their reservation. */
export interface NodeClosures {
  closureOf(node: string): HoldClosure | undefined;
  /** Whether the node is about to have more memory for its workers than now. */
  isGrowing(node: string): boolean;
}

export interface NodeSnapshotOptions {
  /** Reads past the cache. */
  readonly client: KubeClient;
  readonly lambdaNodes: ObjectCache<LambdaNode>;
  readonly nodes: ObjectCache<Node>;
  readonly liveness: NodeLiveness;
  readonly assignments: AssignmentCache;
  readonly closures: NodeClosures;
  readonly clock: Clock;
}

/** The node of a worker, as far as the worker is concerned. */
export interface WorkerStanding extends NodeStanding {
  /** Milliseconds after which a taint evicts the worker; absent when none will. */
  readonly changesAfterMs?: number | undefined;
}

interface Kept extends NodeFacts {
  readonly view: NodeView;
}

/** The nodes, as decisions about workers need them. */
export class NodeSnapshot {
  readonly #options: NodeSnapshotOptions;
  /** Views by node: every decision reads all nodes, which hardly ever change in between. */
  readonly #views = new Map<string, Kept>();
  /** Nodes whose taints were noted. */
  readonly #taintsSeen = new Set<string>();
  /** By node, the monotonic milliseconds at which each taint was first seen. */
  readonly #taintedAt = new Map<string, ReadonlyMap<string, number>>();

  constructor(options: NodeSnapshotOptions) {
    this.#options = options;
  }

  /**
   * Notes the taints of a Node, undefined for a deleted one. Tolerated times count from then, and for a Node that is
   * seen for the first time from when its taints say that they were added: the leader before has counted from there.
   */
  noteTaints(name: string, node: Node | undefined): void {
    const isFirst = !this.#taintsSeen.has(name);
    if (node === undefined) {
      this.#taintsSeen.delete(name);
    } else {
      this.#taintsSeen.add(name);
    }
    const taints = node?.spec?.taints ?? [];
    if (taints.length === 0) {
      this.#taintedAt.delete(name);
      return;
    }
    const before = this.#taintedAt.get(name);
    const { clock } = this.#options;
    const now = clock.monotonic();
    const addedAt = ({ timeAdded }: Taint): number => {
      const ageMs = timeAdded === undefined || !isFirst ? 0 : clock.now() - Date.parse(timeAdded);
      return now - Math.max(0, Number.isNaN(ageMs) ? 0 : ageMs);
    };
    this.#taintedAt.set(
      name,
      new Map(taints.map((taint) => [taintText(taint), before?.get(taintText(taint)) ?? addedAt(taint)])),
    );
  }

  forget(name: string): void {
    this.#views.delete(name);
  }

  standing(worker: LambdaWorker, name: string): WorkerStanding {
    const { architecture, closed, goneBecause, taints } = this.#view(name);
    const isGrowing = isRefusedByFullNode(worker) && this.#options.closures.isGrowing(name);
    const life = lifeStanding(this.#options.liveness.life(name));
    const standing = { ...life, goneBecause, architecture, ...(isGrowing ? { growing: true } : {}) };
    if (closed === 'retired') {
      return { ...standing, leave: { kind: 'retired' } };
    }
    const eviction = evictionBy(taints, worker.spec.tolerations ?? [], (taint) => this.#sinceMs(name, taint));
    if (eviction !== undefined && eviction.inMs <= 0) {
      return { ...standing, leave: { kind: 'tainted', taint: taintText(eviction.taint) } };
    }
    return {
      ...standing,
      leave: closed === 'draining' ? { kind: 'draining' } : undefined,
      changesAfterMs: eviction?.inMs,
    };
  }

  /** Where the node stands among others: its zone, by the labels that count, and whether its workers leave it anyway. */
  situation(name: string): Pick<ReadNode, 'zone' | 'isLeft'> {
    const lambdaNode = this.#options.lambdaNodes.get({ name });
    const { labels } = this.#view(name);
    const isLeft = (lambdaNode !== undefined && isRetired(lambdaNode)) || this.seesNodeDeleted(name);
    return { zone: `${labels[REGION_LABEL] ?? ''} ${labels[ZONE_LABEL] ?? ''}`, isLeft };
  }

  /** The facts that the Pods of a node depend on. */
  presence(name: string): NodePresence {
    const lambdaNode = this.#options.lambdaNodes.get({ name });
    const node = this.#options.nodes.get({ name });
    const { liveness, goneBecause: because } = this.#view(name);
    return {
      exists: lambdaNode !== undefined && node !== undefined && because === undefined,
      isOutside: node === undefined && lambdaNode !== undefined && lambdaNode.status?.unschedulable === undefined,
      lost: isSilent(liveness),
      retired: lambdaNode !== undefined && isRetired(lambdaNode),
      cordoned: (lambdaNode !== undefined && isCordoned(lambdaNode)) || isNodeCordoned(node),
      departure: departureTaintOf(node),
      taints: node?.spec?.taints ?? [],
      ...(resizesNoPod(node) ? { resizesNoPod: true } : {}),
    };
  }

  /** The properties of a node that are the same for every worker. */
  viewOf(name: string): NodeView {
    return this.#view(name);
  }

  /** The most that the node may promise. */
  capacity(name: string): NodeAmounts {
    return this.#view(name).capacity;
  }

  /** Whether `/tmp` of its workers is on disk, and counts as no memory. */
  isTmpOnDisk(name: string): boolean {
    return this.#view(name).disk !== undefined;
  }

  /** Whether that is so on every node there is, as then on the next one. */
  isTmpAlwaysOnDisk(): boolean {
    const all = this.#options.lambdaNodes.list();
    return all.length > 0 && all.every(({ metadata }) => this.isTmpOnDisk(metadata.name));
  }

  /** Whether the node is gone for good, by a read of the API server. */
  async isGone(name: string, options?: CallOptions): Promise<boolean> {
    const [lambdaNode, node] = await this.#read(name, options);
    return goneBecause(lambdaNode, node, this.#isFresh(name)) !== undefined;
  }

  /** Whether a LambdaNode is left of a deleted Node, as far as the caches know. */
  seesNodeDeleted(name: string): boolean {
    const lambdaNode = this.#options.lambdaNodes.get({ name });
    const node = this.#options.nodes.get({ name });
    return lambdaNode !== undefined && isNodeDeleted(lambdaNode, node, this.#isFresh(name));
  }

  /** Whether a node is deleted, by a read of the API server. */
  async isNodeDeleted(name: string, options?: CallOptions): Promise<boolean> {
    const [lambdaNode, node] = await this.#read(name, options);
    return lambdaNode !== undefined && isNodeDeleted(lambdaNode, node, this.#isFresh(name));
  }

  /**
   * All nodes, for the placement of one worker.
   *
   * @param trustNodes also count the promises that nodes themselves report, where these are more
   */
  candidates(worker: LambdaWorker, trustNodes: boolean): readonly Candidate[] {
    const functionKey = functionKeyOf(worker);
    const image = completeImageName(worker.spec.image);
    const tolerations = worker.spec.tolerations ?? [];
    return this.#options.lambdaNodes.list().map(({ metadata: { name } }) => {
      const view = this.#view(name);
      const { disk, said } = view;
      const load = this.#options.assignments.load(name, disk !== undefined);
      const { used } = load;
      return {
        name,
        labels: view.labels,
        ready: view.ready,
        fresh: view.liveness === 'fresh',
        closed: view.closed,
        taints: taintVerdict(view.taints, tolerations),
        capacity: view.capacity,
        used: trustNodes
          ? {
              ...used,
              memoryMiB: Math.max(used.memoryMiB, said.memoryMiB),
              workers: Math.max(used.workers, said.workers),
            }
          : used,
        ...(disk === undefined
          ? {}
          : {
              disk: {
                capacityMiB: disk.capacityMiB,
                usedMiB: trustNodes ? Math.max(load.usedDiskMiB, disk.saidMiB) : load.usedDiskMiB,
              },
            }),
        assigned: load.assigned,
        assignedMiB: load.assignedMiB,
        sameFunction: load.sameFunction(functionKey),
        hasImage: view.images.has(image),
        architecture: view.architecture,
      };
    });
  }

  #read(name: string, options?: CallOptions): Promise<[LambdaNode | undefined, Node | undefined]> {
    const { client } = this.#options;
    return Promise.all([client.get(lambdaNodes, { name }, options), client.get(coreNodes, { name }, options)]);
  }

  #isFresh(name: string): boolean {
    return this.#options.liveness.of(name) === 'fresh';
  }

  #view(name: string): NodeView {
    const lambdaNode = this.#options.lambdaNodes.get({ name });
    const node = this.#options.nodes.get({ name });
    const liveness = this.#options.liveness.of(name);
    const closure = this.#options.closures.closureOf(name);
    const kept = this.#views.get(name);
    if (
      kept !== undefined &&
      kept.lambdaNode === lambdaNode &&
      kept.node === node &&
      kept.liveness === liveness &&
      kept.closure === closure
    ) {
      return kept.view;
    }
    const facts = { lambdaNode, node, liveness, closure };
    const view = nodeView(name, facts);
    this.#views.set(name, { ...facts, view });
    return view;
  }

  #sinceMs(name: string, taint: Taint): number {
    const now = this.#options.clock.monotonic();
    return now - (this.#taintedAt.get(name)?.get(taintText(taint)) ?? now);
  }
}

function lifeStanding(life: NodeLife): Pick<NodeStanding, 'liveness' | 'stays'> {
  switch (life.kind) {
    case 'fresh':
    case 'quiet':
      return { liveness: life.kind };
    case 'unreachable':
      return { liveness: life.kind, stays: life.because };
    case 'lost':
      return { liveness: life.isConfirmed ? 'lost' : 'unreachable' };
    default:
      return unreachable(life);
  }
}

/** The facts about a node that our Pods there depend on. */
export interface NodePresence {
  /** Whether the node has a LambdaNode and a Node, and is not gone for good. */
  readonly exists: boolean;
  /** Whether the node is none of Kubernetes: there is no Node, and its agent knows of none. */
  readonly isOutside: boolean;
  /** Whether the node is silent; the last report of its agent may be out of date. */
  readonly lost: boolean;
  readonly retired: boolean;
  /** Whether the node is closed to new workers. */
  readonly cordoned: boolean;
  /** The taint by which a program announces that the node leaves the cluster. */
  readonly departure: string | undefined;
  /** All taints of the Node. */
  readonly taints: readonly Taint[];
  /** Whether its kubelet is too old to resize Pods. */
  readonly resizesNoPod?: true;
}
