import { stringify } from 'yaml';

/** Workers of one kind, as `kubectl create -f -` takes them. */
export function workerManifests(namespace: string, names: readonly string[], spec: object = {}): string {
  return names
    .map((name) =>
      stringify({
        apiVersion: 'esb.dev/v1alpha1',
        kind: 'LambdaWorker',
        metadata: { name, namespace },
        spec: { image: 'hello:1', ...spec },
      }),
    )
    .join('---\n');
}
