import { type LambdaWorker, lambdaWorkers } from '../../api/lambda-worker.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { objectKey } from '../../kube/api/object-key.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import type { AssignmentCache } from '../scheduling/assignment-cache.ts';

export interface DoubtsOptions {
  readonly client: Pick<KubeClient, 'get'>;
  readonly assignments: Pick<AssignmentCache, 'assumed' | 'settle'>;
  /** Told where room is given up that was taken for a worker of that namespace. */
  readonly onGivenUp: (namespace: string) => void;
}

/**
 * Assignments whose write may have come through or not. The room on their node and in their quotas is taken until the
 * API server was read again.
 */
export class Doubts {
  readonly #options: DoubtsOptions;
  /** Uids of their workers. */
  readonly #workers = new Set<string>();

  constructor(options: DoubtsOptions) {
    this.#options = options;
  }

  note(uid: string): void {
    // Nothing is assumed for a worker that went during the write, and no later event would forget the uid.
    if (this.#options.assignments.assumed(uid) !== undefined) {
      this.#workers.add(uid);
    }
  }

  forget(uid: string): void {
    this.#workers.delete(uid);
  }

  /**
   * Reads a worker whose assignment the cache does not show, where the write is in doubt, and takes back what was not
   * written.
   *
   * @returns the worker as it is, where nothing was written; undefined where the cache will show what was
   */
  async settled(worker: LambdaWorker, call: CallOptions): Promise<LambdaWorker | undefined> {
    const { assignments, client, onGivenUp } = this.#options;
    const { namespace = '', uid = '' } = worker.metadata;
    if (!this.#workers.has(uid)) {
      return undefined;
    }
    const present = await client.get(lambdaWorkers, objectKey(worker), call);
    this.#workers.delete(uid);
    if (present?.metadata.uid !== uid || !assignments.settle(present)) {
      return undefined;
    }
    onGivenUp(namespace);
    return present;
  }
}
