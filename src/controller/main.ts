import { hostname } from 'node:os';
import { Registry } from 'prom-client';
import { HOLD_SELECTOR, lambdaNodes } from '../api/lambda-node.ts';
import { type LambdaWorker, lambdaWorkers } from '../api/lambda-worker.ts';
import { CONTROLLER_LEASE, GATEWAY_SIGNER, SYSTEM_NAMESPACE } from '../api/name.ts';
import { type Clock, systemClock } from '../common/clock.ts';
import type { Health } from '../common/health.ts';
import { startHealthServer } from '../common/health-server.ts';
import { parseHostPort } from '../common/host-port.ts';
import type { RoleContext } from '../common/role-context.ts';
import { stopInOrder } from '../common/stop-in-order.ts';
import {
  certificateSigningRequests,
  nodes as coreNodes,
  type Node,
  type Pod,
  pods,
} from '../kube/api/resource-types.ts';
import { createInformer } from '../kube/cache/informer.ts';
import { createKubeClient, LEASE_REQUESTS } from '../kube/client/client.ts';
import { fencedClient } from '../kube/client/fenced-client.ts';
import { createKubeConnectionSource } from '../kube/client/kube-config.ts';
import { createLeaderElector } from '../kube/controller/leader-elector.ts';
import { createEventRecorder } from '../kube/events/event-recorder.ts';
import { NODE_INDEX, nodeIndex, runLeader } from './manager.ts';
import { type FleetSource, registerControllerMetrics } from './metrics/controller-metrics.ts';
import { registerReconcilerMetrics } from './metrics/reconciler-metrics.ts';
import type { NodeLiveness } from './scheduling/liveness.ts';
import { waitForSchema } from './schema-check.ts';
import { transformWorker } from './workers/cache-transform.ts';
import { FUNCTION_INDEX, functionIndex } from './workers/disruption-budget.ts';
import { LEAVING_INDEX, leavingIndex } from './workers/left-nodes.ts';

/** Flags of `esb controller`. */
export interface ControllerFlags {
  readonly kubeconfig?: string;
  /** `HOST:PORT` of /healthz, /readyz and /metrics. */
  readonly health: string;
  readonly systemNamespace?: string;
  readonly identity?: string;
  /** ESB's image, for hold Pods; none are made without it. */
  readonly holdImage?: string;
  readonly holdPullPolicy?: string;
  readonly holdPriorityClass?: string;
}

const REPORTING_CONTROLLER = 'esb.dev/controller';

function count<T>(items: readonly T[], labelOf: (item: T) => string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const item of items) {
    const value = labelOf(item);
    counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return counts;
}

/**
 * Runs a controller until the signal fires: keeps its view of the cluster, competes for leadership, and does all that
 * writes while it leads. It goes on as a candidate when leadership is lost. All that it waits for, it measures by `clock`.
 */
export async function runController(
  flags: ControllerFlags,
  context: RoleContext,
  clock: Clock = systemClock,
): Promise<void> {
  const { logger, signal } = context;
  const systemNamespace = flags.systemNamespace ?? SYSTEM_NAMESPACE;
  const identity = flags.identity ?? `${hostname()}_${process.pid}`;
  const source = createKubeConnectionSource({ kubeconfig: flags.kubeconfig });
  const userAgent = `esb-controller/${identity}`;
  const client = createKubeClient({ source, userAgent });
  const leaseClient = createKubeClient({ source, userAgent, maxInFlight: LEASE_REQUESTS });
  const workers = createInformer<LambdaWorker>(
    client,
    lambdaWorkers,
    {},
    {
      logger,
      indexes: { [NODE_INDEX]: nodeIndex, [FUNCTION_INDEX]: functionIndex },
      transform: transformWorker,
    },
  );
  const lambdaNodeInformer = createInformer(
    client,
    lambdaNodes,
    {},
    { logger, indexes: { [LEAVING_INDEX]: leavingIndex } },
  );
  const nodeInformer = createInformer(client, coreNodes, {}, { logger, transform: slimNode });
  const requests = createInformer(
    client,
    certificateSigningRequests,
    { fieldSelector: `spec.signerName=${GATEWAY_SIGNER}` },
    { logger },
  );
  const holds =
    flags.holdImage === undefined
      ? undefined
      : {
          settings: {
            image: flags.holdImage,
            pullPolicy: flags.holdPullPolicy ?? 'IfNotPresent',
            priorityClassName: flags.holdPriorityClass,
          },
          pods: createInformer<Pod>(
            client,
            pods,
            { namespace: systemNamespace, labelSelector: HOLD_SELECTOR },
            { logger },
          ),
        };
  const informers = [
    workers,
    lambdaNodeInformer,
    nodeInformer,
    requests,
    ...(holds === undefined ? [] : [holds.pods]),
  ];

  let liveness: NodeLiveness | undefined;
  const fleet: FleetSource = {
    workersByPhase: () => count(workers.cache.list(), (worker) => worker.status?.phase ?? 'Pending'),
    nodesByLiveness: () =>
      count(lambdaNodeInformer.cache.list(), (node) => liveness?.of(node.metadata.name) ?? 'unknown'),
  };
  const registry = new Registry();
  const metrics = registerControllerMetrics(registry, fleet);
  const reconcilerMetrics = registerReconcilerMetrics(registry);

  let health: Health = {
    ok: false,
    reason: 'Starting',
    message: 'the resource definitions were not read yet',
  };
  const healthServer = await startHealthServer(parseHostPort(flags.health), {
    ready: () => health,
    metricsPage: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
  });
  try {
    await waitForSchema(
      client,
      clock,
      logger,
      (found) => {
        health = found;
      },
      signal,
    );
    health = { ok: false, reason: 'NotSynced', message: 'the first lists are not complete yet' };
    for (const informer of informers) {
      informer.start();
    }
    await Promise.all(informers.map((informer) => informer.synced(signal)));
    health = { ok: true };

    const elector = createLeaderElector({
      client: leaseClient,
      lease: { namespace: systemNamespace, name: CONTROLLER_LEASE },
      identity,
      logger,
      clock,
      onChange: (isLeader) => metrics.leader(isLeader),
    });
    await elector.run(signal, async (termSignal) => {
      const fenced = fencedClient(client, () => elector.isLeader());
      const events = createEventRecorder({
        client: fenced,
        controller: REPORTING_CONTROLLER,
        instance: identity,
        logger,
        clock,
      });
      events.start();
      try {
        await runLeader(
          {
            client: fenced,
            leaseClient,
            systemNamespace,
            workers,
            lambdaNodes: lambdaNodeInformer,
            nodes: nodeInformer,
            requests,
            holds,
            events,
            metrics,
            reconcilerMetrics,
            clock,
            logger,
            onLiveness: (current) => {
              liveness = current;
            },
          },
          termSignal,
        );
      } finally {
        await events.stop();
        liveness = undefined;
      }
    });
  } finally {
    await stopInOrder([
      () => Promise.all(informers.map((informer) => informer.stop())),
      () => healthServer.close(),
      () => Promise.all([client.close(), leaseClient.close()]),
    ]);
  }
}

/** Of a Node only labels, taints, cordon, memory, Pod ranges and existence count; the rest is large and changes a lot. */
function slimNode({ metadata, spec, status }: Node): Node {
  const { taints, unschedulable, podCIDR, podCIDRs } = spec ?? {};
  const memory = status?.capacity?.memory;
  return {
    metadata: { ...metadata, annotations: {} },
    spec: {
      ...(taints === undefined ? {} : { taints }),
      ...(unschedulable === undefined ? {} : { unschedulable }),
      ...(podCIDR === undefined ? {} : { podCIDR }),
      ...(podCIDRs === undefined ? {} : { podCIDRs }),
    },
    ...(memory === undefined ? {} : { status: { capacity: { memory } } }),
  };
}
