import { type LambdaNode, lambdaNodes } from '../api/lambda-node.ts';
import { type LambdaWorker, lambdaWorkers } from '../api/lambda-worker.ts';
import { waitForSchema } from '../api/schema-revision.ts';
import { systemClock } from '../common/clock.ts';
import { aborted } from '../common/deadline.ts';
import type { Health } from '../common/health.ts';
import { parseHostPort } from '../common/host-port.ts';
import { type HealthServer, startHealthServer } from '../common/net/health-server.ts';
import type { RoleContext } from '../common/role-context.ts';
import { type StopStack, withStops } from '../common/stop-in-order.ts';
import { TaskGroup } from '../common/task-group.ts';
import { openTracing } from '../common/tracing/tracing.ts';
import { ListWatchInformer } from '../kube/cache/informer.ts';
import { createKubeClient } from '../kube/client/client.ts';
import { createKubeConnectionSource } from '../kube/client/kube-config.ts';
import type { GatewayConfig } from '../options/gateway.ts';
import { gatewayLimits } from './admission/gateway-limits.ts';
import { ClientIdentity } from './agents/client-identity.ts';
import { EndpointGuard } from './events/endpoint-guard.ts';
import { openEventStore } from './events/event-store-choice.ts';
import { Gateway, type GatewayOptions } from './gateway.ts';
import { createGatewayAccess } from './gateway-access.ts';
import { createAccessLog } from './telemetry/access-log.ts';

/** Times that no flag sets; each is that of every gateway when absent. */
export type GatewayTimes = Pick<GatewayOptions, 'maxWaitMs' | 'patience'>;

/** A phase of the start: has the configuration, and defers the end of the parts that it makes. */
interface Phase {
  readonly config: GatewayConfig;
  readonly context: RoleContext;
  readonly stops: StopStack;
}

/** Runs a gateway until the signal fires, and then lets every call end. */
export async function runGateway(config: GatewayConfig, context: RoleContext, times: GatewayTimes = {}): Promise<void> {
  await withStops(async (stops) => {
    const phase: Phase = { config, context, stops };
    const listen = parseHostPort(config.server.listen);
    const healthAddress = parseHostPort(config.server.health);
    // Made once there is a gateway, and closed last: /readyz tells that the gateway ends.
    let healthServer: HealthServer | undefined;
    stops.defer(() => healthServer?.close());
    const cluster = connect(phase);
    const { gateway, identity, callers } = await open(phase, cluster, times);
    let schema: Health = { ok: false, reason: 'NotChecked', message: 'resource definitions were not read yet' };
    healthServer = await startHealthServer(healthAddress, {
      ready: () => [schema, callers.health(), gateway.health()].find(({ ok }) => !ok) ?? { ok: true },
      metricsPage: () => gateway.metrics.page(),
    });
    await gateway.listen(listen);
    cluster.workers.start();
    cluster.nodes.start();
    callers.start(listen);
    cluster.tasks.run('client certificate', (stop) => identity.run(stop));
    cluster.tasks.run('resource definitions', (stop) =>
      waitForSchema(
        {
          client: cluster.client,
          clock: systemClock,
          logger: context.logger,
          unreadable: 'DefinitionsUnreadable',
          report(health) {
            schema = health;
          },
        },
        stop,
      ),
    );
    await aborted(context.signal);
    context.logger.info('stopping: letting calls end');
  });
}

/** The gateway's side of the API server; nothing is read before its informers start. */
function connect({ config, context: { logger }, stops }: Phase) {
  const { kubeconfig, namespace } = config.cluster;
  const client = createKubeClient({ source: createKubeConnectionSource({ kubeconfig }), userAgent: 'esb-gateway' });
  stops.defer(() => client.close());
  const workers = new ListWatchInformer<LambdaWorker>(client, lambdaWorkers, { namespace }, { logger });
  const nodes = new ListWatchInformer<LambdaNode>(client, lambdaNodes, {}, { logger });
  stops.defer(() => nodes.stop());
  stops.defer(() => workers.stop());
  const tasks = new TaskGroup((task, error) => logger.error({ err: error, task }, 'task failed'));
  stops.defer(() => tasks.stop());
  return { client, workers, nodes, tasks };
}

async function open(
  { config, context: { logger }, stops }: Phase,
  { client, nodes, workers }: ReturnType<typeof connect>,
  times: GatewayTimes,
) {
  const { namespace } = config.cluster;
  const { stateDir } = config.server;
  const clock = systemClock;
  const env = process.env;
  const endpoints = new EndpointGuard({ allowed: config.events.destinations });
  const { accessLog, metricsFunctions, otlpEndpoint, timingHeaders } = config.observation;
  const tracing = await openTracing({
    clock,
    logger,
    env,
    service: 'esb-gateway',
    attributes: { 'k8s.namespace.name': namespace },
    endpoint: otlpEndpoint,
  });
  stops.defer(() => tracing?.close());
  const callers = await createGatewayAccess({
    flags: config,
    namespace,
    client,
    clock,
    logger,
    isApiServerAway: () => workers.hasSynced() && !workers.isCurrent(),
  });
  stops.defer(() => callers.stop());
  const eventStore = await openEventStore({ stateDir, namespace, events: config.events }, { env, clock, logger });
  stops.defer(() => eventStore.close());
  const identity: ClientIdentity = await ClientIdentity.open({
    folder: stateDir,
    namespace,
    client,
    clock,
    logger,
    onChange: () => gateway.reconnect(),
  });
  const gateway: Gateway = new Gateway({
    namespace,
    workers,
    nodes,
    identity,
    eventStore,
    endpoints,
    clock,
    logger,
    timingHeaders,
    access: callers.access,
    ...(callers.createServer === undefined ? {} : { createServer: callers.createServer }),
    limits: gatewayLimits(config.limits),
    ...times,
    observation: { listeners: accessLog ? [createAccessLog(logger)] : [], tracing, maxFunctions: metricsFunctions },
  });
  stops.defer(() => gateway.stop());
  return { gateway, identity, callers };
}
