import { hostname } from 'node:os';
import { Registry } from 'prom-client';
import { lambdaFunctions } from '../api/lambda-function.ts';
import { HOLD_SELECTOR, lambdaNodes } from '../api/lambda-node.ts';
import { type LambdaQuota, lambdaQuotas } from '../api/lambda-quota.ts';
import { lambdaVersions } from '../api/lambda-version.ts';
import { type LambdaWorker, lambdaWorkers } from '../api/lambda-worker.ts';
import { CONTROLLER_LEASE, GATEWAY_SIGNER, reporters } from '../api/name.ts';
import { FUNCTION_DEFINITIONS, waitForSchema } from '../api/schema-revision.ts';
import { type Clock, systemClock } from '../common/clock.ts';
import { type CallOptions, sleep } from '../common/deadline.ts';
import type { Health } from '../common/health.ts';
import { parseHostPort } from '../common/host-port.ts';
import type { Logger } from '../common/logger.ts';
import { type MetricsPage, startHealthServer } from '../common/net/health-server.ts';
import type { RoleContext } from '../common/role-context.ts';
import { type StopStack, withStops } from '../common/stop-in-order.ts';
import {
  certificateSigningRequests,
  nodes as coreNodes,
  type Namespace,
  type Node,
  namespaces,
  type Pod,
  pods,
} from '../kube/api/resource-types.ts';
import type { KubeClient, ObjectKey } from '../kube/api/types.ts';
import { ListWatchInformer } from '../kube/cache/informer.ts';
import { createKubeClient, LEASE_REQUESTS } from '../kube/client/client.ts';
import { fencedClient } from '../kube/client/fenced-client.ts';
import { createKubeConnectionSource } from '../kube/client/kube-config.ts';
import { OwnWrites } from '../kube/client/own-writes.ts';
import { settlingClient } from '../kube/client/settling-client.ts';
import { LeaderElector } from '../kube/controller/leader-elector.ts';
import type { ReconcilerMetrics } from '../kube/controller/reconciler.ts';
import { EventRecorder } from '../kube/events/event-recorder.ts';
import type { ControllerConfig } from '../options/controller.ts';
import {
  CALLED_INDEX,
  calledIndex,
  ORPHAN_INDEX,
  OWNER_INDEX,
  orphanIndex,
  ownerIndex,
} from './functions/owner-index.ts';
import type { LeaderOptions } from './leader-options.ts';
import { LoadAddress } from './load/serve-load.ts';
import { runLeader } from './manager.ts';
import { type ControllerMetrics, registerControllerMetrics } from './metrics/controller-metrics.ts';
import { registerFunctionMetrics } from './metrics/function-metrics.ts';
import { registerReconcilerMetrics } from './metrics/reconciler-metrics.ts';
import { AGENT_NODE_INDEX, AGENT_POD_SELECTOR, agentNodeIndex, transformAgentPod } from './nodes/agent-pod.ts';
import { NodeLiveness } from './nodes/liveness.ts';
import { earlierLives } from './nodes/node-state.ts';
import { QUEUE_INDEX, QUOTA_INDEX, queueIndex, quotaIndex } from './quota/quota-book.ts';
import { HOLD_INDEX, type HoldSource, holdIndex } from './reservation/hold-controller.ts';
import { transformWorker } from './workers/cache-transform.ts';
import { FUNCTION_INDEX, functionIndex } from './workers/disruption-budget.ts';
import { LEAVING_INDEX, leavingIndex } from './workers/left-nodes.ts';
import { NODE_INDEX, nodeIndex } from './workers/node-index.ts';

/** Milliseconds until a Normal Event is written: of many workers that are placed at once, all are placed before. */
const NORMAL_EVENT_MS = 10_000;

/**
 * Runs a controller until the signal fires: keeps its view of the cluster, competes for leadership, and writes only
 * while it leads. A controller that loses the leadership goes on as a candidate.
 *
 * @param clock measures every wait
 */
export async function runController(
  config: ControllerConfig,
  context: RoleContext,
  clock: Clock = systemClock,
): Promise<void> {
  const { logger, signal } = context;
  await withStops(async (stops) => {
    const identity = config.server.identity ?? `${hostname()}_${process.pid}`;
    const clients = connect(config, identity, stops);
    const informers = createInformers(config, clients.client, logger);
    const observation = new Observation(informers);
    const healthServer = await startHealthServer(parseHostPort(config.server.health), {
      ready: () => observation.health,
      metricsPage: () => observation.page(),
    });
    stops.defer(() => healthServer.close());
    stops.defer(() => Promise.all(informers.all.map((informer) => informer.stop())));
    await waitForSchema(
      {
        client: clients.client,
        clock,
        logger,
        unreadable: 'ApiServerUnavailable',
        definitions: FUNCTION_DEFINITIONS,
        report(found) {
          observation.health = found;
        },
      },
      signal,
    );
    observation.health = { ok: false, reason: 'NotSynced', message: 'the first lists are not complete yet' };
    for (const informer of informers.all) {
      informer.start();
    }
    await Promise.all(informers.all.map((informer) => informer.synced(signal)));
    observation.health = { ok: true };
    const { systemNamespace } = config.cluster;
    const { metrics, reconcilerMetrics } = observation;
    const { strategy } = config.placement;
    const { advertise, listen } = config.demand;
    const load = { loadPlace: { listen: parseHostPort(listen), advertise }, loadAddress: new LoadAddress() };
    await competeForLead(
      { ...informers, ...clients, ...load, systemNamespace, strategy, metrics, reconcilerMetrics, clock, logger },
      identity,
      observation,
      signal,
    );
  });
}

/** The clients of the API server. The one for Leases does not wait for other requests. */
function connect(config: ControllerConfig, identity: string, stops: StopStack) {
  const source = createKubeConnectionSource({ kubeconfig: config.cluster.kubeconfig });
  const userAgent = `esb-controller/${identity}`;
  const client = createKubeClient({ source, userAgent });
  const leaseClient = createKubeClient({ source, userAgent, maxInFlight: LEASE_REQUESTS });
  stops.defer(() => Promise.all([client.close(), leaseClient.close()]));
  return { client, leaseClient };
}

/** The controller's view of the cluster; nothing is read before the informers start. */
function createInformers({ cluster, hold, urls: { domain } }: ControllerConfig, client: KubeClient, logger: Logger) {
  const always = {
    workers: new ListWatchInformer<LambdaWorker>(
      client,
      lambdaWorkers,
      {},
      {
        logger,
        indexes: {
          [NODE_INDEX]: nodeIndex,
          [FUNCTION_INDEX]: functionIndex,
          [QUEUE_INDEX]: queueIndex,
          [OWNER_INDEX]: ownerIndex,
        },
        transform: transformWorker,
      },
    ),
    lambdaNodes: new ListWatchInformer(client, lambdaNodes, {}, { logger, indexes: { [LEAVING_INDEX]: leavingIndex } }),
    quotas: new ListWatchInformer<LambdaQuota>(
      client,
      lambdaQuotas,
      {},
      { logger, indexes: { [QUOTA_INDEX]: quotaIndex } },
    ),
    functions: new ListWatchInformer(client, lambdaFunctions, {}, { logger, indexes: { [CALLED_INDEX]: calledIndex } }),
    versions: new ListWatchInformer(
      client,
      lambdaVersions,
      {},
      { logger, indexes: { [OWNER_INDEX]: ownerIndex, [ORPHAN_INDEX]: orphanIndex } },
    ),
    nodes: new ListWatchInformer(client, coreNodes, {}, { logger, transform: slimNode }),
    agentPods: new ListWatchInformer<Pod>(
      client,
      pods,
      { namespace: cluster.systemNamespace, labelSelector: AGENT_POD_SELECTOR },
      { logger, indexes: { [AGENT_NODE_INDEX]: agentNodeIndex }, transform: transformAgentPod },
    ),
    requests: new ListWatchInformer(
      client,
      certificateSigningRequests,
      { fieldSelector: `spec.signerName=${GATEWAY_SIGNER}` },
      { logger },
    ),
  };
  const holds: HoldSource | undefined =
    hold.image === undefined
      ? undefined
      : {
          settings: {
            image: hold.image,
            pullPolicy: hold.pullPolicy,
            priorityClassName: hold.priorityClass,
            demandClassName: hold.demandClass,
          },
          pods: new ListWatchInformer<Pod>(
            client,
            pods,
            { namespace: cluster.systemNamespace, labelSelector: HOLD_SELECTOR },
            { logger, indexes: { [HOLD_INDEX]: holdIndex } },
          ),
        };
  const urls =
    domain === undefined
      ? undefined
      : {
          domain,
          namespaces: new ListWatchInformer<Namespace>(client, namespaces, {}, { logger, transform: slimNamespace }),
        };
  const all = [
    ...Object.values(always),
    ...(holds === undefined ? [] : [holds.pods]),
    ...(urls === undefined ? [] : [urls.namespaces]),
  ];
  return { ...always, holds, urls, all };
}

type Informers = ReturnType<typeof createInformers>;

/** The health and the metrics of a controller, whether it leads or not. */
class Observation {
  readonly #registry = new Registry();
  readonly metrics: ControllerMetrics;
  readonly reconcilerMetrics: ReconcilerMetrics;
  /** Liveness of the nodes in the present term; undefined for a controller that does not lead. */
  liveness: NodeLiveness | undefined;
  health: Health = { ok: false, reason: 'Starting', message: 'the resource definitions were not read yet' };

  constructor({ functions, lambdaNodes: nodes, workers }: Informers) {
    this.metrics = registerControllerMetrics(this.#registry, {
      phases: () => workers.cache.list().map(({ status }) => status?.phase ?? 'Pending'),
      livenesses: () => nodes.cache.list().map(({ metadata }) => this.liveness?.of(metadata.name) ?? 'unknown'),
    });
    this.reconcilerMetrics = registerReconcilerMetrics(this.#registry);
    registerFunctionMetrics(this.#registry, {
      functions: () => functions.cache.list(),
      workers: () => workers.cache.list(),
      nodes: () => nodes.cache.list(),
      isLeader: () => this.liveness !== undefined,
    });
  }

  async page(): Promise<MetricsPage> {
    return { contentType: this.#registry.contentType, text: await this.#registry.metrics() };
  }
}

/** Competes for the leadership until the signal fires, and leads whenever it is won. */
async function competeForLead(
  given: Omit<LeaderOptions, 'events' | 'liveness' | 'settle'> & Informers & { readonly leaseClient: KubeClient },
  identity: string,
  observation: Observation,
  signal: AbortSignal,
): Promise<void> {
  const { clock, leaseClient, logger, metrics, systemNamespace } = given;
  // Of all terms: a write that one has lost may arrive in the next.
  const settling = settlingClient(given.client, clock);
  const elector = new LeaderElector({
    client: leaseClient,
    lease: { namespace: systemNamespace, name: CONTROLLER_LEASE },
    identity,
    logger,
    clock,
    annotations: () => given.loadAddress.annotations,
    onChange: (isLeader) => metrics.leader(isLeader),
    mayRelease: () => settling.doubtMs() === 0,
  });
  await elector.run(signal, async (term) => {
    await sleep(clock, settling.doubtMs(), term);
    // Writes of the leader before have arrived by now. Caches that show them count them with those of this one.
    await Promise.all(given.all.map((informer) => informer.refresh(term)));
    const writes = new OwnWrites(
      fencedClient(settling.client, () => elector.isLeader()),
      ownedCaches(given),
    );
    const client = writes.client;
    const settle = (key: ObjectKey, call: CallOptions): Promise<void> => writes.settle(key, call);
    const reporter = { controller: reporters.controller, instance: identity };
    const events = new EventRecorder({ client, ...reporter, normalAfterMs: NORMAL_EVENT_MS, logger, clock });
    const liveness = new NodeLiveness(earlierLives(given.lambdaNodes.cache.list(), clock.now()));
    events.start();
    observation.liveness = liveness;
    try {
      await runLeader({ ...given, client, settle, events, liveness }, term);
    } finally {
      await events.stop();
      observation.liveness = undefined;
    }
  });
}

/** The caches of what a leader writes. All Pods that it writes are hold Pods. */
function ownedCaches({ functions, holds, lambdaNodes: nodes, quotas, versions, workers }: Informers) {
  return [
    { type: lambdaWorkers, informer: workers },
    { type: lambdaFunctions, informer: functions },
    { type: lambdaVersions, informer: versions },
    { type: lambdaNodes, informer: nodes },
    { type: lambdaQuotas, informer: quotas },
    ...(holds === undefined ? [] : [{ type: pods, informer: holds.pods }]),
  ];
}

/**
 * The fields of a Node that the controller uses: labels, taints, cordon, CPU and memory for Pods, Pod ranges and whether its
 * kubelet is heard. The rest is large and changes often.
 */
function slimNode({ metadata, spec, status }: Node): Node {
  const { taints, unschedulable, podCIDR, podCIDRs } = spec ?? {};
  const { cpu, memory } = status?.allocatable ?? {};
  const ready = status?.conditions?.find(({ type }) => type === 'Ready');
  return {
    metadata: { ...metadata, annotations: {} },
    spec: { taints, unschedulable, podCIDR, podCIDRs },
    status: {
      allocatable: memory === undefined ? undefined : { memory, ...(cpu === undefined ? {} : { cpu }) },
      conditions: ready === undefined ? undefined : [{ type: ready.type, status: ready.status }],
      nodeInfo: status?.nodeInfo,
    },
  };
}

/** The name and the labels of a namespace. */
function slimNamespace({ metadata: { labels, name, resourceVersion, uid } }: Namespace): Namespace {
  return { metadata: { labels, name, resourceVersion, uid } };
}
