import type { LambdaFunction } from '../../api/lambda-function.ts';

/** The owner of the fields that `esb deploy` sets, and of no others. */
export const DEPLOY_MANAGER = 'esb-deploy';

type FieldRecord = NonNullable<LambdaFunction['metadata']['managedFields']>[number];

/** The record of the API server of our fields in a function, and of when they were last applied; undefined for none. */
export function ownFields({ metadata }: LambdaFunction): FieldRecord | undefined {
  return metadata.managedFields?.find(({ manager, operation }) => manager === DEPLOY_MANAGER && operation === 'Apply');
}

/** Whether a record has the field of this path. */
export function isOwnField(record: FieldRecord | undefined, ...path: readonly string[]): boolean {
  return (
    path.reduce<unknown>(
      (at, name) => (at as Readonly<Record<string, unknown>> | undefined)?.[`f:${name}`],
      record?.fieldsV1,
    ) !== undefined
  );
}
