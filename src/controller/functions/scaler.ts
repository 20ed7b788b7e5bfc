import { findCondition, functionConditions, workerConditions } from '../../api/condition.ts';
import { autoScalingOf, calledNameOf, type LambdaFunction, withSettings } from '../../api/lambda-function.ts';
import { type LambdaWorker, perWorkerOf } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import { keyText, objectKey } from '../../kube/api/object-key.ts';
import type { LoadBook, LoadChange } from '../load/load-book.ts';
import { isWorkerStalled } from './readiness.ts';
import { serves } from './rollout.ts';
import { planScale, type ScaleGroup, type ScaleInput, type ScaleState, withLoad } from './scaling.ts';
import { inheritanceOf, namedVersions, readyOf, type WorkerGroup } from './worker-groups.ts';

export interface ScalerOptions {
  readonly load: Pick<LoadBook, 'calls' | 'isHeard'>;
  readonly clock: Pick<Clock, 'monotonic' | 'now'>;
}

/** Milliseconds without a word of a gateway until the status says so. Gateways find a new leader within a few seconds. */
const DEAF_MS = 60_000;
/** Milliseconds after which a failed worker is no capacity: an agent may have made it again by then. */
const FAILED_MS = 60_000;

/** The groups of a function with the workers that its calls need. */
export interface ScaledGroups {
  readonly groups: readonly WorkerGroup[];
  /** Milliseconds until the number of workers may change by itself; undefined for not at all. */
  readonly lookAfterMs: number | undefined;
  /** Whether no gateway has reported calls for a while, so that nothing changes by them. */
  readonly isDeaf: boolean;
}

/** A function as it was last looked at. */
interface Scaled {
  readonly uid: string | undefined;
  readonly namespace: string;
  readonly functionName: string;
  readonly input: Omit<ScaleInput, 'isHeard'>;
  /** State since then, with the load of each change. */
  readonly state: ScaleState;
}

/** Gives functions of the mode Auto as many workers as their calls need, by {@link planScale}. */
export class Scaler {
  readonly #options: ScalerOptions;
  /** By key of the function. */
  readonly #scaled = new Map<string, Scaled>();
  /** By key, monotonic milliseconds since when no gateway is heard. */
  readonly #deafSince = new Map<string, number>();
  /** By namespace and name of the function as callers write it, the keys of its resources. */
  readonly #keys = new Map<string, Set<string>>();

  constructor(options: ScalerOptions) {
    this.#options = options;
  }

  /** @param groups with the workers that each has without any call */
  apply(owner: LambdaFunction, groups: readonly WorkerGroup[], living: readonly LambdaWorker[]): ScaledGroups {
    const key = keyText(objectKey(owner));
    const { deletionTimestamp, namespace = '' } = owner.metadata;
    const scaling = autoScalingOf(owner);
    if (scaling === undefined || deletionTimestamp !== undefined) {
      this.forget(key);
      this.#deafSince.delete(key);
      return { groups, lookAfterMs: undefined, isDeaf: false };
    }
    if (this.#scaled.get(key)?.uid !== owner.metadata.uid) {
      this.forget(key);
    }
    const functionName = calledNameOf(owner);
    const named = namedVersions(owner);
    const present = Map.groupBy(living, ({ spec }) => spec.version);
    const input = {
      ...scaling,
      reserved: withSettings(owner, owner.spec.template.spec).concurrency?.reserved ?? Number.POSITIVE_INFINITY,
      groups: groups.map(({ source, wanted }): ScaleGroup => {
        const { template, version } = source;
        const calls = this.#options.load.calls(namespace, functionName, version);
        return {
          version,
          floor: wanted,
          isServing: version === undefined || named.has(version),
          perWorker: perWorkerOf({ metadata: { name: '' }, spec: template.spec }),
          present: present.get(version)?.length ?? 0,
          calls,
          peak: calls,
          inherits: inheritanceOf(owner, version),
        };
      }),
    };
    const { clock, load } = this.#options;
    const isHeard = load.isHeard(namespace);
    const plan = planScale(this.#scaled.get(key)?.state, { ...input, isHeard }, clock.monotonic());
    this.#scaled.set(key, { uid: owner.metadata.uid, namespace, functionName, input, state: plan.state });
    const name = nameKey(namespace, functionName);
    this.#keys.set(name, (this.#keys.get(name) ?? new Set()).add(key));
    const { enough, lookAfterMs, wanted } = plan;
    const failed = living.filter((worker) => isWorkerStalled(worker) && !serves(worker));
    let room = scaling.maxWorkers - wanted.values().reduce((sum, each) => sum + each, 0);
    const scaled = groups.map((group) => {
      const { version } = group.source;
      const number = wanted.get(version) ?? group.wanted;
      const replaced = Math.max(0, Math.min(room, this.#replaceable(group, failed, present.get(version) ?? [])));
      room -= replaced;
      return { ...group, wanted: number + replaced, enough: enough.get(version) ?? number };
    });
    const { isDeaf, untilDeafMs } = this.#listen(key, owner);
    const waits = [lookAfterMs, untilDeafMs, ...failed.map((worker) => this.#untilFailedMs(worker))];
    const known = waits.filter((wait) => wait !== undefined && wait > 0) as readonly number[];
    return { groups: scaled, lookAfterMs: known.length === 0 ? undefined : Math.min(...known), isDeaf };
  }

  /**
   * Workers that are to be there in place of failed ones. No more than work with the template: where none does, further
   * ones would fail as well.
   */
  #replaceable(group: WorkerGroup, failed: readonly LambdaWorker[], present: readonly LambdaWorker[]): number {
    const gone = failed.filter(
      (worker) => worker.spec.version === group.source.version && this.#untilFailedMs(worker) <= 0,
    );
    return Math.min(gone.length, readyOf(group, present).length);
  }

  /** Milliseconds until a failed worker counts as none. */
  #untilFailedMs({ status }: LambdaWorker): number {
    const since = findCondition(status?.conditions, workerConditions.stalled)?.lastTransitionTime;
    return since === undefined ? 0 : Date.parse(since) + FAILED_MS - this.#options.clock.now();
  }

  /** Whether a function hears of no calls for long enough to say so; one of which a leader before has said so at once. */
  #listen(key: string, { metadata, status }: LambdaFunction): { isDeaf: boolean; untilDeafMs: number | undefined } {
    const { clock, load } = this.#options;
    if (load.isHeard(metadata.namespace ?? '')) {
      this.#deafSince.delete(key);
      return { isDeaf: false, untilDeafMs: undefined };
    }
    const now = clock.monotonic();
    const since = this.#deafSince.get(key) ?? now;
    this.#deafSince.set(key, since);
    const isTold = findCondition(status?.conditions, functionConditions.scalingActive) !== undefined;
    const untilDeafMs = since + DEAF_MS - now;
    return isTold || untilDeafMs <= 0 ? { isDeaf: true, untilDeafMs: undefined } : { isDeaf: false, untilDeafMs };
  }

  /**
   * Records a change of load for the next plan. Returns the functions that are to be looked at, since that plan may be
   * another one, and after how many milliseconds.
   */
  record(change: LoadChange): readonly { readonly key: string; readonly afterMs: number }[] {
    const { namespace } = change;
    if (change.kind === 'heard') {
      return [...this.#scaled]
        .filter(([, scaled]) => scaled.namespace === namespace)
        .map(([key]) => ({ key, afterMs: 0 }));
    }
    const { clock, load } = this.#options;
    const { functionName, peak, version } = change;
    return [...(this.#keys.get(nameKey(namespace, functionName)) ?? [])].flatMap((key) => {
      const scaled = this.#scaled.get(key);
      if (scaled === undefined) {
        return [];
      }
      const groups = scaled.input.groups.map((group) => {
        const calls = load.calls(namespace, functionName, group.version);
        return { ...group, calls, peak: group.version === version ? Math.max(calls, peak) : calls };
      });
      const input = { ...scaled.input, isHeard: load.isHeard(namespace), groups };
      const now = clock.monotonic();
      const state = withLoad(scaled.state, input, now);
      this.#scaled.set(key, { ...scaled, state });
      const next = planScale(state, input, now);
      const isNew = groups.some((group) => next.wanted.get(group.version) !== state.wanted.get(group.version));
      return isNew ? [{ key, afterMs: 0 }] : next.lookAfterMs === undefined ? [] : [{ key, afterMs: next.lookAfterMs }];
    });
  }

  /** The function is gone, or has a fixed number of workers. */
  forget(key: string): void {
    this.#deafSince.delete(key);
    const scaled = this.#scaled.get(key);
    if (scaled === undefined) {
      return;
    }
    this.#scaled.delete(key);
    const name = nameKey(scaled.namespace, scaled.functionName);
    const keys = this.#keys.get(name);
    keys?.delete(key);
    if (keys?.size === 0) {
      this.#keys.delete(name);
    }
  }
}

function nameKey(namespace: string, functionName: string): string {
  return `${namespace}/${functionName}`;
}
