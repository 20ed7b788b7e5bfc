import { Limiter } from '../../../src/common/limiter.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { nodes, type Pod, pods } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { ListWatchInformer } from '../../../src/kube/cache/informer.ts';

/** Requests at a time, of all kubelets. */
const CONCURRENCY = 8;

/** The kubelets of simulated nodes, as far as Pods of ESB are concerned: each gets what it asks for, and ends at once. */
export class SimulatedKubelets {
  readonly #client: KubeClient;
  readonly #informer: ListWatchInformer<Pod>;
  readonly #limiter = new Limiter(CONCURRENCY);
  readonly #running = new Set<Promise<void>>();

  private constructor(client: KubeClient, namespace: string) {
    this.#client = client;
    this.#informer = new ListWatchInformer(client, pods, { namespace }, { logger: silentLogger() });
    this.#informer.subscribe(({ kind, object }) => {
      if (kind !== 'deleted') {
        const running = this.#limiter
          .run(() => this.#look(object))
          // A Pod that has changed meanwhile comes again.
          .catch(() => undefined)
          .finally(() => this.#running.delete(running));
        this.#running.add(running);
      }
    });
  }

  /** Makes the Nodes, with so much memory for Pods, and looks after their Pods from now on. */
  static async start(
    client: KubeClient,
    names: readonly string[],
    { memoryMiB, namespace }: { readonly memoryMiB: number; readonly namespace: string },
  ): Promise<SimulatedKubelets> {
    const status = { allocatable: { memory: `${memoryMiB}Mi`, pods: '110', cpu: '8' } };
    const limiter = new Limiter(CONCURRENCY);
    await Promise.all(
      names.map((name) =>
        limiter.run(async () => {
          await client.create(nodes, { metadata: { name, labels: { 'kubernetes.io/hostname': name } } });
          await client.patch(nodes, { name }, { kind: 'merge', body: { status } }, { subresource: 'status' });
          // Nodes are born with a taint that goes with their first sign of life.
          await client.patch(nodes, { name }, { kind: 'merge', body: { spec: { taints: [] } } });
        }),
      ),
    );
    const kubelets = new SimulatedKubelets(client, namespace);
    kubelets.#informer.start();
    return kubelets;
  }

  async stop(): Promise<void> {
    await this.#informer.stop();
    await Promise.all(this.#running);
  }

  async #look({ metadata, spec, status }: Pod): Promise<void> {
    const { name, namespace, uid } = metadata;
    const key = { namespace, name };
    if (spec?.nodeName === undefined) {
      return;
    }
    if (metadata.deletionTimestamp !== undefined) {
      await this.#client.delete(pods, key, { uid, gracePeriodSeconds: 0 });
      return;
    }
    const [container] = spec.containers;
    const requests = container?.resources?.requests ?? {};
    const allocated = status?.containerStatuses?.[0]?.allocatedResources;
    if (container === undefined || allocated?.memory === requests.memory) {
      return;
    }
    const startedAt = `${new Date().toISOString().slice(0, 19)}Z`;
    const running = {
      name: container.name,
      image: container.image,
      imageID: '',
      ready: true,
      restartCount: 0,
      state: { running: { startedAt } },
      allocatedResources: requests,
      resources: { requests },
    };
    const told = { phase: 'Running', startTime: status?.startTime ?? startedAt, containerStatuses: [running] };
    await this.#client.patch(pods, key, { kind: 'merge', body: { status: told } }, { subresource: 'status' });
  }
}
