import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import { lambdaNodes, type NodeAmounts } from '../api/lambda-node.ts';
import { ASSIGNED_NODE_FIELD, type LambdaWorker, lambdaWorkers } from '../api/lambda-worker.ts';
import { CLIENT_CA_NAME, CLUSTER_RANGES_NAME, reporters, WORKER_POLICY_NAME } from '../api/name.ts';
import type { Logger } from '../common/logger.ts';
import { configMaps, nodes } from '../kube/api/resource-types.ts';
import type { Informer, KubeObject, ResourceType } from '../kube/api/types.ts';
import { ListWatchInformer } from '../kube/cache/informer.ts';
import { createKubeClient, LEASE_REQUESTS } from '../kube/client/client.ts';
import { createKubeConnectionSource } from '../kube/client/kube-config.ts';
import { EventRecorder } from '../kube/events/event-recorder.ts';
import type { AgentParts } from './agent-parts.ts';
import { CLUSTER_RANGES_FILE, ClusterCidrs } from './node/cluster-cidrs.ts';
import { promisedCapacity } from './node/promised-capacity.ts';
import { WorkerEvents } from './sync/worker-events.ts';
import { WorkerPolicy } from './sync/worker-policy.ts';

/**
 * Watches of objects that hardly ever change and that nothing urgent depends on. Each agent has several; opened every
 * 45 seconds, they would be most of the requests of a large cluster's agents. TCP finds a dead connection.
 */
const slowWatch = { watchSeconds: 300, watchSilenceMs: 330_000 } as const;

/** Bounds of the Events of one node, of which a cluster may have a thousand. Ten of a worker at once. */
const eventRation = { capacity: 200, burst: 10, writeBurst: 25, writeEveryMs: 1_000 } as const;

/** The agent's view of the API server. */
export type Cluster = ReturnType<typeof createCluster>;

/** Makes the agent's view of the API server, which may be away. Nothing is read before an informer starts. */
export function createCluster({
  clock,
  config,
  logger,
  stateDir,
}: Pick<AgentParts, 'clock' | 'config' | 'logger' | 'stateDir'>) {
  const { kubeconfig, nodeName, systemNamespace } = config.cluster;
  const source = createKubeConnectionSource({ kubeconfig });
  const userAgent = `esb-agent/${nodeName}`;
  const client = createKubeClient({ source, userAgent });
  const leaseClient = createKubeClient({ source, userAgent, maxInFlight: LEASE_REQUESTS });
  const watchOne = <T extends KubeObject>(type: ResourceType<T>, name: string, namespace?: string): Informer<T> =>
    new ListWatchInformer(
      client,
      type,
      { fieldSelector: `metadata.name=${name}`, ...(namespace === undefined ? {} : { namespace }) },
      { logger, ...slowWatch },
    );
  const ownNode = watchOne(nodes, nodeName);
  const publishedRanges = watchOne(configMaps, CLUSTER_RANGES_NAME, systemNamespace);
  const policies = watchOne(configMaps, WORKER_POLICY_NAME, systemNamespace);
  const ownLambdaNode = watchOne(lambdaNodes, nodeName);
  const reporter = { controller: reporters.agent, instance: nodeName };
  const events = new EventRecorder({ client, ...reporter, ...eventRation, logger, clock });
  const machineMiB = totalmem() / 2 ** 20;
  const processors = availableParallelism();
  return {
    client,
    /** Of the Lease alone, which does not wait for other requests. */
    leaseClient,
    ownNode,
    ownLambdaNode,
    /** The capacity that this node promises to workers, by what is known now. */
    promised: (): NodeAmounts => {
      const key = { name: nodeName };
      const wished = ownLambdaNode.cache.get(key)?.spec.capacity;
      return promisedCapacity(config.capacity, wished, ownNode.cache.get(key), machineMiB, processors);
    },
    events,
    workerEvents: new WorkerEvents(events),
    /** Thousandths of a core that are reserved for workers here; undefined where the controller does not say. */
    reservedMilliCPU: (): number | undefined => ownLambdaNode.cache.get({ name: nodeName })?.status?.reserved?.milliCPU,
    clientAuthority: watchOne(configMaps, CLIENT_CA_NAME, systemNamespace),
    publishedRanges,
    policies,
    /** Field selector of the workers of this node. */
    fieldSelector: `${ASSIGNED_NODE_FIELD}=${nodeName}`,
    ranges: new ClusterCidrs({
      client,
      given: config.network.serviceCidr,
      ownNode: ownNode.cache,
      published: publishedRanges.cache,
      hasSynced: () => ownNode.hasSynced() && publishedRanges.hasSynced(),
      file: join(stateDir, CLUSTER_RANGES_FILE),
      clock,
      logger,
    }),
    policy: new WorkerPolicy({ informer: policies, client, clock, logger }),
  };
}

/**
 * Watches the workers of this node.
 *
 * @param onRelist called at each complete list but the first
 */
export function watchAssigned(
  { client, fieldSelector }: Cluster,
  logger: Logger,
  onRelist: () => void,
): Informer<LambdaWorker> {
  return new ListWatchInformer<LambdaWorker>(client, lambdaWorkers, { fieldSelector }, { logger, onRelist });
}
