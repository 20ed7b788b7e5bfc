import { stringify } from 'yaml';

/** A LambdaWorker as `kubectl` takes it. */
export function workerManifest(name: string, spec: object, namespace = 'default'): object {
  return { apiVersion: 'esb.dev/v1alpha1', kind: 'LambdaWorker', metadata: { name, namespace }, spec };
}

/** Workers of one kind, as `kubectl create -f -` takes them. */
export function workerManifests(namespace: string, names: readonly string[], spec: object = {}): string {
  return names.map((name) => stringify(workerManifest(name, { image: 'hello:1', ...spec }, namespace))).join('---\n');
}

/** Objects that go into one `kubectl apply -f -`. */
export function manifestList(items: readonly object[]): string {
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
}
