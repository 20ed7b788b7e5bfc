/** A LambdaFunction of the namespace `default`, as `kubectl apply -f -` takes it. */
export function functionManifest(name: string, spec: object, metadata: object = {}): string {
  return JSON.stringify({
    apiVersion: 'esb.dev/v1alpha1',
    kind: 'LambdaFunction',
    metadata: { name, namespace: 'default', ...metadata },
    spec,
  });
}
