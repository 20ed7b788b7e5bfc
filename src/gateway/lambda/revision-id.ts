import { createHash } from 'node:crypto';
import { type KeptProperties, keptPropertiesOf } from '../../api/kept-properties.ts';
import { type LambdaFunction, type LambdaFunctionSpec, templateHashOf } from '../../api/lambda-function.ts';
import type { KubeObject } from '../../kube/api/types.ts';

/** Tells apart states of a resource that were written. Status and labels change no revision. */
export function revisionIdOf({ metadata }: KubeObject): string {
  return `${metadata.uid ?? metadata.name}-${metadata.generation ?? 1}`;
}

/**
 * Tells apart configurations of $LATEST. An autoscaler, an alias and a version that is published change the LambdaFunction
 * and no revision; the role of a function is in no field of the spec, and part of the revision.
 */
export function functionRevisionOf({ metadata, spec }: LambdaFunction, templateHash?: string): string {
  const kept = keptPropertiesOf(metadata);
  const content = `${configurationOf(spec, kept, templateHash)}${kept.changedFrom ?? ''}`;
  return `${metadata.uid ?? metadata.name}-${createHash('sha256').update(content).digest('hex').slice(0, 16)}`;
}

/** The configuration of $LATEST as a text. */
export function configurationOf(
  { description = '', template }: LambdaFunctionSpec,
  kept: KeptProperties,
  templateHash = templateHashOf(template),
): string {
  const { architecture = '', role = '' } = kept;
  return JSON.stringify([templateHash, description, role, architecture]);
}
