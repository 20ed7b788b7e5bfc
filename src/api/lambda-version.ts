import type { ResourceType } from '../kube/api/types.ts';
import type { LambdaVersion } from './generated/lambda-version.ts';
import { keptPropertiesOf } from './kept-properties.ts';
import {
  calledNameOf,
  FUNCTION_LABEL,
  type LambdaFunction,
  ownerReferenceTo,
  TEMPLATE_ANNOTATION,
  type WorkerSource,
  type WorkerTemplate,
} from './lambda-function.ts';
import { API_GROUP, API_VERSION } from './name.ts';

export type { LambdaVersion, LambdaVersionStatus } from './generated/lambda-version.ts';

export const lambdaVersions: ResourceType<LambdaVersion> = {
  group: API_GROUP,
  version: API_VERSION,
  kind: 'LambdaVersion',
  plural: 'lambdaversions',
  namespaced: true,
};

/** Name of the resource of a version. */
export function versionName({ metadata }: LambdaFunction, version: number): string {
  return versionNameOf(metadata.name, version);
}

/**
 * Name of a version, by the name of the LambdaFunction.
 *
 * @param owner name of the resource
 */
export function versionNameOf(owner: string, version: number): string {
  return `${owner}-${version}`;
}

/** The content of a version, fixed together with its number. */
export interface VersionContent {
  readonly version: number;
  /** Hash of the template of the function. */
  readonly template: string;
  /** The image by its digest. */
  readonly image: string;
}

/** A version of a function as it is created. */
export function versionOf(owner: LambdaFunction, { image, template: hash, version }: VersionContent): LambdaVersion {
  const { metadata, spec, status } = owner;
  const { publication } = keptPropertiesOf(metadata);
  const isDescribed = publication !== undefined && publication.token === status?.publication?.token;
  const description = isDescribed ? publication.description : spec.description;
  return {
    apiVersion: `${API_GROUP}/${API_VERSION}`,
    kind: 'LambdaVersion',
    metadata: {
      name: versionName(owner, version),
      namespace: metadata.namespace,
      labels: { [FUNCTION_LABEL]: metadata.name },
      annotations: { [TEMPLATE_ANNOTATION]: hash },
      ownerReferences: [ownerReferenceTo(owner)],
    },
    spec: {
      functionName: calledNameOf(owner),
      version,
      ...(description === undefined ? {} : { description }),
      template: templateWith(spec.template, image),
    },
  } as LambdaVersion;
}

/** Source of the workers of a version. A version never changes: its number stands for its template. */
export function versionSourceOf({ spec: { template, version } }: LambdaVersion): WorkerSource {
  return { version, template, hash: `version-${version}` };
}

/**
 * The template of a version. Nodes find an image that they may not pull by the name that the template has for it, and
 * by no other.
 *
 * @param image by its digest
 */
export function templateWith(template: WorkerTemplate, image: string): WorkerTemplate {
  return template.spec.imagePullPolicy === 'Never' ? template : { ...template, spec: { ...template.spec, image } };
}
