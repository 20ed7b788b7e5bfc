import { type LambdaNode, lambdaNodes } from '../api/lambda-node.ts';
import { type LambdaWorker, lambdaWorkers } from '../api/lambda-worker.ts';
import { checkDefinition, DEFINITION_NAMES } from '../api/schema-revision.ts';
import { systemClock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import { messageOf } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import { parseHostPort } from '../common/host-port.ts';
import type { RoleContext } from '../common/role-context.ts';
import { TaskGroup } from '../common/task-group.ts';
import { createKubeClient } from '../kube/client.ts';
import { createInformer } from '../kube/informer.ts';
import { createKubeConnectionSource } from '../kube/kube-config.ts';
import { type CustomResourceDefinition, customResourceDefinitions } from '../kube/resource-types.ts';
import type { KubeClient } from '../kube/types.ts';
import { ClientIdentity } from './client-identity.ts';
import { Gateway } from './gateway.ts';
import { HealthServer } from './health-server.ts';

/** Milliseconds between two looks at the installed resource definitions, until they fit. */
const SCHEMA_RETRY_MS = 5_000;

/** Flags of `esb gateway`. */
export interface GatewayFlags {
  readonly kubeconfig?: string;
  readonly namespace: string;
  readonly listen: string;
  readonly health: string;
  readonly stateDir: string;
}

/** Runs a gateway until the signal fires, and then lets every call end. */
export async function runGateway(flags: GatewayFlags, context: RoleContext): Promise<void> {
  const { logger, signal } = context;
  const clock = systemClock;
  const listen = parseHostPort(flags.listen);
  const healthAddress = parseHostPort(flags.health);
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
    client,
    clock,
    logger,
    onChange: () => gateway.reconnect(),
  });
  const gateway: Gateway = new Gateway({
    namespace: flags.namespace,
    workers,
    nodes,
    client,
    identity,
    clock,
    logger,
  });
  let schema: Health = { ok: false, reason: 'NotChecked', message: 'resource definitions were not read yet' };
  const healthServer = new HealthServer({
    ready: () => (schema.ok ? gateway.health() : schema),
    metricsPage: () => gateway.metrics.page(),
  });
  const tasks = new TaskGroup((task, error) => logger.error({ err: error, task }, 'task failed'));
  try {
    await healthServer.listen(healthAddress);
    await gateway.listen(listen);
    workers.start();
    nodes.start();
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
    await gateway.stop();
    await tasks.stop();
    await Promise.all([workers.stop(), nodes.stop()]);
    await healthServer.close();
    await client.close();
  }
}

async function checkSchema(client: KubeClient, signal: AbortSignal): Promise<Health> {
  for (const name of DEFINITION_NAMES) {
    try {
      const installed = await client.get<CustomResourceDefinition>(
        customResourceDefinitions,
        { name },
        { signal, deadlineMs: 10_000 },
      );
      const fit = checkDefinition(name, installed);
      if (!fit.ok) {
        return fit;
      }
    } catch (error) {
      signal.throwIfAborted();
      return {
        ok: false,
        reason: 'DefinitionsUnreadable',
        message: `cannot read ${name}: ${messageOf(error)}`,
      };
    }
  }
  return { ok: true };
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) {
    return;
  }
  const fired = Promise.withResolvers<void>();
  signal.addEventListener('abort', () => fired.resolve(), { once: true });
  await fired.promise;
}
