import { join } from 'node:path';
import type { KubeClient } from '../../src/kube/api/types.ts';
import { createKubeClient } from '../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../src/kube/client/kube-config.ts';
import { type ApiServer, type ApiServerOptions, startApiServer } from './api-server.ts';
import { type FakeNode, startFakeNode } from './fake-node.ts';

/** A real API server with the definitions, roles and policies of the manifests, and one node that plays its workers. */
export interface FunctionServer {
  readonly server: ApiServer;
  readonly admin: KubeClient;
  /** File by which a controller has its own account. */
  readonly controllerConfig: string;
  readonly node: FakeNode;
  close(): Promise<void>;
}

/** Starts one. The caller closes it, also when the test fails (`afterAll`). */
export async function startFunctionServer(options: ApiServerOptions = {}): Promise<FunctionServer> {
  const server = await startApiServer(options);
  const closers: (() => Promise<unknown>)[] = [() => server.stop()];
  const close = async (): Promise<void> => {
    for (const each of closers.splice(0).toReversed()) {
      await each();
    }
  };
  try {
    const manifests = ['namespace', 'rbac', 'status-policy', 'worker-policy'].map((name) => `manifests/${name}.yaml`);
    for (const part of ['crds', ...manifests, 'manifests/local']) {
      await server.kubectl(['apply', '-f', join(import.meta.dirname, '../..', part)]);
    }
    const admin = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: server.adminKubeconfig }) });
    closers.push(() => admin.close());
    const node = await startFakeNode(admin, 'node-1', {
      capacity: { memoryMiB: 100_000, milliCPU: 100_000, workers: 1_000 },
    });
    closers.push(() => node.die());
    return { server, admin, controllerConfig: await server.kubeconfig('esb:controller'), node, close };
  } catch (error) {
    await close();
    throw error;
  }
}
