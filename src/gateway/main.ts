import { type LambdaNode, lambdaNodes } from '../api/lambda-node.ts';
import { type LambdaWorker, lambdaWorkers } from '../api/lambda-worker.ts';
import { checkDefinitions } from '../api/schema-revision.ts';
import { systemClock } from '../common/clock.ts';
import { aborted, sleep } from '../common/deadline.ts';
import { messageOf } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import { type HealthServer, startHealthServer } from '../common/health-server.ts';
import { parseHostPort } from '../common/host-port.ts';
import type { RoleContext } from '../common/role-context.ts';
import { stopInOrder } from '../common/stop-in-order.ts';
import { TaskGroup } from '../common/task-group.ts';
import { customResourceDefinitions } from '../kube/api/resource-types.ts';
import type { KubeClient } from '../kube/api/types.ts';
import { createInformer } from '../kube/cache/informer.ts';
import { createKubeClient } from '../kube/client/client.ts';
import { createKubeConnectionSource } from '../kube/client/kube-config.ts';
import { gatewayLimits, type LimitFlags } from './admission/gateway-limits.ts';
import { ClientIdentity } from './agents/client-identity.ts';
import { EndpointGuard } from './events/endpoint-guard.ts';
import { type EventFlags, openEventStore } from './events/event-store-choice.ts';
import { Gateway, type GatewayOptions } from './gateway.ts';
import { type AccessFlags, createGatewayAccess } from './gateway-access.ts';
import { type ObservationFlags, openObservation } from './telemetry/gateway-observation.ts';

/** Milliseconds between two looks at the installed resource definitions, until they fit. */
const SCHEMA_RETRY_MS = 5_000;

/** Flags of `esb gateway`. */
export interface GatewayFlags extends AccessFlags, EventFlags, LimitFlags, ObservationFlags {
  readonly kubeconfig?: string;
  readonly namespace: string;
  readonly listen: string;
  readonly health: string;
  readonly stateDir: string;
  readonly timingHeaders: boolean;
  readonly eventDestination: readonly string[];
}

/** Times that no flag sets; each is that of every gateway when absent. */
export type GatewayTimes = Pick<GatewayOptions, 'maxWaitMs' | 'patience'>;

/** Runs a gateway until the signal fires, and then lets every call end. */
export async function runGateway(
  flags: GatewayFlags,
  context: RoleContext,
  times: GatewayTimes = {},
): Promise<void> {
  const { logger, signal } = context;
  const clock = systemClock;
  const listen = parseHostPort(flags.listen);
  const healthAddress = parseHostPort(flags.health);
  const endpoints = new EndpointGuard({ allowed: flags.eventDestination });
  const eventStore = await openEventStore(flags, {
    env: process.env,
    clock,
    logger,
  });
  const client = createKubeClient({
    source: createKubeConnectionSource({ kubeconfig: flags.kubeconfig }),
    userAgent: 'esb-gateway',
  });
  const workers = createInformer<LambdaWorker>(
    client,
    lambdaWorkers,
    { namespace: flags.namespace },
    { logger },
  );
  const nodes = createInformer<LambdaNode>(client, lambdaNodes, {}, { logger });
  const identity: ClientIdentity = await ClientIdentity.open({
    folder: flags.stateDir,
    namespace: flags.namespace,
    client,
    clock,
    logger,
    onChange: () => gateway.reconnect(),
  });
  const observation = await openObservation(flags, {
    clock,
    logger,
    env: process.env,
    namespace: flags.namespace,
  });
  const callers = await createGatewayAccess({
    flags,
    namespace: flags.namespace,
    client,
    clock,
    logger,
    isApiServerAway: () => workers.hasSynced() && !workers.isCurrent(),
  });
  const gateway: Gateway = new Gateway({
    namespace: flags.namespace,
    workers,
    nodes,
    client,
    identity,
    eventStore,
    endpoints,
    clock,
    logger,
    timingHeaders: flags.timingHeaders,
    access: callers.access,
    ...(callers.createServer === undefined ? {} : { createServer: callers.createServer }),
    limits: gatewayLimits(flags),
    ...times,
    observation,
  });
  let schema: Health = { ok: false, reason: 'NotChecked', message: 'resource definitions were not read yet' };
  const tasks = new TaskGroup((task, error) => logger.error({ err: error, task }, 'task failed'));
  let healthServer: HealthServer | undefined;
  try {
    healthServer = await startHealthServer(healthAddress, {
      ready: () => [schema, callers.health(), gateway.health()].find(({ ok }) => !ok) ?? { ok: true },
      metricsPage: () => gateway.metrics.page(),
    });
    await gateway.listen(listen);
    workers.start();
    nodes.start();
    callers.start(listen);
    tasks.run('client certificate', (stop) => identity.run(stop));
    tasks.run('resource definitions', async (stop) => {
      for (;;) {
        const now = await checkSchema(client, stop);
        if (!now.ok && (schema.ok || now.message !== schema.message)) {
          logger.warn({ reason: now.reason, detail: now.message }, 'resource definitions do not fit');
        }
        schema = now;
        if (now.ok) {
          return;
        }
        await sleep(clock, SCHEMA_RETRY_MS, stop);
      }
    });
    await aborted(signal);
    logger.info('stopping: letting calls end');
  } finally {
    await stopInOrder([
      () => gateway.stop(),
      () => eventStore.close(),
      () => callers.stop(),
      () => observation.tracing?.close(),
      () => tasks.stop(),
      () => workers.stop(),
      () => nodes.stop(),
      () => healthServer?.close(),
      () => client.close(),
    ]);
  }
}

async function checkSchema(client: KubeClient, signal: AbortSignal): Promise<Health> {
  try {
    return await checkDefinitions((name) =>
      client.get(customResourceDefinitions, { name }, { signal, deadlineMs: 10_000 }),
    );
  } catch (error) {
    signal.throwIfAborted();
    return {
      ok: false,
      reason: 'DefinitionsUnreadable',
      message: `cannot read the resource definitions: ${messageOf(error)}`,
    };
  }
}
