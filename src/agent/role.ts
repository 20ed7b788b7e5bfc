import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ASSIGNED_NODE_FIELD, type LambdaWorker, lambdaWorkers } from '../api/lambda-worker.ts';
import { CLIENT_CA_NAME, CLIENT_CA_PUBLIC_KEY } from '../api/name.ts';
import { formatRange, parseIpv4Range } from '../cni/ipv4-range.ts';
import { createNodeNetwork } from '../cni/node-network.ts';
import { systemClock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import { EsbError, messageOf } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import { formatHostPort, parseHostPort } from '../common/host-port.ts';
import type { Logger } from '../common/logger.ts';
import type { RoleContext } from '../common/role-context.ts';
import { TaskGroup } from '../common/task-group.ts';
import { createKubeClient } from '../kube/client.ts';
import { createInformer } from '../kube/informer.ts';
import { createKubeConnectionSource } from '../kube/kube-config.ts';
import { configMaps, nodes } from '../kube/resource-types.ts';
import type { ContainerRuntime } from '../runtime/container-runtime.ts';
import { createRuntime } from '../runtime/runtime-factory.ts';
import type { AgentOptions } from './agent-options.ts';
import { createApiSecretReader } from './api-secret-reader.ts';
import { ClientAuthority } from './client-authority.ts';
import { ClusterRanges } from './cluster-ranges.ts';
import { diskHealth } from './disk-health.ts';
import { AgentGrpcServer } from './grpc-server.ts';
import type { HealthServer } from './health-server.ts';
import { createAgentMetrics } from './metrics.ts';
import { NetworkRepair } from './network-repair.ts';
import { NodeHealth } from './node-health.ts';
import { keepNodeLease } from './node-lease.ts';
import { NodeRegistration } from './node-registration.ts';
import { defaultMemoryMiB, endpointOf, machineVersions } from './node-status.ts';
import { refreshResolvConf } from './resolv-conf.ts';
import { checkSchema } from './schema-check.ts';
import { ServerIdentity } from './server-identity.ts';
import { StatusWriter } from './status-writer.ts';
import { createFleet } from './worker-fleet.ts';
import { WorkerWatch } from './worker-watch.ts';

/** Milliseconds that the first start of the runtime gets before workers are looked after without it. */
const firstStartMs = 5_000;
const startRetryMs = 1_000;
/** Milliseconds that calls in workers get when the agent stops. */
const drainMs = 20_000;
/** Milliseconds between two looks at what hardly ever changes: own certificate, name servers, leftovers. */
const chore = { certificateMs: 60_000, resolvConfMs: 60_000, repairMs: 300_000, imagesMs: 60_000 } as const;
const schemaRetryMs = 10_000;

/**
 * Runs the agent of one node until `context.signal` fires. In this order: the port (which makes it the only agent of
 * the node), what an earlier run left, serving, and only then the API server, which may be away all the time. Stopping
 * touches no worker.
 *
 * @throws {EsbError} `AddressInUse` when another agent runs on this node, `InvalidArgument` for options that make no sense
 */
export async function runAgent(options: AgentOptions, context: RoleContext): Promise<void> {
  const { signal, logger } = context;
  const clock = systemClock;
  const { nodeName, systemNamespace } = options;
  const deniedRanges = options.denyCidr.map((cidr) => formatRange(parseIpv4Range(cidr)));
  const stateDir = resolve(options.stateDir);
  const runDir = resolve(options.runDir);
  await Promise.all(
    [stateDir, join(stateDir, 'workers'), runDir].map((folder) =>
      mkdir(folder, { recursive: true, mode: 0o700 }),
    ),
  );

  const server = new AgentGrpcServer({ logger, clock });
  const bound = await server.bind(parseHostPort(options.listen));
  const endpoint = endpointOf(options.advertise, bound);
  const tasks = new TaskGroup((task, error) =>
    logger.error({ err: error, task }, 'task of the agent failed'),
  );

  const identity = await ServerIdentity.open({ folder: stateDir, nodeName, clock, logger });
  const authority = await ClientAuthority.open({
    file: join(stateDir, 'client-ca.pem'),
    logger,
    onChange: () => configure(),
  });
  const configure = (): void => server.configure({ ...identity.current, clientAuthority: authority.pem });
  configure();

  const client = createKubeClient({
    source: createKubeConnectionSource({ kubeconfig: options.kubeconfig }),
    userAgent: `esb-agent/${nodeName}`,
  });
  const ranges = new ClusterRanges({ client, given: options.serviceCidr, clock, logger });
  const network = createNodeNetwork({
    stateDir,
    configFile: resolve(
      options.cniConfig ?? fileURLToPath(new URL('../../cni/10-esb.conflist', import.meta.url)),
    ),
    pluginFolder: resolve(options.cniBinDir),
    subnet: options.subnet,
    slots: options.slots,
    deniedRanges,
    otherRanges: () => ranges.current(),
    logger,
  });
  const resolvConfPath = join(stateDir, 'resolv.conf');
  await refreshResolvConf(resolvConfPath).catch((error: unknown) => {
    logger.error({ err: error }, 'resolv.conf of the workers cannot be written');
  });
  const runtime = createRuntime({
    type: options.runtimeType,
    containerd: {
      socketPath: resolve(options.containerdSocket),
      network,
      logFolder: join(stateDir, 'logs'),
      hostsFolder: resolve(options.certsDir),
      resolvConfPath,
      runcRoot: join(runDir, 'runc'),
      cgroupParent: options.cgroupParent,
      logger,
    },
  });
  const capacity = { memoryMiB: options.memory ?? defaultMemoryMiB(), workers: options.maxWorkers };
  const fleet = createFleet({
    runtime,
    clock,
    logger,
    stateDir,
    runDir,
    capacity,
    secretReader: createApiSecretReader({ client, folder: join(runDir, 'secrets'), logger }),
  });

  const health = new NodeHealth({
    runtime,
    // The records may lie on a file system of their own.
    disk: async () =>
      firstFault(
        await diskHealth(stateDir),
        await diskHealth(join(stateDir, 'workers')),
        fleet.storageHealth(),
      ),
    clock,
    logger,
  });
  health.note('start', {
    ok: false,
    reason: 'Starting',
    message: 'the agent is looking after what an earlier run left',
  });
  const metrics = createAgentMetrics({ fleet: () => fleet, health });

  const ownNode = createInformer(client, nodes, { fieldSelector: `metadata.name=${nodeName}` }, { logger });
  const clientCa = createInformer(
    client,
    configMaps,
    { namespace: systemNamespace, fieldSelector: `metadata.name=${CLIENT_CA_NAME}` },
    { logger },
  );
  const fieldSelector = `${ASSIGNED_NODE_FIELD}=${nodeName}`;
  let listedBefore = false;
  const assigned = createInformer<LambdaWorker>(
    client,
    lambdaWorkers,
    { fieldSelector },
    {
      logger,
      metrics: {
        listed() {
          if (listedBefore) {
            watch.relisted();
          }
          listedBefore = true;
        },
      },
    },
  );
  const writer = new StatusWriter({
    client,
    fleet,
    cache: assigned.cache,
    nodeName,
    clock,
    logger,
    onWrite: (result) => metrics.statusWritten(result),
  });
  const watch = new WorkerWatch({
    informer: assigned,
    client,
    fleet,
    nodeName,
    fieldSelector,
    clock,
    logger,
    onObject: (worker) => writer.objectChanged(worker),
  });
  const images = new ImageList(runtime, clock.monotonic);
  const registration = new NodeRegistration({
    client,
    nodeName,
    health,
    nodes: ownNode.cache,
    facts: async () => ({
      endpoint,
      certificate: identity.published,
      versions: {
        ...machineVersions(programVersion()),
        ...(health.containerdVersion === undefined ? {} : { containerd: health.containerdVersion }),
      },
      capacity,
      allocated: fleet.allocation(),
      images: await images.current(),
    }),
    clock,
    logger,
  });

  let healthServer: HealthServer | undefined;
  try {
    const started = startRuntime(runtime, tasks, logger);
    // While containerd and plugins are asked there is time to load this.
    const { startHealthServer } = await import('./health-server.ts');
    healthServer = await startHealthServer(parseHostPort(options.health), {
      ready: () => health.ready(),
      metricsPage: () => metrics.page(),
    });
    logger.info(
      { listen: formatHostPort(bound), endpoint, health: formatHostPort(healthServer.address) },
      'agent has its ports',
    );

    tasks.run('health', (ended) => health.run(ended));
    tasks.run('lease', (ended) =>
      keepNodeLease(
        {
          client,
          nodeName,
          namespace: systemNamespace,
          clock,
          logger,
          onRenewal: (ok) => metrics.leaseRenewed(ok),
        },
        ended,
      ),
    );
    tasks.run('registration', (ended) => registration.run(ended));
    tasks.run('ranges', (ended) => ranges.run(ended));
    tasks.run('schema', (ended) =>
      every(schemaRetryMs, ended, async () => {
        const fit = await checkSchema(client, { signal: ended });
        health.note('schema', fit);
        return fit.ok;
      }),
    );
    clientCa.subscribe((event) => {
      const pem = event.kind === 'deleted' ? undefined : event.object.data?.[CLIENT_CA_PUBLIC_KEY];
      if (pem !== undefined) {
        tasks.run('client authority', () => authority.update(pem));
      }
    });
    clientCa.start();
    ownNode.subscribe(() => registration.hurry());
    ownNode.start();

    await started;
    await fleet.adopt({ signal });
    server.serve({
      fleet,
      logs: runtime,
      metricsPage: () => metrics.page(),
      onInvoked: (result) => metrics.invoked(result),
    });
    health.note('start', { ok: true });
    writer.start();
    watch.start();
    logger.info({ workers: fleet.views().length }, 'agent serves');

    tasks.run('certificate', (ended) =>
      every(chore.certificateMs, ended, async () => {
        if (await identity.refresh()) {
          logger.info('own certificate changed');
          configure();
          registration.hurry();
        }
      }),
    );
    tasks.run('resolv.conf', (ended) =>
      every(chore.resolvConfMs, ended, () => refreshResolvConf(resolvConfPath)),
    );
    const repair = new NetworkRepair(network, runtime, clock);
    tasks.run('network repair', (ended) =>
      every(chore.repairMs, ended, () => repair.look({ signal: ended })),
    );

    await fired(signal);
    logger.info('agent stops');
    health.note('start', { ok: false, reason: 'Stopping', message: 'the agent is stopping' });
  } finally {
    server.refuse();
    await fleet.stop(drainMs);
    await writer.stop();
    await watch.stop();
    await Promise.all([ownNode.stop(), clientCa.stop(), tasks.stop()]);
    await runtime.stop();
    await server.close();
    await healthServer?.close();
    await client.close();
    logger.info('agent stopped');
  }

  /** Runs `work` now and then until it says that it is done, or `ended` fires. What fails is tried again. */
  async function every(periodMs: number, ended: AbortSignal, work: () => Promise<unknown>): Promise<void> {
    for (;;) {
      try {
        if ((await work()) === true) {
          return;
        }
      } catch (error) {
        if (ended.aborted) {
          throw error;
        }
        logger.debug({ err: error }, 'chore failed; trying again later');
      }
      await sleep(clock, periodMs, ended);
    }
  }
}

/**
 * Starts the runtime in the background, again and again until it succeeds. Resolves as soon as workers can be looked
 * after, at the latest after the first attempt, whatever came of it: running workers are served without the rest.
 */
async function startRuntime(runtime: ContainerRuntime, tasks: TaskGroup, logger: Logger): Promise<void> {
  const observing = Promise.withResolvers<void>();
  const attempt = async (deadlineMs?: number): Promise<boolean> => {
    try {
      await runtime.start({ signal: tasks.signal, deadlineMs, onObserving: () => observing.resolve() });
      logger.info('runtime started');
      return true;
    } catch (error) {
      if (!tasks.signal.aborted) {
        logger.warn(
          { reason: EsbError.from(error).code, detail: messageOf(error) },
          'runtime cannot be started yet',
        );
      }
      return false;
    }
  };
  tasks.run('runtime start', async (ended) => {
    let started = await attempt(firstStartMs);
    observing.resolve();
    while (!started) {
      await sleep(systemClock, startRetryMs, ended);
      started = await attempt();
    }
  });
  await observing.promise;
}

/** The images of the node, read at most once a minute: a thousand references are not for every look. */
class ImageList {
  readonly #runtime: Pick<ContainerRuntime, 'images'>;
  readonly #monotonic: () => number;
  #images: readonly string[] = [];
  #readAt = Number.NEGATIVE_INFINITY;

  constructor(runtime: Pick<ContainerRuntime, 'images'>, monotonic: () => number) {
    this.#runtime = runtime;
    this.#monotonic = monotonic;
  }

  async current(): Promise<readonly string[]> {
    if (this.#monotonic() - this.#readAt >= chore.imagesMs) {
      try {
        this.#images = await this.#runtime.images();
        this.#readAt = this.#monotonic();
      } catch {
        // The condition of containerd says why; what was known is still the best guess.
      }
    }
    return this.#images;
  }
}

function firstFault(...states: readonly Health[]): Health {
  return states.find(({ ok }) => !ok) ?? { ok: true };
}

function programVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { readonly version: string }).version;
}

function fired(signal: AbortSignal): Promise<void> {
  const done = Promise.withResolvers<void>();
  if (signal.aborted) {
    done.resolve();
  }
  signal.addEventListener('abort', () => done.resolve(), { once: true });
  return done.promise;
}
