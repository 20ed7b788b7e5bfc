import { mkdir } from 'node:fs/promises';
import { join as joinPath, resolve } from 'node:path';
import { systemClock } from '../common/clock.ts';
import { aborted } from '../common/deadline.ts';
import type { Spawner } from '../common/exec/spawner.ts';
import { formatHostPort, parseHostPort } from '../common/host-port.ts';
import { type HealthServer, type HealthServerOptions, startHealthServer } from '../common/net/health-server.ts';
import { programVersion } from '../common/program-version.ts';
import type { RoleContext } from '../common/role-context.ts';
import { type StopStack, withStops } from '../common/stop-in-order.ts';
import { TaskGroup } from '../common/task-group.ts';
import { openTracing } from '../common/tracing/tracing.ts';
import type { AgentConfig } from '../options/agent.ts';
import { type AgentParts, every } from './agent-parts.ts';
import { type Cluster, createCluster } from './cluster.ts';
import { createMembership, join, type Membership } from './membership.ts';
import { createAgentMetrics } from './metrics.ts';
import { refreshResolvConf } from './node/resolv-conf.ts';
import { uninstall } from './node/uninstall.ts';
import { WorkerMetrics } from './node/worker-usages.ts';
import { openRuntime } from './node-runtime.ts';
import { followClientAuthority, type Port, takePort } from './port.ts';
import { CallBudget, defaultCallBytes } from './rpc/call-budget.ts';
import { createWorkload, startRuntime, type Workload, watchOutput } from './workload.ts';

/** Milliseconds between two runs of each chore. */
const chores = { certificateMs: 60_000, resolvConfMs: 60_000, imagesMs: 60_000, secretsMs: 300_000 } as const;
/** Milliseconds for the last Events, when the agent ends. */
const lastEventsMs = 1_000;

/**
 * Runs the agent of one node until `context.signal` fires. The phases: the port (which makes the process the only agent
 * of the node), the leftovers of an earlier run, serving, and only then the API server, which may be away all the time.
 * A stop touches no worker. On a retired node the agent removes everything once its workers are gone, waits until the
 * node is wanted again, and ends to be started again.
 *
 * @param spawner runs the programs of the operating system; stopped here
 * @throws {EsbError} `AddressInUse` when another agent runs on this node, `InvalidArgument` for flags that make no sense
 */
export async function runAgent(config: AgentConfig, context: RoleContext, spawner: Spawner): Promise<void> {
  const { logger, signal } = context;
  await withStops(async (stops) => {
    const parts = createParts(config, context, stops);
    const cluster = createCluster(parts);
    // Made late, and ended last: /readyz is answered, and the LambdaNode is written, until the end.
    let healthServer: HealthServer | undefined;
    let leave: (() => Promise<void>) | undefined;
    stops.defer(() => Promise.all([cluster.client.close(), cluster.leaseClient.close()]));
    stops.defer(() => healthServer?.close());
    stops.defer(() => cluster.ownLambdaNode.stop());
    stops.defer(() => spawner.stop());
    stops.defer(() => leave?.());
    const tracing = startTracing(parts);

    const node = await openRuntime(parts, cluster, spawner, () =>
      parts.tasks.run('making room for an image', (ended) => workload.imageCollector.makeRoom({ signal: ended })),
    );
    const { runtime } = node;
    await createFolders(parts);
    const heldBytes = config.capacity.maxHeldBytes ?? defaultCallBytes(process.constrainedMemory());
    const budget = new CallBudget(heldBytes, parts.clock);
    const port = await takePort(parts, budget);
    stops.defer(() => (leave === undefined ? runtime.stop() : undefined));
    await refreshResolvConf(parts.resolvConfPath, config.cluster.systemNamespace).catch((error: unknown) => {
      logger.error({ err: error }, 'resolv.conf of the workers cannot be written');
    });
    const workload = createWorkload(parts, cluster, node, budget);
    const { fleet, health } = workload;
    const watched = [cluster.ownNode, cluster.clientAuthority, cluster.publishedRanges, cluster.policies];
    stops.defer(() => Promise.all([...watched.map((informer) => informer.stop()), parts.tasks.stop()]));
    const membership = createMembership(parts, cluster, port, workload, () => leave !== undefined);
    stops.defer(() => cluster.events.stop(lastEventsMs));
    stops.defer(() => fleet.stop(config.upkeep.drainSeconds * 1_000, () => port.server.refuse()));

    await membership.reservation.load();
    const started = startRuntime(parts, runtime);
    healthServer = await startHealthServer(parseHostPort(config.server.health), {
      // A roll-out does not have to wait for an agent that has nothing more to do here.
      ready: () => (leave === undefined ? health.ready() : { ok: true }),
      metricsPage: parts.metrics.page,
      pages: workerPages(config, workload),
    });
    const listen = formatHostPort(port.bound);
    const addresses = { listen, endpoint: port.endpoint, health: formatHostPort(healthServer.address) };
    logger.info(addresses, 'agent has its ports');
    parts.tasks.run('health', (ended) => health.run(ended));
    join(parts, cluster, workload, membership);
    followClientAuthority(parts, cluster, port);
    await started;
    await serve(parts, cluster, workload, membership, port, await tracing);
    startChores(parts, workload, membership, port);

    const retired = membership.decommission.due.then(() => {
      if (!signal.aborted) {
        leave = () => leaveNode(parts, workload, membership);
      }
    });
    await Promise.race([aborted(signal), retired]);
    logger.info(leave === undefined ? 'agent stops' : 'agent leaves the node');
    health.note('start', { ok: false, reason: 'Stopping', message: 'the agent is stopping' });
  });
  logger.info('agent stopped');
}

function createParts(config: AgentConfig, { logger, signal }: RoleContext, stops: StopStack): AgentParts {
  const stateDir = resolve(config.folders.state);
  return {
    config,
    stateDir,
    runDir: resolve(config.folders.run),
    resolvConfPath: joinPath(stateDir, 'resolv.conf'),
    metrics: createAgentMetrics(programVersion()),
    tasks: new TaskGroup((task, error) => logger.error({ err: error, task }, 'task of the agent failed')),
    stops,
    clock: systemClock,
    logger,
    signal,
  };
}

async function createFolders({ runDir, stateDir }: AgentParts): Promise<void> {
  const folders = [stateDir, joinPath(stateDir, 'workers'), joinPath(stateDir, 'logs'), runDir];
  await Promise.all(folders.map((folder) => mkdir(folder, { recursive: true, mode: 0o700 })));
}

/** Names of workers are told to whom asks: the page is there by choice. */
function workerPages({ server }: AgentConfig, { fleet, usages }: Workload): NonNullable<HealthServerOptions['pages']> {
  const metrics = new WorkerMetrics();
  return server.workerMetrics ? { '/metrics/workers': () => metrics.page(fleet, usages) } : {};
}

/** Never rejects. Loads the exporter in the background where spans are wanted. */
function startTracing({ clock, config, logger, stops }: AgentParts): ReturnType<typeof openTracing> {
  const tracing = openTracing({
    service: 'esb-agent',
    attributes: { 'service.version': programVersion(), 'k8s.node.name': config.cluster.nodeName },
    endpoint: config.server.otlpEndpoint,
    env: process.env,
    clock,
    logger,
  });
  stops.defer(async () => (await tracing)?.close());
  return tracing;
}

/** Takes over the workers of an earlier run and serves calls; then follows the API server. */
async function serve(
  { logger, metrics, signal, tasks }: AgentParts,
  { events, policy, workerEvents }: Cluster,
  { fleet, health, runtime, usages }: Workload,
  { watch, writer }: Membership,
  { server }: Port,
  tracing: Awaited<ReturnType<typeof openTracing>>,
): Promise<void> {
  await fleet.adopt({ signal });
  server.serve({
    fleet,
    logs: runtime,
    usages: () => usages.read(),
    metricsPage: metrics.page,
    onInvoked: metrics.invoked,
    tracing,
  });
  health.note('start', { ok: true });
  workerEvents.follow(fleet);
  events.start();
  writer.start();
  tasks.run('start of the watch', async (ended) => {
    await policy.listed(ended);
    if (!ended.aborted) {
      watch.start();
    }
  });
  logger.info({ workers: fleet.views().length }, 'agent serves');
}

/** Starts what runs beside calls. Images are collected only now that the fleet knows which ones its workers want. */
function startChores(
  parts: AgentParts,
  workload: Workload,
  { decommission, registration }: Membership,
  port: Port,
): void {
  const { config, resolvConfPath, tasks } = parts;
  const { fleet, garbage, imageCollector, secretReader } = workload;
  every(parts, 'certificate', chores.certificateMs, async () => {
    if (await port.renew()) {
      registration.hurry();
    }
  });
  every(parts, 'resolv.conf', chores.resolvConfMs, () =>
    refreshResolvConf(resolvConfPath, config.cluster.systemNamespace),
  );
  every(parts, 'secrets', chores.secretsMs, () => secretReader.keepOnly(fleet.secrets()));
  every(parts, 'images', chores.imagesMs, (signal) => imageCollector.look({ signal }));
  tasks.run('garbage collection', (signal) => garbage.run(signal));
  tasks.run('retirement', (signal) => decommission.run(signal));
  watchOutput(parts, workload);
}

/** Removes everything, and waits until the node is wanted again or the agent is to end. */
async function leaveNode(
  { clock, logger, runDir, signal, stateDir }: AgentParts,
  { health, runtime }: Workload,
  { decommission, registration, reservation }: Membership,
): Promise<void> {
  try {
    await reservation.end();
    await uninstall({ runtime, health, registration, stateDir, runDir, clock, logger }, signal);
    await decommission.wantedAgain(signal);
    logger.info('the node is wanted again: the agent ends to be started again');
  } catch (error) {
    if (!signal.aborted) {
      throw error;
    }
  }
}
