import { createHash } from 'node:crypto';
import type { ObjectMeta, ResourceType } from '../kube/api/types.ts';
import type { LambdaFunction } from './generated/lambda-function.ts';
import { LABEL_PREFIX } from './label.ts';
import type { LambdaWorker } from './lambda-worker.ts';
import { API_GROUP, API_VERSION } from './name.ts';

export type { LambdaFunction, LambdaFunctionSpec, LambdaFunctionStatus } from './generated/lambda-function.ts';

export const lambdaFunctions: ResourceType<LambdaFunction> = {
  group: API_GROUP,
  version: API_VERSION,
  kind: 'LambdaFunction',
  plural: 'lambdafunctions',
  namespaced: true,
};

/** Label of the workers of a LambdaFunction: the name of the resource. */
export const FUNCTION_LABEL = `${LABEL_PREFIX}lambda-function`;
/** Annotation of the workers of a LambdaFunction: the hash of the template that they were last given. */
export const TEMPLATE_ANNOTATION = `${LABEL_PREFIX}template`;

/** The LambdaFunction that a worker belongs to. */
export interface FunctionOwner {
  readonly name: string;
  readonly uid: string;
}

/** The owner of a worker where that is a LambdaFunction; names and labels say nothing of it. */
export function functionOwnerOf({ ownerReferences }: Pick<ObjectMeta, 'ownerReferences'>): FunctionOwner | undefined {
  const owner = ownerReferences?.find(({ controller }) => controller === true);
  const isOurs = owner?.kind === lambdaFunctions.kind && owner.apiVersion.startsWith(`${API_GROUP}/`);
  return isOurs ? { name: owner.name, uid: owner.uid } : undefined;
}

/** Name of the function as callers write it. */
export function calledNameOf({ metadata, spec }: LambdaFunction): string {
  return spec.functionName ?? metadata.name;
}

/** Tells apart templates whose workers would differ. 16 hexadecimal digits. */
export function templateHashOf({ spec }: LambdaFunction): string {
  const text = JSON.stringify(sorted(spec.template.spec));
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** The same value with the members of each object in the order of their names. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map(sorted);
  }
  if (typeof value !== 'object' || value === null) {
    return value;
  }
  const entries = Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(entries.map(([name, member]) => [name, sorted(member)]));
}

/**
 * A worker of a function as it is created.
 *
 * @param template the hash of the function's template
 */
export function workerOf(owner: LambdaFunction, name: string, template: string): LambdaWorker {
  const { metadata, spec } = owner;
  const { uid = '' } = metadata;
  const apiVersion = `${API_GROUP}/${API_VERSION}`;
  return {
    apiVersion,
    kind: 'LambdaWorker',
    metadata: {
      name,
      namespace: metadata.namespace,
      labels: { [FUNCTION_LABEL]: metadata.name },
      annotations: { [TEMPLATE_ANNOTATION]: template },
      ownerReferences: [
        {
          apiVersion,
          kind: lambdaFunctions.kind,
          name: metadata.name,
          uid,
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
    },
    spec: { ...spec.template.spec, functionName: calledNameOf(owner) },
  };
}
