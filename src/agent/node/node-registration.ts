import { isReadinessTaken } from '../../api/condition.ts';
import { type LambdaNode, type LambdaNodeStatus, lambdaNodes } from '../../api/lambda-node.ts';
import { fieldManagers } from '../../api/name.ts';
import type { Clock } from '../../common/clock.ts';
import { sleep, sleepUnlessHurried } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import type { Node } from '../../kube/api/resource-types.ts';
import type { Informer, KubeClient } from '../../kube/api/types.ts';
import { canonicalJson } from '../model/canonical-json.ts';
import type { NodeHealth } from './node-health.ts';
import { type NodeFacts, nodeStatus, reportOf } from './node-status.ts';

/** Milliseconds between two writes, but for changes of conditions, certificate and cordon. */
const writeEveryMs = 10_000;
/** Milliseconds within which urgent writes are gathered. */
const gatherMs = 250;
/** Milliseconds after which the object is read again, in case that it was removed or changed. */
const rereadMs = 60_000;
/** Milliseconds for which the first registration waits for the Node and its labels and cordon. */
const nodeWaitMs = 10_000;
const retryMs = 2_000;
const deadlineMs = 10_000;
const identity = { apiVersion: `${lambdaNodes.group}/${lambdaNodes.version}`, kind: lambdaNodes.kind };
const apply = { kind: 'apply', fieldManager: fieldManagers.agent } as const;

interface NodeRegistrationOptions {
  readonly client: Pick<KubeClient, 'get' | 'patch'>;
  readonly nodeName: string;
  readonly health: NodeHealth;
  /** The Node of the same name, where there is one. Unknown before the first list. */
  readonly nodes: Pick<Informer<Node>, 'hasSynced' | 'synced'> & {
    readonly cache: Pick<Informer<Node>['cache'], 'get'>;
  };
  /**
   * The status without the conditions, the labels and the cordon.
   *
   * @param told what was reported before
   */
  readonly facts: (told: LambdaNodeStatus) => Promise<Omit<NodeFacts, 'conditions' | 'unschedulable'>>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Registers the node and keeps its LambdaNode. Changes of conditions are written at once, others at most every ten
 * seconds; without a change nothing is written. Labels and cordon are those of the Node of the same name; until the
 * Node has been listed, the LambdaNode keeps its own.
 */
export class NodeRegistration {
  readonly #options: NodeRegistrationOptions;
  #present: LambdaNode | undefined;
  #labels: string | undefined;
  #readAt = Number.NEGATIVE_INFINITY;
  #hurry = new AbortController();

  constructor(options: NodeRegistrationOptions) {
    this.#options = options;
  }

  /** Writes soon: the certificate or the Node has changed. A change of conditions does the same. */
  hurry(): void {
    this.#hurry.abort();
  }

  /**
   * Writes soon where the spec was changed, or the controller has told that this agent is not heard. Call it at every
   * change of the object.
   */
  noteObject(node: LambdaNode): void {
    const isChanged = this.#present !== undefined && this.#present.metadata.generation !== node.metadata.generation;
    if (isChanged || isReadinessTaken(node.status?.conditions)) {
      this.#readAt = Number.NEGATIVE_INFINITY;
      this.hurry();
    }
  }

  /** Keeps the LambdaNode until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { health, clock, logger } = this.#options;
    const unsubscribe = health.subscribe(() => this.hurry());
    let failing = false;
    try {
      await this.#untilNodeKnown(signal);
      while (!signal.aborted) {
        this.#hurry = new AbortController();
        try {
          await this.write(signal);
          if (failing) {
            logger.info('node is registered again');
          }
          failing = false;
        } catch (error) {
          if (signal.aborted) {
            throw error;
          }
          this.#readAt = Number.NEGATIVE_INFINITY;
          if (!failing) {
            logger.warn({ err: error }, 'node cannot be registered; trying again until it can');
          }
          failing = true;
        }
        await sleepUnlessHurried(clock, failing ? retryMs : writeEveryMs, signal, this.#hurry.signal);
        await sleep(clock, failing ? retryMs : gatherMs, signal);
      }
    } finally {
      unsubscribe();
    }
  }

  /**
   * Brings the LambdaNode of a left node up to date for the last time; one that is gone is not created again.
   *
   * @returns false when the LambdaNode is gone
   */
  async takeLeave(signal?: AbortSignal): Promise<boolean> {
    const { client, nodeName: name, clock } = this.#options;
    this.#present = await client.get(lambdaNodes, { name }, { signal, deadlineMs });
    this.#readAt = clock.monotonic();
    if (this.#present === undefined) {
      return false;
    }
    await this.#writeStatus(this.#present, signal);
    return true;
  }

  /** Compares and, where something changed, writes. */
  async write(signal?: AbortSignal): Promise<void> {
    const { client, nodeName: name, nodes, clock } = this.#options;
    if (clock.monotonic() - this.#readAt > rereadMs) {
      this.#present = await client.get(lambdaNodes, { name }, { signal, deadlineMs });
      this.#readAt = clock.monotonic();
    }
    const labels = nodes.cache.get({ name })?.metadata.labels ?? {};
    const labelsDiffer = nodes.hasSynced() && this.#labels !== JSON.stringify(labels);
    if (this.#present === undefined || labelsDiffer) {
      const body = { ...identity, metadata: { name, labels } };
      this.#present = await client.patch(lambdaNodes, { name }, { ...apply, body }, { signal, deadlineMs });
      this.#labels = JSON.stringify(labels);
    }
    await this.#writeStatus(this.#present, signal);
  }

  async #writeStatus(present: LambdaNode, signal?: AbortSignal): Promise<void> {
    const { client, nodeName: name, health, nodes, clock } = this.#options;
    const node = nodes.cache.get({ name });
    const cordon = node === undefined ? undefined : node.spec?.unschedulable === true;
    const facts = {
      ...(await this.#options.facts(present.status ?? {})),
      unschedulable: nodes.hasSynced() ? cordon : present.status?.unschedulable,
      conditions: health.conditions(),
    };
    const status = nodeStatus(facts, present, clock.now());
    if (canonicalJson(status) !== canonicalJson(reportOf(present.status))) {
      const body = { ...identity, metadata: { name }, status };
      const options = { subresource: 'status', signal, deadlineMs } as const;
      this.#present = await client.patch(lambdaNodes, { name }, { ...apply, body }, options);
    }
  }

  /** Waits at most ten seconds for the Node: a LambdaNode without labels is better than none. */
  async #untilNodeKnown(signal: AbortSignal): Promise<void> {
    const { nodes, clock } = this.#options;
    const waited = new AbortController();
    const ended = AbortSignal.any([signal, waited.signal]);
    try {
      await Promise.race([nodes.synced(ended), sleep(clock, nodeWaitMs, ended)]);
    } catch (error) {
      signal.throwIfAborted();
      this.#options.logger.debug({ err: error }, 'node is registered before its Node was listed');
    } finally {
      waited.abort();
    }
  }
}
