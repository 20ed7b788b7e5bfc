import { isRetired, type LambdaNode } from '../../api/lambda-node.ts';
import { type LambdaWorker, lambdaWorkers } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import { aborted, sleep } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import type { Informer, KubeClient } from '../../kube/api/types.ts';
import type { NodeFleet } from '../worker/node-fleet.ts';
import type { NodeHealth } from './node-health.ts';

/** Milliseconds between two looks at a node that is being retired. */
const lookEveryMs = 1_000;
const readDeadlineMs = 15_000;

interface DecommissionOptions {
  /** The LambdaNode of this node, and no other object. */
  readonly node: Pick<Informer<LambdaNode>, 'cache' | 'subscribe'>;
  readonly nodeName: string;
  readonly client: Pick<KubeClient, 'list'>;
  /** Field selector of the workers of this node. */
  readonly fieldSelector: string;
  readonly fleet: Pick<NodeFleet, 'known'>;
  readonly health: Pick<NodeHealth, 'retirement'>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Waits until ESB has to leave this node: `spec.retired` is set, the controller has moved or removed the node's
 * workers, and none of their containers is left here.
 */
export class Decommission {
  readonly #options: DecommissionOptions;
  readonly #due = Promise.withResolvers<void>();

  constructor(options: DecommissionOptions) {
    this.#options = options;
  }

  /** Resolves once the node is to be left, which is final. Never rejects. */
  get due(): Promise<void> {
    return this.#due.promise;
  }

  /** Looks until the node is to be left or `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, fleet, health, logger } = this.#options;
    for (;;) {
      await this.#until(true, signal);
      logger.info('the node is to be retired: it is left once its workers are gone');
      while (this.#isRetired() === true) {
        health.retirement({
          ok: false,
          reason: 'Draining',
          message: 'its workers are being given to other nodes or taken away',
        });
        if (fleet.known().uids.size === 0 && (await this.#isUnassigned(signal)) && this.#isRetired() === true) {
          this.#due.resolve();
          return;
        }
        await sleep(clock, lookEveryMs, signal);
      }
      logger.info('the node is not to be retired any more');
      health.retirement(undefined);
    }
  }

  /** Resolves when a left node is wanted again; a node whose LambdaNode is removed is not. */
  async wantedAgain(signal: AbortSignal): Promise<void> {
    await this.#until(false, signal);
  }

  /** Undefined without a LambdaNode. */
  #isRetired(): boolean | undefined {
    const node = this.#options.node.cache.get({ name: this.#options.nodeName });
    return node === undefined ? undefined : isRetired(node);
  }

  /** Whether a fresh read of the API server assigns no worker to this node. */
  async #isUnassigned(signal: AbortSignal): Promise<boolean> {
    const { client, fieldSelector, logger } = this.#options;
    try {
      const options = { signal, deadlineMs: readDeadlineMs };
      return (await client.list<LambdaWorker>(lambdaWorkers, { fieldSelector }, options)).items.length === 0;
    } catch (error) {
      if (signal.aborted) {
        throw error;
      }
      logger.debug({ err: error }, 'workers of this node cannot be listed; trying again');
      return false;
    }
  }

  /** Waits until the node is there and is to be retired, or is not to be. */
  async #until(retired: boolean, signal: AbortSignal): Promise<void> {
    const done = Promise.withResolvers<void>();
    const look = (): void => {
      if (this.#isRetired() === retired) {
        done.resolve();
      }
    };
    const unsubscribe = this.#options.node.subscribe(look);
    try {
      look();
      await Promise.race([done.promise, aborted(signal)]);
      signal.throwIfAborted();
    } finally {
      unsubscribe();
    }
  }
}
