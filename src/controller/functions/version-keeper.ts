import { type EventReason, findCondition, type VersionReasons, workerConditions } from '../../api/condition.ts';
import {
  calledNameOf,
  functionOwnerOf,
  type LambdaFunction,
  lambdaFunctions,
  ownerReferenceTo,
} from '../../api/lambda-function.ts';
import {
  type LambdaVersion,
  lambdaVersions,
  type VersionContent,
  versionName,
  versionOf,
} from '../../api/lambda-version.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { fieldManagers } from '../../api/name.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { keyText, objectKey } from '../../kube/api/object-key.ts';
import type { Informer, KubeClient } from '../../kube/api/types.ts';
import type { EventSink } from '../../kube/events/event-recorder.ts';
import { referenceTo } from '../../kube/events/event-series.ts';
import { ORPHAN_INDEX, OWNER_INDEX } from './owner-index.ts';
import type { PublicationStep } from './publication.ts';
import { isLiving, livingOf } from './readiness.ts';
import type { StatusWriter } from './status-writer.ts';
import { removeStrays } from './strays.ts';
import { versionChangeOf, versionStatusOf } from './version-status.ts';
import { namedVersions, type WorkerGroup } from './worker-groups.ts';
import { inTurns, type WriteOutcome } from './write-outcome.ts';

export interface VersionKeeperOptions {
  readonly client: KubeClient;
  /** Synced; {@link OWNER_INDEX} and {@link ORPHAN_INDEX} are among its indexes. */
  readonly versions: Pick<Informer<LambdaVersion>, 'cache'>;
  readonly events: EventSink<EventReason>;
  readonly statuses: StatusWriter;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The versions of a function, as the cache has them. */
export interface KnownVersions {
  /** Versions that the function owns by its uid. */
  readonly versions: readonly LambdaVersion[];
  /** Versions of the function that are not being deleted. */
  readonly living: readonly LambdaVersion[];
  /** Highest number among those that bear its name, of any owner. */
  readonly highest: number;
}

/** The workers of the versions of a function, as they are. */
interface VersionsFound {
  readonly groups: readonly WorkerGroup[];
  readonly versions: readonly LambdaVersion[];
  readonly owned: readonly LambdaWorker[];
  /** Words of the API server, which did not take a worker of the function. */
  readonly refusal: string | undefined;
}

/** Publishes the versions of functions, and tells their state. */
export class VersionKeeper {
  readonly #options: VersionKeeperOptions;

  constructor(options: VersionKeeperOptions) {
    this.#options = options;
  }

  of({ metadata }: LambdaFunction): KnownVersions {
    const all = this.#options.versions.cache.byIndex(OWNER_INDEX, keyText(objectKey({ metadata })));
    const versions = all.filter((version) => functionOwnerOf(version.metadata)?.uid === metadata.uid);
    return {
      versions,
      living: livingOf(versions),
      highest: Math.max(0, ...all.map(({ spec }) => spec.version)),
    };
  }

  /**
   * Makes a function the owner of its versions that have none, as after a restore that left owners out: by label, name and
   * name for callers, as Deployments adopt ReplicaSets. Errors are those of the API server; a Conflict or NotFound where the
   * function is not as it was read: the garbage collector would take versions of one that is gone.
   *
   * @returns whether there were any, which the cache shows later
   */
  async adopt(owner: LambdaFunction, call: CallOptions): Promise<boolean> {
    const { client, logger, versions } = this.#options;
    const key = keyText(objectKey(owner));
    const orphans = versions.cache
      .byIndex(ORPHAN_INDEX, key)
      .filter(
        (version) =>
          isLiving(version) &&
          version.metadata.name === versionName(owner, version.spec.version) &&
          version.spec.functionName === calledNameOf(owner),
      );
    if (orphans.length === 0 || owner.metadata.deletionTimestamp !== undefined) {
      return false;
    }
    await this.#confirm(owner, call);
    for (const { metadata } of orphans) {
      const { resourceVersion, uid } = metadata;
      const ownerReferences = [...(metadata.ownerReferences ?? []), ownerReferenceTo(owner)];
      const body = { metadata: { uid, resourceVersion, ownerReferences } };
      const patch = { kind: 'merge', body, fieldManager: fieldManagers.controller } as const;
      await client.patch(lambdaVersions, objectKey({ metadata }), patch, call);
      logger.info({ function: key, version: metadata.name }, 'version without an owner belongs to its function again');
    }
    return true;
  }

  /**
   * Takes the next step of publishing. The number and what it stands for are one write, which fails where the function
   * has changed since it was read: so no number ever gets a second meaning, under any leader and with a cache of any age.
   * Errors are those of the API server.
   *
   * @returns the function as it was written
   */
  async publish(owner: LambdaFunction, step: PublicationStep, call: CallOptions): Promise<LambdaFunction> {
    switch (step.kind) {
      case 'none':
      case 'wait':
        return owner;
      case 'settle': {
        const { template, token } = step;
        return await this.#note(owner, { publication: { template, ...(token === undefined ? {} : { token }) } }, call);
      }
      case 'reserve': {
        const { content, token } = step;
        const { image, template, version } = content;
        const publication = { template, image, state: 'Creating', ...(token === undefined ? {} : { token }) };
        const reserved = await this.#note(owner, { latestVersion: version, publication }, call);
        return await this.#create(reserved, content, call);
      }
      case 'create':
        return await this.#create(owner, step.content, call);
      case 'complete':
        return await this.#note(owner, { publication: { state: 'Created' } }, call);
      case 'drop':
        return await this.#note(owner, { publication: null }, call);
      default:
        return unreachable(step);
    }
  }

  /** Writes the status of each version where it is new; returns the milliseconds until one may be written. */
  async tell({ groups, owned, refusal, versions }: VersionsFound, call: CallOptions): Promise<number | undefined> {
    const { clock, statuses } = this.#options;
    const living = Map.groupBy(livingOf(owned), ({ spec }) => spec.version);
    const known = new Map(groups.map((group) => [group.source.version, group]));
    const waits: number[] = [];
    for (const version of versions) {
      const group = known.get(version.spec.version);
      const workers = living.get(version.spec.version) ?? [];
      if (group === undefined && workers.length === 0 && isAtRest(version)) {
        continue;
      }
      const { enough, wanted = 0 } = group ?? {};
      const status = versionStatusOf({ version, workers, wanted, enough, refusal }, clock.now());
      const change = versionChangeOf(version.status, status);
      const waitMs = await statuses.write(lambdaVersions, version, status, change, call);
      if (waitMs !== undefined) {
        waits.push(waitMs);
      }
    }
    return waits.length === 0 ? undefined : Math.min(...waits);
  }

  /**
   * Deletes versions of a function beyond those that `spec.versionHistoryLimit` keeps. Errors are those of the API server; a
   * Conflict or NotFound where the function is not as it was read: an alias may name a version by now.
   */
  async collect(owner: LambdaFunction, versions: readonly LambdaVersion[], call: CallOptions): Promise<WriteOutcome[]> {
    const { client, logger } = this.#options;
    await this.#confirm(owner, call);
    return await inTurns(versions, async (version) => {
      await client.delete(lambdaVersions, objectKey(version), { ...call, uid: version.metadata.uid });
      const fields = { function: keyText(objectKey(owner)), version: version.metadata.name };
      logger.info(fields, 'version deleted, since later ones are as many as are kept');
      return undefined;
    });
  }

  /** Deletes versions whose function is gone, or was made again under its name, as the API server has them. */
  async removeStrays(key: string, uid: string | undefined, call: CallOptions): Promise<WriteOutcome[]> {
    const all = this.#options.versions.cache.byIndex(OWNER_INDEX, key);
    return await removeStrays(this.#options, lambdaVersions, key, uid, all, call);
  }

  /** Makes a version that the cache does not show. One that it will show yet is met by its name: AlreadyExists. */
  async #create(owner: LambdaFunction, content: VersionContent, call: CallOptions): Promise<LambdaFunction> {
    const { client, events, logger, versions } = this.#options;
    const version = versionOf(owner, content);
    const known = versions.cache.get(objectKey(version));
    if (known === undefined) {
      await client.create(lambdaVersions, version, call);
    } else if (functionOwnerOf(known.metadata)?.uid !== owner.metadata.uid) {
      // The name is another's: the next number is tried.
      return await this.#note(owner, { publication: null }, call);
    }
    const written = await this.#note(owner, { publication: { state: 'Created' } }, call);
    const note = `published ${version.metadata.name} with ${content.image}`;
    logger.info({ function: keyText(objectKey(owner)), note }, 'version published');
    const regarding = referenceTo(lambdaFunctions, owner);
    events.record({ regarding, type: 'Normal', reason: 'Published', action: 'Publish', note });
    return written;
  }

  /**
   * Fails unless the function is as it was read. The write that follows is for another object, which no precondition ties
   * to this one: an empty patch has the API server compare the versions, and none is sent once the term of the leader is over.
   */
  async #confirm({ metadata }: LambdaFunction, call: CallOptions): Promise<void> {
    const { resourceVersion, uid } = metadata;
    const patch = { kind: 'merge', body: { metadata: { uid, resourceVersion } } } as const;
    await this.#options.client.patch(lambdaFunctions, objectKey({ metadata }), patch, {
      ...call,
      subresource: 'status',
    });
  }

  /** Writes a part of the status of the very function that was read. */
  async #note(owner: LambdaFunction, status: object, call: CallOptions): Promise<LambdaFunction> {
    const { resourceVersion, uid } = owner.metadata;
    const body = { metadata: { uid, resourceVersion }, status };
    const patch = { kind: 'merge', body, fieldManager: fieldManagers.controller } as const;
    return await this.#options.client.patch(lambdaFunctions, objectKey(owner), patch, {
      ...call,
      subresource: 'status',
    });
  }
}

/**
 * Versions beyond those that `spec.versionHistoryLimit` keeps, the oldest first. One that an alias names, in the wish or in
 * effect, never goes, nor does the latest.
 */
export function surplusVersions(owner: LambdaFunction, versions: readonly LambdaVersion[]): readonly LambdaVersion[] {
  const { spec, status } = owner;
  const limit = spec.versionHistoryLimit;
  if (limit === undefined || owner.metadata.deletionTimestamp !== undefined) {
    return [];
  }
  const named = namedVersions(owner);
  const latest = status?.latestVersion ?? Number.POSITIVE_INFINITY;
  const free = versions
    .filter(({ spec: { version } }) => !named.has(version))
    .toSorted((one, other) => one.spec.version - other.spec.version);
  return free.slice(0, Math.max(0, free.length - limit)).filter((version) => version.spec.version < latest);
}

/** Whether the status says that the version has no workers, and needs none. */
function isAtRest({ metadata, status }: LambdaVersion): boolean {
  const reason = findCondition(status?.conditions, workerConditions.ready)?.reason;
  return (
    status?.observedGeneration === metadata.generation &&
    status?.workers === 0 &&
    reason === ('NoWorkers' satisfies VersionReasons['Ready'])
  );
}
