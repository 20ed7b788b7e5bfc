import type { Clock } from '../../common/clock.ts';
import { messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRuntime, WorkerIdentity, WorkerInfo } from '../../runtime/contract/runtime.ts';
import type { ContainerClaims } from './claims.ts';
import type { FleetMetrics } from './context.ts';
import type { WorkerRegistry } from './registry.ts';

export interface OrphanSweepOptions {
  readonly runtime: Pick<ContainerRuntime, 'destroy'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: WorkerRegistry;
  readonly claims: ContainerClaims;
  readonly metrics: FleetMetrics | undefined;
  /** Milliseconds that a container has to exist before it is removed. */
  readonly minAgeMs: number;
}

/** Says whether a worker is gone for certain, or another node's. */
export type ConfirmGone = (identity: WorkerIdentity) => Promise<boolean>;

/** Releases workers without a resource, and removes containers that no worker claims. */
export class OrphanSweep {
  readonly #options: OrphanSweepOptions;

  constructor(options: OrphanSweepOptions) {
    this.#options = options;
  }

  async releaseWorkers(assignedUids: ReadonlySet<string>, confirmGone: ConfirmGone): Promise<void> {
    for (const worker of this.#options.registry.all) {
      const { identity } = worker.desired;
      if (!assignedUids.has(worker.uid) && !worker.released && (await this.#isGone(identity, confirmGone))) {
        worker.step({ kind: 'Released' });
      }
    }
  }

  async removeContainer({ containerId, createdAt, identity }: WorkerInfo, confirmGone: ConfirmGone): Promise<void> {
    const { claims, clock, logger, metrics, minAgeMs, registry, runtime } = this.#options;
    const { uid } = identity;
    const ageMs = clock.now() - createdAt.getTime();
    // Made in the future: the wall clock was set back meanwhile.
    if ((ageMs >= 0 && ageMs < minAgeMs) || claims.has(containerId)) {
      return;
    }
    // A second container of a worker that has one here is an orphan, even where the API knows the worker.
    if (!registry.workers.has(uid) && !(await this.#isGone(identity, confirmGone))) {
      return;
    }
    if (claims.has(containerId)) {
      return;
    }
    logger.info({ container: containerId, uid }, 'removing a container that no resource claims');
    registry.takeOrphans(uid);
    metrics?.orphan('found', containerId);
    try {
      await runtime.destroy(containerId, { graceSeconds: 0 });
      registry.removed(containerId);
      metrics?.orphan('removed', containerId);
    } catch (error) {
      metrics?.orphan('failed', containerId, messageOf(error));
      logger.warn({ container: containerId, err: error }, 'cannot remove a container');
    }
  }

  async #isGone(identity: WorkerIdentity, confirmGone: ConfirmGone): Promise<boolean> {
    try {
      return await confirmGone(identity);
    } catch (error) {
      this.#options.logger.warn(
        { worker: `${identity.namespace}/${identity.name}`, reason: messageOf(error) },
        'cannot tell whether a worker is gone, leaving it alone',
      );
      return false;
    }
  }
}
