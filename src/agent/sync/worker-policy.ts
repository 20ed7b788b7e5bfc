import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { PRIVILEGED_WORKERS_LABEL, WORKER_POLICY_NAME } from '../../api/name.ts';
import { quantityToMiB } from '../../api/quantity.ts';
import { resourcesOf } from '../../api/worker-resources.ts';
import type { Clock } from '../../common/clock.ts';
import { sleep, sleepUnlessHurried } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import { type ConfigMap, namespaces } from '../../kube/api/resource-types.ts';
import type { Informer, KubeClient } from '../../kube/api/types.ts';
import type { Permission } from '../model/desired-worker.ts';

/** Milliseconds between two looks at the labels of a namespace with workers that break the policy. */
const refreshMs = 60_000;
const retryMs = 2_000;
const deadlineMs = 10_000;
/** Milliseconds after which a namespace is forgotten: each worker is judged every few minutes. */
const forgetMs = 900_000;
/** Milliseconds of wait for the first list of the policy. */
const firstListMs = 10_000;
/** MiB of /tmp where the policy names no quantity; as in the chart. */
const defaultMaxMiB = 10_240;

/**
 * The policy's judgement of one worker. `Unknown`: its namespace has not been read yet; listeners are called when it
 * has.
 */
type Verdict = { readonly kind: 'Allowed' } | { readonly kind: 'Unknown' } | Permission;

interface WorkerPolicyOptions {
  /** The ConfigMap with the policy, and no other object. */
  readonly informer: Informer<ConfigMap>;
  readonly client: Pick<KubeClient, 'get'>;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface KnownNamespace {
  /** Whether its label allows the worker; undefined before the label was read. */
  readonly isLet: boolean | undefined;
  /** Monotonic milliseconds of the last judgement. */
  readonly judgedAt: number;
}

/**
 * The admission policy of workers, enforced by the agent from the ConfigMap that the chart installs beside the policy.
 * A worker older than the ConfigMap was created before there was a policy. The API server sets both times, and no user
 * can change them. Without the ConfigMap everything is allowed.
 */
export class WorkerPolicy {
  readonly #options: WorkerPolicyOptions;
  readonly #namespaces = new Map<string, KnownNamespace>();
  readonly #listeners = new Set<() => void>();
  #hurry = new AbortController();

  constructor(options: WorkerPolicyOptions) {
    this.#options = options;
  }

  /** Calls `listener` when workers may be judged differently. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  judge(worker: LambdaWorker): Verdict {
    const policy = this.#policy();
    const breaches = policy === undefined ? [] : breachesOf(worker, policy);
    if (policy === undefined || breaches.length === 0) {
      return { kind: 'Allowed' };
    }
    const { creationTimestamp, namespace = 'default' } = worker.metadata;
    const isLet = this.#namespaces.get(namespace)?.isLet;
    this.#namespaces.set(namespace, { isLet, judgedAt: this.#options.clock.monotonic() });
    if (isLet === undefined) {
      this.#hurry.abort();
      return { kind: 'Unknown' };
    }
    if (isLet) {
      return { kind: 'Allowed' };
    }
    const wayOut = `an administrator lets the namespace: kubectl label namespace ${namespace} ${PRIVILEGED_WORKERS_LABEL}=true`;
    const isOlder = Date.parse(creationTimestamp ?? '') < Date.parse(policy.metadata.creationTimestamp ?? '');
    return isOlder
      ? {
          kind: 'MadeBefore',
          message: `${breaches.join('; ')}: made before the policy ${WORKER_POLICY_NAME}, it runs on and its spec may not be changed, unless ${wayOut}`,
        }
      : { kind: 'Refused', message: `${breaches.join('; ')}: no container is made, unless ${wayOut}` };
  }

  /**
   * Waits until the policy has been listed or `signal` fires, for ten seconds at most: an API server that is away
   * assigns no workers. Never rejects.
   */
  async listed(signal: AbortSignal): Promise<void> {
    const { informer, clock, logger } = this.#options;
    const ended = new AbortController();
    const inner = AbortSignal.any([signal, ended.signal]);
    try {
      await Promise.race([informer.synced(inner), sleep(clock, firstListMs, inner)]);
    } catch (error) {
      logger.debug({ err: error }, 'the policy of workers was not listed');
    } finally {
      ended.abort();
    }
  }

  /** Keeps the labels of namespaces up to date until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, informer } = this.#options;
    const unsubscribe = informer.subscribe(() => this.#tell());
    try {
      for (;;) {
        this.#hurry = new AbortController();
        if (await this.#look(signal)) {
          await sleepUnlessHurried(clock, refreshMs, signal, this.#hurry.signal);
        } else {
          await sleep(clock, retryMs, signal);
        }
      }
    } finally {
      unsubscribe();
    }
  }

  #policy(): ConfigMap | undefined {
    return this.#options.informer.cache.list().find(({ metadata }) => metadata.name === WORKER_POLICY_NAME);
  }

  /** @returns whether every namespace could be read */
  async #look(signal: AbortSignal): Promise<boolean> {
    const { client, clock, logger } = this.#options;
    let complete = true;
    let changed = false;
    for (const [name, { isLet, judgedAt }] of this.#namespaces) {
      if (clock.monotonic() - judgedAt > forgetMs) {
        this.#namespaces.delete(name);
        continue;
      }
      try {
        const found = await client.get(namespaces, { name }, { signal, deadlineMs });
        const now = found?.metadata.labels?.[PRIVILEGED_WORKERS_LABEL] === 'true';
        changed ||= now !== isLet;
        this.#namespaces.set(name, { isLet: now, judgedAt });
      } catch (error) {
        signal.throwIfAborted();
        logger.debug({ err: error, namespace: name }, 'namespace cannot be read; what was known of it holds');
        complete = false;
      }
    }
    if (changed) {
      this.#tell();
    }
    return complete;
  }

  #tell(): void {
    for (const listener of this.#listeners) {
      listener();
    }
  }
}

/** The worker's breaches of the policy, by the rules of charts/esb/templates/worker-policy.yaml. */
function breachesOf(worker: LambdaWorker, policy: ConfigMap): readonly string[] {
  const { egress: classes, maxEphemeralStorage, requireAlwaysPull } = policy.data ?? {};
  const { spec } = worker;
  const egress = spec.network?.egress;
  const isTooMuch = resourcesOf(worker).ephemeralStorageMiB > quantityToMiB(maxEphemeralStorage, defaultMaxMiB);
  return [
    ...(spec.network?.mode === 'Host' ? ['spec.network.mode is Host'] : []),
    ...(egress !== undefined && classes !== undefined && !classes.split(' ').includes(egress)
      ? [`spec.network.egress is ${egress}`]
      : []),
    ...(spec.readOnlyRootFilesystem === false ? ['spec.readOnlyRootFilesystem is false'] : []),
    ...(isTooMuch ? [`spec.ephemeralStorage is more than ${maxEphemeralStorage ?? `${defaultMaxMiB}Mi`}`] : []),
    ...(requireAlwaysPull === 'true' && spec.imagePullPolicy !== 'Always'
      ? ['spec.imagePullPolicy is not Always']
      : []),
  ];
}
