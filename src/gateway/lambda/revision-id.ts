import type { KubeObject } from '../../kube/api/types.ts';

/** Tells apart states of a function that were written. Status and labels of a resource change no revision. */
export function revisionIdOf({ metadata }: KubeObject): string {
  return `${metadata.uid ?? metadata.name}-${metadata.generation ?? 1}`;
}
