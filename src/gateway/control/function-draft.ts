import { isDeepStrictEqual } from 'node:util';
import {
  CHANGED_BY_ANNOTATION,
  KEPT_ANNOTATION,
  type KeptProperties,
  keptPropertiesOf,
} from '../../api/kept-properties.ts';
import type { LambdaFunction, LambdaFunctionSpec } from '../../api/lambda-function.ts';
import { mergePatch } from '../../kube/api/merge-patch.ts';
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
