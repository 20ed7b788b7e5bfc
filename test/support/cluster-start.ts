import { join, resolve } from 'node:path';
import type { ApiServer } from './api-server.ts';

const root = resolve(import.meta.dirname, '../..');

/**
 * Applies files of the repository and objects by one run of kubectl, in this order, and waits until the definitions of
 * resources are served.
 *
 * @param files paths from the root of the repository
 */
export async function prepareCluster(
  api: Pick<ApiServer, 'kubectl'>,
  files: readonly string[],
  objects: readonly object[] = [],
): Promise<void> {
  const input = objects.length === 0 ? [] : ['-f', '-'];
  await api.kubectl(
    ['apply', ...files.flatMap((file) => ['-f', join(root, file)]), ...input],
    objects.length === 0 ? undefined : objects.map((object) => JSON.stringify(object)).join('\n---\n'),
  );
  await api.kubectl(['wait', '--for=condition=Established', '--timeout=60s', 'crd', '--all']);
}

/** ConfigMap that tells agents which authority signs for gateways. */
export function clientAuthority(certificate: string): object {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'esb-client-ca', namespace: 'esb-system' },
    data: { 'ca.crt': certificate },
  };
}
