import type { LambdaNode } from '../../api/lambda-node.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode, messageOf, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { repeat } from '../../common/repeat.ts';
import type { Node, Pod } from '../../kube/api/resource-types.ts';
import type { Informer, KubeClient, ObjectCache } from '../../kube/api/types.ts';
import type { Homeless } from '../scheduling/homeless.ts';
import type { NodeSnapshot } from '../scheduling/node-snapshot.ts';
import { ARCHITECTURE_LABEL, type NodeView } from '../scheduling/node-view.ts';
import { matchesLabels } from '../scheduling/place.ts';
import { taintVerdict } from '../scheduling/taint.ts';
import {
  AGENT_WITHIN_MS,
  type AgedDemand,
  type DemandAction,
  decideDemand,
  demandOf,
  type PieceSize,
  type Wish,
} from './demand.ts';
import { type DemandPiece, demandPod, HOST_LABEL, type HoldSettings } from './hold-pod.ts';
import { demandView } from './hold-view.ts';
import { HoldWriter } from './hold-writer.ts';

export interface DemandKeeperOptions {
  readonly client: KubeClient;
  readonly systemNamespace: string;
  readonly settings: HoldSettings;
  /** Hold Pods of the system namespace, demand Pods among them. */
  readonly pods: Pick<Informer<Pod>, 'cache'>;
  readonly lambdaNodes: Pick<ObjectCache<LambdaNode>, 'get' | 'list'>;
  readonly nodes: Pick<ObjectCache<Node>, 'get' | 'list'>;
  readonly snapshot: Pick<NodeSnapshot, 'viewOf'>;
  /** Workers that no node of now can take. */
  readonly homeless: () => readonly Homeless[];
  /** Told a node that the scheduler has found room on. */
  readonly onOffer: (node: string) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

const LOOK_EVERY_MS = 10_000;
/** The part of a node's capacity that a piece has: a new node has Pods of its own. */
const PIECE_SHARE = 0.5;
/** Milliseconds until demand is told again of workers for which a node was found that did not help; doubled. */
const FIRST_PAUSE_MS = 30_000;
const MAX_PAUSE_MS = 600_000;
/** Milliseconds until demand is told again of workers for which a node was found that no agent came to. */
const NO_AGENT_PAUSE_MS = 3_600_000;

/** The last offer of a node to workers of one group. */
interface Offer {
  readonly until: number;
  readonly pauseMs: number;
}

/** Keeps demand Pods for workers that no node has room for, as {@link decideDemand} says. */
export class DemandKeeper {
  readonly #options: DemandKeeperOptions;
  readonly #writer: HoldWriter;
  readonly #offers = new Map<string, Offer>();
  /** By Pod and state, monotonic milliseconds since when. */
  readonly #since = new Map<string, number>();

  constructor(options: DemandKeeperOptions) {
    this.#options = options;
    this.#writer = new HoldWriter(options);
  }

  /** Looks until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    const onError = (error: unknown): void => logger.warn({ error: messageOf(error) }, 'demand cannot be told');
    await repeat({ clock, everyMs: LOOK_EVERY_MS, onError }, signal, () => this.look({ signal }));
  }

  /** Errors are those of the API server. */
  async look(options: CallOptions = {}): Promise<void> {
    const { homeless, settings, snapshot } = this.#options;
    // Without a class for them the Pods of an earlier controller go.
    const waiting = settings.demandClassName === undefined ? [] : homeless();
    const pieces = demandOf(waiting, (wish) => this.#mostOf(wish));
    const now = this.#options.clock.monotonic();
    for (const group of this.#offers.keys()) {
      if (!pieces.some((piece) => piece.group === group)) {
        this.#offers.delete(group);
      }
    }
    const actions = decideDemand({
      pieces,
      pods: this.#views(now),
      progressOf: (node) => (snapshot.viewOf(node).ready ? 'ready' : 'coming'),
      mayAsk: (group) => now >= (this.#offers.get(group)?.until ?? now),
    });
    for (const action of actions) {
      await this.#act(action, now, options);
    }
  }

  /**
   * The part of the smallest node that is for workers with that wish: a piece that fits there fits all such nodes, and
   * autoscalers pack small Pods by themselves.
   */
  #mostOf(wish: Wish): PieceSize | undefined {
    const { lambdaNodes, snapshot } = this.#options;
    const views = lambdaNodes
      .list()
      .map(({ metadata }) => snapshot.viewOf(metadata.name))
      .filter((view) => view.capacity.memoryMiB > 0 && isFor(view, wish));
    if (views.length === 0) {
      return undefined;
    }
    // A node whose /tmp is memory counts no disk.
    const part = (amounts: readonly (number | undefined)[]): number =>
      Math.floor(Math.min(...amounts.map((amount = Number.POSITIVE_INFINITY) => amount)) * PIECE_SHARE);
    return {
      memoryMiB: part(views.map(({ capacity }) => capacity.memoryMiB)),
      milliCPU: part(views.map(({ capacity }) => capacity.milliCPU)),
      diskMiB: part(views.map(({ disk }) => disk?.capacityMiB)),
    };
  }

  #views(now: number): readonly AgedDemand[] {
    const found = this.#options.pods.cache.list().flatMap((pod) => {
      const view = demandView(pod);
      return view === undefined ? [] : [{ view, key: `${pod.metadata.uid} ${view.state.kind} ${view.nodeName}` }];
    });
    for (const key of this.#since.keys()) {
      if (!found.some((one) => one.key === key)) {
        this.#since.delete(key);
      }
    }
    return found.map(({ view, key }) => {
      const since = this.#since.get(key) ?? now;
      this.#since.set(key, since);
      return { ...view, sinceMs: now - since };
    });
  }

  async #act(action: DemandAction, now: number, options: CallOptions): Promise<void> {
    const { logger, onOffer } = this.#options;
    switch (action.kind) {
      case 'create':
        await this.#ask(action.piece, now, options);
        return;
      case 'remove':
        await this.#remove(action.name, 'its workers have room, or it has ended', options);
        return;
      case 'offer': {
        const { group, name, nodeName } = action;
        this.#pause(group, now);
        await this.#remove(name, `the scheduler has found room on ${nodeName}`, options);
        onOffer(nodeName);
        return;
      }
      case 'giveUp': {
        const { group, name, nodeName: node } = action;
        this.#pause(group, now, node === undefined ? MAX_PAUSE_MS : NO_AGENT_PAUSE_MS);
        const because = node === undefined ? 'no node was found for its workers' : 'no agent has come to its node';
        await this.#remove(name, because, options);
        logger.warn({ node, pod: name, because }, 'demand for a node given up');
        return;
      }
      default:
        return unreachable(action);
    }
  }

  /**
   * Asks for nodes for a group of workers again after a while: by itself ever more seldom, up to {@link MAX_PAUSE_MS}.
   */
  #pause(
    group: string,
    now: number,
    pauseMs = Math.min(MAX_PAUSE_MS, 2 * (this.#offers.get(group)?.pauseMs ?? FIRST_PAUSE_MS / 2)),
  ): void {
    this.#offers.set(group, { until: now + pauseMs, pauseMs });
  }

  async #ask(piece: DemandPiece, now: number, options: CallOptions): Promise<void> {
    const { logger, settings, systemNamespace: namespace } = this.#options;
    const pod = demandPod(settings, piece, namespace, this.#fullHosts(piece));
    try {
      await this.#writer.make(pod, options);
    } catch (error) {
      if (hasCode(error, 'Invalid') || hasCode(error, 'Forbidden')) {
        // Workers may have labels and tolerations that Pods may not, here or anywhere. Others are asked for all the same.
        this.#pause(piece.group, now);
        logger.warn({ error: messageOf(error), pod: pod.metadata.name }, 'demand that is no Pod cannot be told');
      } else if (!hasCode(error, 'AlreadyExists')) {
        // Otherwise the cache does not show it yet, or it is still leaving.
        throw error;
      }
    }
  }

  async #remove(name: string, because: string, options: CallOptions): Promise<void> {
    const { pods, systemNamespace: namespace } = this.#options;
    const pod = pods.cache.get({ namespace, name });
    if (pod !== undefined) {
      await this.#writer.change(pod, { kind: 'remove', because }, options);
    }
  }

  /**
   * Host names of nodes that are for workers with that wish and were refused for other reasons than that Pods have the
   * memory, and of those that no agent has come to: agents may be kept off a part of the nodes.
   */
  #fullHosts(wish: Wish): readonly string[] {
    const { clock, lambdaNodes, nodes, snapshot } = this.#options;
    return nodes
      .list()
      .filter(({ metadata: { creationTimestamp, labels = {}, name }, spec }) => {
        if (!isFor({ labels, taints: spec?.taints ?? [] }, wish)) {
          return false;
        }
        return lambdaNodes.get({ name }) === undefined
          ? clock.now() - Date.parse(creationTimestamp ?? '') >= AGENT_WITHIN_MS
          : snapshot.viewOf(name).closed !== 'unheld';
      })
      .map(({ metadata: { labels, name } }) => labels?.[HOST_LABEL] ?? name);
  }
}

/** Whether workers with that wish may be on the node, by what does not change while workers come and go. */
function isFor({ labels, taints }: Pick<NodeView, 'labels' | 'taints'>, wish: Wish): boolean {
  const isFit = !wish.unfitArchitectures.includes(labels[ARCHITECTURE_LABEL] ?? '');
  return isFit && matchesLabels(labels, wish.nodeSelector) && taintVerdict(taints, wish.tolerations) !== 'barred';
}
