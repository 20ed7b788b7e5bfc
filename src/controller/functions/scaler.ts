import { autoScalingOf, calledNameOf, type LambdaFunction, withSettings } from '../../api/lambda-function.ts';
import { type LambdaWorker, perWorkerOf } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import { keyText, objectKey } from '../../kube/api/object-key.ts';
import type { DemandBook, DemandChange } from '../demand/demand-book.ts';
import { planScale, type ScaleGroup, type ScaleInput, type ScalePlan } from './scaling.ts';
import { inheritanceOf, namedVersions, type WorkerGroup } from './worker-groups.ts';

export interface ScalerOptions {
  readonly demand: Pick<DemandBook, 'calls' | 'isHeard'>;
  readonly clock: Pick<Clock, 'monotonic'>;
}

/** The groups of a function with the workers that its calls need. */
export interface ScaledGroups {
  readonly groups: readonly WorkerGroup[];
  /** Milliseconds until the number of workers may change by itself; undefined for not at all. */
  readonly lookAfterMs: number | undefined;
}

/** A function as it was last looked at. */
interface Scaled {
  readonly uid: string | undefined;
  readonly namespace: string;
  readonly functionName: string;
  readonly input: Omit<ScaleInput, 'isHeard'>;
  readonly plan: ScalePlan;
  /** By version, the most calls at once since then. */
  readonly peaks: Map<number | undefined, number>;
}

/** Gives functions of the mode Auto as many workers as their calls need, by {@link planScale}. */
export class Scaler {
  readonly #options: ScalerOptions;
  /** By key of the function. */
  readonly #scaled = new Map<string, Scaled>();
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
      return { groups, lookAfterMs: undefined };
    }
    if (this.#scaled.get(key)?.uid !== owner.metadata.uid) {
      this.forget(key);
    }
    const functionName = calledNameOf(owner);
    const named = namedVersions(owner);
    const { peaks } = this.#scaled.get(key) ?? {};
    const present = Map.groupBy(living, ({ spec }) => spec.version);
    const input = {
      ...scaling,
      reserved: withSettings(owner, owner.spec.template.spec).concurrency?.reserved ?? Number.POSITIVE_INFINITY,
      groups: groups.map(({ source, wanted }): ScaleGroup => {
        const { template, version } = source;
        const calls = this.#options.demand.calls(namespace, functionName, version);
        return {
          version,
          floor: wanted,
          isServing: version === undefined || named.has(version),
          perWorker: perWorkerOf({ metadata: { name: '' }, spec: template.spec }),
          present: present.get(version)?.length ?? 0,
          calls,
          peak: Math.max(calls, peaks?.get(version) ?? 0),
          inherits: inheritanceOf(owner, version),
        };
      }),
    };
    const { uid } = owner.metadata;
    const { enough, lookAfterMs, wanted } = this.#plan(key, { uid, namespace, functionName, input });
    return {
      groups: groups.map((group) => {
        const number = wanted.get(group.source.version) ?? group.wanted;
        return { ...group, wanted: number, enough: enough.get(group.source.version) ?? number };
      }),
      lookAfterMs,
    };
  }

  /** Takes in a change of demand; returns the functions that are to be looked at, and after how many milliseconds. */
  note(change: DemandChange): readonly { readonly key: string; readonly afterMs: number }[] {
    const { namespace } = change;
    if (change.kind === 'heard') {
      return [...this.#scaled]
        .filter(([, scaled]) => scaled.namespace === namespace)
        .map(([key]) => ({ key, afterMs: 0 }));
    }
    const { functionName, peak, version } = change;
    return [...(this.#keys.get(nameKey(namespace, functionName)) ?? [])].flatMap((key) => {
      const scaled = this.#scaled.get(key);
      if (scaled === undefined) {
        return [];
      }
      const { input, peaks, plan } = scaled;
      peaks.set(version, Math.max(peak, peaks.get(version) ?? 0));
      const groups = input.groups.map((group) => {
        const calls = this.#options.demand.calls(namespace, functionName, group.version);
        return { ...group, calls, peak: Math.max(calls, peaks.get(group.version) ?? 0) };
      });
      const next = this.#plan(key, { ...scaled, input: { ...input, groups } });
      const isNew = groups.some((group) => next.wanted.get(group.version) !== plan.wanted.get(group.version));
      return isNew ? [{ key, afterMs: 0 }] : next.lookAfterMs === undefined ? [] : [{ key, afterMs: next.lookAfterMs }];
    });
  }

  /** The function is gone, or has a fixed number of workers. */
  forget(key: string): void {
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

  #plan(key: string, { functionName, input, namespace, uid }: Omit<Scaled, 'peaks' | 'plan'>): ScalePlan {
    const { clock, demand } = this.#options;
    const state = this.#scaled.get(key)?.plan.state;
    const plan = planScale(state, { ...input, isHeard: demand.isHeard(namespace) }, clock.monotonic());
    this.#scaled.set(key, { uid, namespace, functionName, input, plan, peaks: new Map() });
    const name = nameKey(namespace, functionName);
    this.#keys.set(name, (this.#keys.get(name) ?? new Set()).add(key));
    return plan;
  }
}

function nameKey(namespace: string, functionName: string): string {
  return `${namespace}/${functionName}`;
}
