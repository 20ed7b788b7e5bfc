import type { LambdaFunction, LambdaFunctionStatus } from '../../api/lambda-function.ts';

/** One entry of `status.revisions`. */
export type Revision = NonNullable<LambdaFunctionStatus['revisions']>[number];

/**
 * The templates to keep: the earlier ones by age, and last the present one. A template that comes back gets the next number
 * and keeps no earlier one, as in Deployments. Written with the status: a number so never means two templates, under any
 * leader.
 *
 * @param template hash of the present one
 */
export function revisionsAfter({ metadata, spec, status }: LambdaFunction, template: string): readonly Revision[] {
  const known = status?.revisions ?? [];
  const last = known.at(-1);
  if (metadata.deletionTimestamp !== undefined && last !== undefined) {
    return known;
  }
  const present = last?.template === template ? last : { revision: (last?.revision ?? 0) + 1, template };
  const earlier = known.filter((each) => each.template !== template);
  return [...earlier.slice(Math.max(0, earlier.length - spec.revisionHistoryLimit)), present];
}
