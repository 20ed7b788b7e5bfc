import type { LambdaFunction, LambdaFunctionStatus } from '../../api/lambda-function.ts';

/** One entry of `status.revisions`. */
export type Revision = NonNullable<LambdaFunctionStatus['revisions']>[number];

/**
 * The templates to keep: the earlier ones by age, and last the present one. A template that comes back gets the next number
 * and keeps no earlier one, as in Deployments. Written with the status: a number so never means two templates, under any
 * leader. The newest that has worked is kept beyond the limit while the present one has not: further workers are made with it.
 *
 * @param template hash of the present one
 * @param hasWorked whether it works now; one that once has stays so
 */
export function revisionsAfter(
  { metadata, spec, status }: LambdaFunction,
  template: string,
  hasWorked: boolean,
): readonly Revision[] {
  const known = status?.revisions ?? [];
  const last = known.at(-1);
  if (metadata.deletionTimestamp !== undefined && last !== undefined) {
    return known;
  }
  const revision = last?.template === template ? last.revision : (last?.revision ?? 0) + 1;
  const worked = hasWorked || known.some((each) => each.template === template && each.worked === true);
  const earlier = known.filter((each) => each.template !== template);
  const kept = earlier.slice(Math.max(0, earlier.length - spec.revisionHistoryLimit));
  const needed = worked ? undefined : earlier.findLast((each) => each.worked === true);
  return [
    ...(needed === undefined || kept.includes(needed) ? [] : [needed]),
    ...kept,
    { revision, template, ...(worked ? { worked } : {}) },
  ];
}
