import type { LambdaNode } from '../../api/lambda-node.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode, messageOf, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { repeat } from '../../common/repeat.ts';
import { type Node, type Pod, pods as podType, serviceAccounts } from '../../kube/api/resource-types.ts';
import type { Informer, KubeClient, ObjectCache } from '../../kube/api/types.ts';
import type { NodeSnapshot } from '../scheduling/node-snapshot.ts';
import {
  AGENT_WITHIN_MS,
  type DemandAction,
  type DemandPiece,
  type DemandView,
  decideDemand,
  demandOf,
  type Homeless,
} from './demand.ts';
import { demandPod, demandView, HOST_LABEL } from './demand-pod.ts';
import { type HoldSettings, RESERVE_ACCOUNT } from './hold-pod.ts';

export interface DemandKeeperOptions {
  readonly client: KubeClient;
  readonly systemNamespace: string;
  readonly settings: HoldSettings;
  /** Hold Pods of the system namespace, demand Pods among them. */
  readonly pods: Pick<Informer<Pod>, 'cache'>;
  readonly lambdaNodes: Pick<ObjectCache<LambdaNode>, 'get' | 'list'>;
  readonly nodes: Pick<ObjectCache<Node>, 'get' | 'list'>;
  readonly snapshot: Pick<NodeSnapshot, 'capacity' | 'situationOf'>;
  /** Workers that no node has room for. */
  readonly homeless: () => readonly Homeless[];
  /** Told a node that the scheduler has found room on. */
  readonly onOffer: (node: string) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

const LOOK_EVERY_MS = 10_000;
/** The part of a node's capacity that a piece has: a new node has Pods of its own. */
const PIECE_SHARE = 0.5;
/** MiB of a piece where no node has reported its capacity. */
const DEFAULT_PIECE_MIB = 2_048;
/** Milliseconds until demand is told again of workers for which a node was found that did not help; doubled. */
const FIRST_PAUSE_MS = 30_000;
const MAX_PAUSE_MS = 600_000;

/** The last offer of a node to workers of one group. */
interface Offer {
  readonly until: number;
  readonly pauseMs: number;
}

/** Keeps demand Pods for workers that no node has room for, as {@link decideDemand} says. */
export class DemandKeeper {
  readonly #options: DemandKeeperOptions;
  readonly #offers = new Map<string, Offer>();
  /** By Pod and state, monotonic milliseconds since when. */
  readonly #since = new Map<string, number>();

  constructor(options: DemandKeeperOptions) {
    this.#options = options;
  }

  /** Looks until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    const onError = (error: unknown): void => logger.warn({ error: messageOf(error) }, 'demand cannot be told');
    await repeat({ clock, everyMs: LOOK_EVERY_MS, onError }, signal, () => this.look({ signal }));
  }

  /** Errors are those of the API server. */
  async look(options: CallOptions = {}): Promise<void> {
    const { homeless, lambdaNodes, settings, snapshot } = this.#options;
    const capacities = lambdaNodes.list().map(({ metadata }) => snapshot.capacity(metadata.name));
    const largest = Math.max(0, ...capacities.map(({ memoryMiB }) => memoryMiB));
    // A node that does not say how much CPU it has counts none.
    const largestMilliCPU = Math.max(0, ...capacities.map(({ milliCPU = Number.POSITIVE_INFINITY }) => milliCPU));
    // Without a class for them the Pods of an earlier controller go.
    const waiting = settings.demandClassName === undefined ? [] : homeless();
    const pieces = demandOf(waiting, {
      memoryMiB: largest === 0 ? DEFAULT_PIECE_MIB : Math.floor(largest * PIECE_SHARE),
      milliCPU: largestMilliCPU === 0 ? Number.POSITIVE_INFINITY : Math.floor(largestMilliCPU * PIECE_SHARE),
    });
    const now = this.#options.clock.monotonic();
    for (const group of this.#offers.keys()) {
      if (!pieces.some((piece) => piece.group === group)) {
        this.#offers.delete(group);
      }
    }
    const actions = decideDemand({
      pieces,
      pods: this.#views(now),
      progressOf: (node) => (snapshot.situationOf(node).ready ? 'ready' : 'coming'),
      mayAsk: (group) => now >= (this.#offers.get(group)?.until ?? now),
    });
    for (const action of actions) {
      await this.#act(action, now, options);
    }
  }

  #views(now: number): readonly DemandView[] {
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
        await this.#remove(action.name, options);
        return;
      case 'offer': {
        this.#pause(action.group, now);
        await this.#remove(action.name, options);
        logger.info({ node: action.nodeName, pod: action.name }, 'the scheduler has found room for workers');
        onOffer(action.nodeName);
        return;
      }
      default:
        return unreachable(action);
    }
  }

  /** Asks for nodes for a group of workers again after a while, and then ever more seldom. */
  #pause(group: string, now: number): void {
    const pauseMs = Math.min(MAX_PAUSE_MS, 2 * (this.#offers.get(group)?.pauseMs ?? FIRST_PAUSE_MS / 2));
    this.#offers.set(group, { until: now + pauseMs, pauseMs });
  }

  async #ask(piece: DemandPiece, now: number, options: CallOptions): Promise<void> {
    const { client, systemNamespace: namespace, settings, logger } = this.#options;
    const owner = await client.get(serviceAccounts, { namespace, name: RESERVE_ACCOUNT }, options);
    const pod = demandPod(settings, piece, namespace, this.#fullHosts(), owner);
    try {
      await client.create(podType, pod, options);
      const { memoryMiB, milliCPU } = piece;
      logger.info({ pod: pod.metadata.name, memoryMiB, milliCPU }, 'demand for a node told');
    } catch (error) {
      if (hasCode(error, 'Invalid')) {
        // Workers may have labels and tolerations that Pods may not. Others are asked for all the same.
        this.#pause(piece.group, now);
        logger.warn({ error: messageOf(error), pod: pod.metadata.name }, 'demand that is no Pod cannot be told');
      } else if (!hasCode(error, 'AlreadyExists')) {
        // Otherwise the cache does not show it yet, or it is still leaving.
        throw error;
      }
    }
  }

  async #remove(name: string, options: CallOptions): Promise<void> {
    const { client, systemNamespace: namespace } = this.#options;
    await client.delete(podType, { namespace, name }, options);
  }

  /**
   * Host names of nodes that were refused for other reasons than that Pods have the memory, and of those that no agent
   * has come to.
   */
  #fullHosts(): readonly string[] {
    const { clock, lambdaNodes, nodes, snapshot } = this.#options;
    const full = lambdaNodes
      .list()
      .map(({ metadata }) => metadata.name)
      .filter((name) => snapshot.situationOf(name).closed !== 'unheld');
    // Agents may be kept off a part of the nodes.
    const bare = nodes
      .list()
      .filter(({ metadata: { name } }) => lambdaNodes.get({ name }) === undefined)
      .filter(({ metadata }) => clock.now() - Date.parse(metadata.creationTimestamp ?? '') >= AGENT_WITHIN_MS)
      .map(({ metadata }) => metadata.name);
    return [...full, ...bare].map((name) => nodes.get({ name })?.metadata.labels?.[HOST_LABEL] ?? name);
  }
}
