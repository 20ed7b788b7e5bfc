import type { LambdaWorker } from './generated/lambda-worker.ts';

export type ImagePullPolicy = 'Always' | 'IfNotPresent' | 'Never';

/**
 * The policy of a worker. Where it gives none, as Kubernetes does: `Always` for the tag `latest` or no tag at all,
 * `IfNotPresent` for other tags and for digests.
 */
export function imagePullPolicyOf(worker: LambdaWorker): ImagePullPolicy {
  const { image, imagePullPolicy } = worker.spec;
  if (imagePullPolicy !== undefined) {
    return imagePullPolicy;
  }
  if (image.includes('@')) {
    return 'IfNotPresent';
  }
  // A colon before the last slash belongs to the registry's port.
  const tag = image.slice(image.lastIndexOf('/') + 1).split(':')[1];
  return tag === undefined || tag === 'latest' ? 'Always' : 'IfNotPresent';
}
