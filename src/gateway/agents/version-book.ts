import {
  type AutoScaling,
  autoScalingOf,
  calledNameOf,
  type EffectiveAlias,
  isElder,
  type LambdaFunction,
} from '../../api/lambda-function.ts';
import type { LambdaVersion } from '../../api/lambda-version.ts';
import { LATEST } from '../../common/function-arn.ts';
import type { Informer, KubeObject } from '../../kube/api/types.ts';

/** Meaning of a qualifier. */
export type Resolution =
  | { readonly kind: 'Latest' }
  | {
      readonly kind: 'Version';
      readonly version: number;
      /** Whether an alias that is in effect names the version, so that workers of it are to be there. */
      readonly isNamed: boolean;
      /** Whether there is a LambdaVersion of the number. */
      readonly isPublished: boolean;
    }
  /** An alias that is not in effect yet. */
  | { readonly kind: 'Coming' }
  | { readonly kind: 'Unknown' };

export interface VersionBookOptions {
  readonly functions: Informer<LambdaFunction>;
  readonly versions: Informer<LambdaVersion>;
  /** Hears of each change that may give a qualifier of the function another meaning, with its LambdaFunction. */
  readonly onChange: (functionName: string, owner: LambdaFunction | undefined) => void;
}

const LATEST_WORKERS: Resolution = { kind: 'Latest' };
/** Parts of 1,000 by which an alias shares its calls. */
const WHOLE = 1_000;
/** The draw that falls to the version that gets what the routing of its alias leaves. */
export const NO_DRAW = WHOLE;

/** A number of [0, 1000), each as likely as the others, out of one of [0, 1). */
export function drawOf(random: () => number): number {
  return Math.floor(random() * WHOLE);
}

/** The version of an alias for a draw. */
export function versionFor({ routing = [], version }: EffectiveAlias, draw: number): number {
  let end = 0;
  for (const part of routing) {
    end += part.permille;
    if (draw < end) {
      return part.version;
    }
  }
  return version;
}

/**
 * Versions and aliases of the functions of a namespace. Aliases are those of the status, which the controller alone
 * writes, once the versions that they name can answer.
 */
export class VersionBook {
  readonly #options: VersionBookOptions;
  /** By the name that callers write; of several resources with one name, the oldest. */
  readonly #functions = new Map<string, LambdaFunction>();
  /** By the name that callers write, and by number. */
  readonly #versions = new Map<string, Map<number, LambdaVersion>>();

  constructor(options: VersionBookOptions) {
    this.#options = options;
    options.functions.subscribe(({ kind, object }) => {
      const name = calledNameOf(object);
      if (kind === 'deleted') {
        this.#forget(name, object);
      } else if (isBefore(object, this.#functions.get(name))) {
        this.#functions.set(name, object);
      }
      options.onChange(name, this.#functions.get(name));
    });
    options.versions.subscribe(({ kind, object }) => {
      const { functionName, version } = object.spec;
      const known = this.#versions.get(functionName) ?? new Map<number, LambdaVersion>();
      this.#versions.set(functionName, known);
      if (kind !== 'deleted') {
        known.set(version, object);
      } else if (known.get(version)?.metadata.uid === object.metadata.uid) {
        known.delete(version);
      }
      if (known.size === 0) {
        this.#versions.delete(functionName);
      }
      options.onChange(functionName, this.#functions.get(functionName));
    });
  }

  /** Whether a qualifier that is not in the book stands for nothing. */
  get isCurrent(): boolean {
    const { functions, versions } = this.#options;
    return functions.isCurrent() && versions.isCurrent();
  }

  get hasSynced(): boolean {
    const { functions, versions } = this.#options;
    return functions.hasSynced() && versions.hasSynced();
  }

  /** Names of all functions that have a LambdaFunction, as callers write them. */
  names(): Iterable<string> {
    return this.#functions.keys();
  }

  /** The LambdaFunction of a name; undefined where its workers are made by hand. */
  function(name: string): LambdaFunction | undefined {
    return this.#functions.get(name);
  }

  /** How a function grows and shrinks with its calls; undefined where it does not. */
  scaling(name: string): AutoScaling | undefined {
    const owner = this.#functions.get(name);
    return owner === undefined ? undefined : autoScalingOf(owner);
  }

  /** The aliases that are in effect. */
  aliases(name: string): readonly EffectiveAlias[] {
    return this.#functions.get(name)?.status?.aliases ?? [];
  }

  /** The versions of a function, the first ones first. */
  versions(name: string): readonly LambdaVersion[] {
    return [...(this.#versions.get(name)?.values() ?? [])].toSorted(
      (one, other) => one.spec.version - other.spec.version,
    );
  }

  version(name: string, version: number): LambdaVersion | undefined {
    return this.#versions.get(name)?.get(version);
  }

  /** @param draw of {@link drawOf}, for an alias that shares its calls */
  resolve(name: string, qualifier: string | undefined, draw: () => number): Resolution {
    if (qualifier === undefined || qualifier === LATEST) {
      return LATEST_WORKERS;
    }
    if (/^[0-9]+$/.test(qualifier)) {
      const version = Number(qualifier);
      // Another way to write a number is no version.
      return String(version) === qualifier ? this.#numbered(name, version) : { kind: 'Unknown' };
    }
    const alias = this.aliases(name).find((each) => each.name === qualifier);
    if (alias !== undefined) {
      const version = alias.routing === undefined ? alias.version : versionFor(alias, draw());
      return { ...this.#numbered(name, version), isNamed: true };
    }
    const isWished = this.#functions.get(name)?.spec.aliases?.some((each) => each.name === qualifier) === true;
    return { kind: isWished ? 'Coming' : 'Unknown' };
  }

  #numbered(name: string, version: number): Extract<Resolution, { kind: 'Version' }> {
    const isNamed = this.aliases(name).some(
      (alias) =>
        alias.version === version ||
        alias.routing?.some((part) => part.version === version && part.permille > 0) === true,
    );
    return { kind: 'Version', version, isNamed, isPublished: this.version(name, version) !== undefined };
  }

  /** The next oldest resource takes the place of one that is gone. */
  #forget(name: string, gone: LambdaFunction): void {
    if (this.#functions.get(name)?.metadata.uid !== gone.metadata.uid) {
      return;
    }
    this.#functions.delete(name);
    for (const other of this.#options.functions.cache.list()) {
      if (calledNameOf(other) === name && other.metadata.uid !== gone.metadata.uid) {
        if (isBefore(other, this.#functions.get(name))) {
          this.#functions.set(name, other);
        }
      }
    }
  }
}

/** Whether an object takes the place of another: as a newer state of the same, or as the older of two. */
function isBefore(one: KubeObject, other: KubeObject | undefined): boolean {
  return other === undefined || one.metadata.uid === other.metadata.uid || isElder(one, other);
}
