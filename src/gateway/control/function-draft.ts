import { isDeepStrictEqual } from 'node:util';
import {
  CHANGED_BY_ANNOTATION,
  KEPT_ANNOTATION,
  type KeptProperties,
  keptPropertiesOf,
} from '../../api/kept-properties.ts';
import type { LambdaFunction, LambdaFunctionSpec } from '../../api/lambda-function.ts';
import { configurationOf } from '../lambda/revision-id.ts';

/** The part of a LambdaFunction that callers of the Lambda API change. */
export interface FunctionDraft {
  readonly labels: Readonly<Record<string, string>>;
  readonly kept: KeptProperties;
  readonly spec: LambdaFunctionSpec;
}

export function draftOf({ metadata, spec }: LambdaFunction): FunctionDraft {
  return { labels: metadata.labels ?? {}, kept: keptPropertiesOf(metadata), spec };
}

/** Annotations of a draft as it is written. */
export function annotationsOf(kept: KeptProperties, caller: string, now: number): Readonly<Record<string, string>> {
  return {
    [KEPT_ANNOTATION]: JSON.stringify({ ...kept, modified: new Date(now).toISOString() }),
    [CHANGED_BY_ANNOTATION]: caller,
  };
}

/**
 * The JSON merge patch that makes a function as a draft has it. The patch names nothing that stays, so that its writer
 * comes to own nothing else. The resourceVersion is a precondition.
 *
 * @param now wall-clock milliseconds
 * @returns undefined where nothing changes
 */
export function patchTo(
  present: LambdaFunction,
  draft: FunctionDraft,
  caller: string,
  now: number,
): object | undefined {
  const { metadata } = present;
  const before = draftOf(present);
  const spec = mergePatch(before.spec, draft.spec);
  const labels = mergePatch(before.labels, draft.labels);
  if (spec === undefined && labels === undefined && isDeepStrictEqual(before.kept, draft.kept)) {
    return undefined;
  }
  const isSame = configurationOf(before.spec, before.kept) === configurationOf(draft.spec, draft.kept);
  const kept = isSame ? draft.kept : { ...draft.kept, changedFrom: metadata.generation ?? 1 };
  return {
    metadata: {
      uid: metadata.uid,
      resourceVersion: metadata.resourceVersion,
      annotations: annotationsOf(kept, caller, now),
      ...(labels === undefined ? {} : { labels }),
    },
    ...(spec === undefined ? {} : { spec }),
  };
}

type Json = Readonly<Record<string, unknown>>;

/** A patch of RFC 7396 between two JSON objects; undefined where they are alike. Lists are replaced as a whole. */
export function mergePatch(from: object, to: object): Json | undefined {
  const [before, after] = [from as Json, to as Json];
  const changes: [string, unknown][] = [];
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, next] = [ownOf(before, name), ownOf(after, name)];
    if (next === undefined) {
      if (old !== undefined) {
        changes.push([name, null]);
      }
    } else if (isObject(old) && isObject(next)) {
      const inner = mergePatch(old, next);
      if (inner !== undefined) {
        changes.push([name, inner]);
      }
    } else if (!isDeepStrictEqual(old, next)) {
      changes.push([name, next]);
    }
  }
  return changes.length === 0 ? undefined : Object.fromEntries(changes);
}

/** Names that callers give are no names of what every object has, such as `constructor`. */
function ownOf(object: Json, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
