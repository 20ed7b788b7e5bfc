import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { lambdaNodes } from '../api/lambda-node.ts';
import { ASSIGNED_NODE_FIELD, type LambdaWorker, lambdaWorkers } from '../api/lambda-worker.ts';
import {
  CLIENT_CA_NAME,
  CLIENT_CA_PUBLIC_KEY,
  CLUSTER_RANGES_NAME,
  WORKER_POLICY_NAME,
} from '../api/name.ts';
import { checkDefinitions } from '../api/schema-revision.ts';
import { removeUnfinishedFiles } from '../common/atomic-file.ts';
import { systemClock } from '../common/clock.ts';
import { aborted, sleep } from '../common/deadline.ts';
import { EsbError, messageOf } from '../common/errors.ts';
import type { Spawner } from '../common/exec/spawner.ts';
import type { Health } from '../common/health.ts';
import { type HealthServer, startHealthServer } from '../common/health-server.ts';
import { formatHostPort, parseHostPort } from '../common/host-port.ts';
import type { Logger } from '../common/logger.ts';
import { programVersion } from '../common/program-version.ts';
import type { RoleContext } from '../common/role-context.ts';
import { stopInOrder } from '../common/stop-in-order.ts';
import { TaskGroup } from '../common/task-group.ts';
import { openTracing } from '../common/tracing/tracing.ts';
import { configMaps, customResourceDefinitions, nodes } from '../kube/api/resource-types.ts';
import { createInformer } from '../kube/cache/informer.ts';
import { createKubeClient, LEASE_REQUESTS } from '../kube/client/client.ts';
import { createKubeConnectionSource } from '../kube/client/kube-config.ts';
import type { ContainerRuntime } from '../runtime/contract/runtime.ts';
import { GarbageCollector } from './gc/garbage-collector.ts';
import { ImageGarbageCollector } from './gc/image-gc.ts';
import { StalledOutput } from './logs/stalled-output.ts';
import { createAgentMetrics } from './metrics.ts';
import type { AgentOptions } from './model/agent-options.ts';
import { ClusterCidrs } from './node/cluster-cidrs.ts';
import { Decommission } from './node/decommission.ts';
import { diskHealth } from './node/disk-health.ts';
import { watchEventLoop } from './node/event-loop.ts';
import { NodeHealth } from './node/node-health.ts';
import { keepNodeLease } from './node/node-lease.ts';
import { NodeRegistration } from './node/node-registration.ts';
import { defaultMemoryMiB, endpointOf, machineVersions, nodeVersions } from './node/node-status.ts';
import { refreshResolvConf } from './node/resolv-conf.ts';
import { createNodeRuntime } from './node/runtime-setup.ts';
import { uninstall } from './node/uninstall.ts';
import { CallBudget, defaultCallBytes } from './rpc/call-budget.ts';
import { ClientAuthority } from './rpc/client-authority.ts';
import { AgentGrpcServer } from './rpc/server.ts';
import { ServerIdentity } from './rpc/server-identity.ts';
import { createSecretCache } from './secrets/secret-cache.ts';
import { AssignmentWatch } from './sync/assignment-watch.ts';
import { StatusWriter } from './sync/status-writer.ts';
import { WorkerPolicy } from './sync/worker-policy.ts';
import { createFleet } from './worker/worker-manager.ts';

/** Milliseconds that the first start of the runtime gets before workers are looked after without it. */
const firstStartMs = 5_000;
const startRetryMs = 1_000;
/** Milliseconds between two looks at what hardly ever changes: own certificate, name servers, images. */
const chore = { certificateMs: 60_000, resolvConfMs: 60_000, imagesMs: 60_000, secretsMs: 300_000 } as const;
const schemaRetryMs = 10_000;
/**
 * Watches of what hardly ever changes and nothing urgent hangs on. Each agent has several; opened anew every 45 seconds they
 * would be most of what a large cluster's agents ask the API server for. A dead connection is found by TCP.
 */
const slowWatch = { watchSeconds: 300, watchSilenceMs: 330_000 } as const;

/**
 * Runs the agent of one node until `context.signal` fires. In this order: the port (which makes it the only agent of
 * the node), what an earlier run left, serving, and only then the API server, which may be away all the time. Stopping
 * touches no worker. On a node that is retired everything is removed once its workers are gone; the agent then waits, and
 * ends when the node is wanted again, so as to be started anew.
 *
 * @param spawner runs the programs of the operating system, and is stopped last
 * @throws {EsbError} `AddressInUse` when another agent runs on this node, `InvalidArgument` for options that make no sense
 */
export async function runAgent(options: AgentOptions, context: RoleContext, spawner: Spawner): Promise<void> {
  const { signal, logger } = context;
  const clock = systemClock;
  const { nodeName, systemNamespace } = options;
  const stateDir = resolve(options.stateDir);
  const runDir = resolve(options.runDir);
  const resolvConfPath = join(stateDir, 'resolv.conf');
  const budget = new CallBudget(options.maxHeld ?? defaultCallBytes(process.constrainedMemory()), clock);
  const metrics = createAgentMetrics({
    fleet: () => fleet,
    health: { conditions: () => health.conditions() },
    version: programVersion(),
    slots: () => node.slots(),
    eventLoop: watchEventLoop(),
    heldBytes: () => budget.held,
    refusals: () => node.refusals(),
    images: () => collector.collection,
  });
  const node = await createNodeRuntime({
    agent: options,
    stateDir,
    runDir,
    resolvConfPath,
    otherRanges: () => ranges.current(),
    observer: {
      ...metrics,
      pullEnded(durationMs, outcome) {
        metrics.pullEnded(durationMs, outcome);
        if (outcome === 'DiskFull') {
          tasks.run('making room for an image', (ended) => collector.makeRoom({ signal: ended }));
        }
      },
    },
    runner: spawner,
    clock,
    logger,
  });
  const { runtime } = node;
  await Promise.all(
    [stateDir, join(stateDir, 'workers'), join(stateDir, 'logs'), runDir].map((folder) =>
      mkdir(folder, { recursive: true, mode: 0o700 }),
    ),
  );

  const server = new AgentGrpcServer({ logger, clock, budget });
  const bound = await server.bind(parseHostPort(options.listen));
  // With the port, this is the one agent of the node.
  await removeUnfinishedFiles(stateDir);
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

  const source = createKubeConnectionSource({ kubeconfig: options.kubeconfig });
  const userAgent = `esb-agent/${nodeName}`;
  const client = createKubeClient({ source, userAgent });
  const leaseClient = createKubeClient({ source, userAgent, maxInFlight: LEASE_REQUESTS });
  await refreshResolvConf(resolvConfPath, systemNamespace).catch((error: unknown) => {
    logger.error({ err: error }, 'resolv.conf of the workers cannot be written');
  });
  const capacity = { memoryMiB: options.memory ?? defaultMemoryMiB(), workers: options.maxWorkers };
  const secretReader = createSecretCache({
    client,
    folder: join(runDir, 'secrets'),
    // A Pod has its service account; who is given a kubeconfig is a user.
    agents:
      options.kubeconfig === undefined
        ? { kind: 'ServiceAccount', namespace: systemNamespace }
        : { kind: 'Users' },
    logger,
  });
  const fleet = createFleet({
    runtime,
    clock,
    logger,
    stateDir,
    runDir,
    capacity,
    limits: { maxPrepared: options.preparedWorkers },
    metrics: {
      action: (kind, durationMs, outcome) => metrics.action(kind, durationMs, outcome),
      orphan: (outcome, containerId, why) => {
        metrics.orphan(outcome, containerId, why);
        garbage.orphan(outcome, containerId, why);
      },
    },
    secretReader,
  });

  const collector = new ImageGarbageCollector({
    images: runtime.nodeImages,
    wanted: () => fleet.images(),
    thresholds: {
      highPercent: options.imageGcHigh,
      lowPercent: options.imageGcLow,
      minAgeMs: options.imageGcMinAge * 1_000,
    },
    file: join(stateDir, 'images.json'),
    clock,
    logger,
  });

  const health = new NodeHealth({
    runtime,
    // The records and the logs may lie on file systems of their own.
    disk: async () =>
      firstFault(
        await diskHealth(stateDir),
        await diskHealth(join(stateDir, 'workers')),
        await diskHealth(join(stateDir, 'logs')),
        fleet.storageHealth(),
      ),
    leaving: () => fleet.leaving(),
    clock,
    logger,
  });
  health.note('start', {
    ok: false,
    reason: 'Starting',
    message: 'the agent is looking after what an earlier run left',
  });

  const outputCheck = new StalledOutput({
    runtime,
    fleet,
    clock,
    logger,
    onLost: () => metrics.outputLost(),
  });

  const garbage = new GarbageCollector({
    runtime,
    fleet,
    network: node.network,
    ports: node.ports,
    recordsFolder: join(stateDir, 'workers'),
    marksFolder: runDir,
    clock,
    logger,
    metrics,
    onHealth: (left) => health.leftovers(left),
    periodMs: options.auditPeriod * 1_000,
  });

  const ownNode = createInformer(
    client,
    nodes,
    { fieldSelector: `metadata.name=${nodeName}` },
    { logger, ...slowWatch },
  );
  const ownLambdaNode = createInformer(
    client,
    lambdaNodes,
    { fieldSelector: `metadata.name=${nodeName}` },
    { logger, ...slowWatch },
  );
  const clientCa = createInformer(
    client,
    configMaps,
    { namespace: systemNamespace, fieldSelector: `metadata.name=${CLIENT_CA_NAME}` },
    { logger, ...slowWatch },
  );
  const published = createInformer(
    client,
    configMaps,
    { namespace: systemNamespace, fieldSelector: `metadata.name=${CLUSTER_RANGES_NAME}` },
    { logger, ...slowWatch },
  );
  const ranges = new ClusterCidrs({
    client,
    given: options.serviceCidr,
    ownNode: ownNode.cache,
    published: published.cache,
    clock,
    logger,
  });
  const policyInformer = createInformer(
    client,
    configMaps,
    { namespace: systemNamespace, fieldSelector: `metadata.name=${WORKER_POLICY_NAME}` },
    { logger, ...slowWatch },
  );
  const policy = new WorkerPolicy({ informer: policyInformer, client, clock, logger });
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
  const watch = new AssignmentWatch({
    informer: assigned,
    client,
    fleet,
    nodeName,
    fieldSelector,
    clock,
    logger,
    policy,
    onObject: (worker) => writer.objectChanged(worker),
  });
  const images = new ImageList(runtime, clock.monotonic);
  const registration = new NodeRegistration({
    client,
    nodeName,
    health,
    nodes: ownNode,
    facts: async (told) => ({
      endpoint,
      certificate: identity.published,
      versions: {
        ...machineVersions(programVersion()),
        ...nodeVersions(ownNode.cache.get({ name: nodeName })),
        ...(health.containerdVersion === undefined ? {} : { containerd: health.containerdVersion }),
      },
      capacity,
      allocated: fleet.allocation(),
      setAside: fleet.setAside(),
      leaving: fleet.stillHere(told),
      images: leaving ? [] : await images.current(),
    }),
    clock,
    logger,
  });

  const retirement = new Decommission({
    node: ownLambdaNode,
    nodeName,
    client,
    fieldSelector,
    fleet,
    health,
    clock,
    logger,
  });

  // It does not reject, and loads in the meantime what it needs, if anything.
  const tracing = openTracing({
    service: 'esb-agent',
    attributes: { 'service.version': programVersion(), 'k8s.node.name': nodeName },
    endpoint: options.otlpEndpoint,
    env: process.env,
    clock,
    logger,
  });
  let healthServer: HealthServer | undefined;
  let leaving = false;
  try {
    const started = startRuntime(runtime, tasks, logger);
    healthServer = await startHealthServer(parseHostPort(options.health), {
      // An agent that has nothing more to do here is not what a rollout has to wait for.
      ready: () => (leaving ? { ok: true } : health.ready()),
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
          client: leaseClient,
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
        const fit = await checkDefinitions((name) =>
          client.get(customResourceDefinitions, { name }, { signal: ended }),
        );
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
    published.start();
    ownNode.subscribe(() => registration.hurry());
    ownNode.start();
    ownLambdaNode.start();
    policyInformer.start();
    tasks.run('policy of workers', (ended) => policy.run(ended));

    await started;
    await fleet.adopt({ signal });
    server.serve({
      fleet,
      logs: runtime,
      metricsPage: () => metrics.page(),
      onInvoked: (result) => metrics.invoked(result),
      tracing: await tracing,
    });
    health.note('start', { ok: true });
    writer.start();
    tasks.run('start of the watch', async (ended) => {
      await policy.listed(ended);
      if (!ended.aborted) {
        watch.start();
      }
    });
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
      every(chore.resolvConfMs, ended, () => refreshResolvConf(resolvConfPath, systemNamespace)),
    );
    tasks.run('secrets', (ended) =>
      every(chore.secretsMs, ended, () => secretReader.keepOnly(fleet.secrets())),
    );
    // Not before the fleet knows which images its workers want.
    tasks.run('images', (ended) => every(chore.imagesMs, ended, () => collector.look({ signal: ended })));
    tasks.run('garbage collection', (ended) => garbage.run(ended));
    tasks.run('retirement', (ended) => retirement.run(ended));
    const checkOutput = (): void => {
      const disk = health.conditions().find(({ type }) => type === 'DiskReady');
      // Other faults of the disk take nothing from anybody's output.
      const known = disk?.status === 'True' || disk?.reason === 'DiskFull';
      if (known && outputCheck.told(disk.status === 'True')) {
        tasks.run('checking the output of workers', (ended) => outputCheck.run(ended));
      }
    };
    checkOutput();
    health.subscribe(checkOutput);

    await Promise.race([aborted(signal), retirement.due.then(() => (leaving = !signal.aborted))]);
    logger.info(leaving ? 'agent leaves the node' : 'agent stops');
    health.note('start', { ok: false, reason: 'Stopping', message: 'the agent is stopping' });
  } finally {
    await stopInOrder([
      () => fleet.stop(options.drain * 1_000, () => server.refuse()),
      () => writer.stop(),
      () => watch.stop(),
      () =>
        Promise.all([ownNode.stop(), clientCa.stop(), published.stop(), policyInformer.stop(), tasks.stop()]),
      () => (leaving ? undefined : runtime.stop()),
      () => server.close(),
      async () => (await tracing)?.close(),
      () => (leaving ? leave() : undefined),
      () => spawner.stop(),
      () => ownLambdaNode.stop(),
      () => healthServer?.close(),
      () => Promise.all([client.close(), leaseClient.close()]),
    ]);
    logger.info('agent stopped');
  }

  /** Removes everything, and waits until the node is wanted again or `signal` fires. */
  async function leave(): Promise<void> {
    try {
      await uninstall({ runtime, health, registration, stateDir, runDir, clock, logger }, signal);
      await retirement.wantedAgain(signal);
      logger.info('the node is wanted again: the agent ends to be started anew');
    } catch (error) {
      if (!signal.aborted) {
        throw error;
      }
    }
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
  const fault = states.find(({ ok }) => !ok);
  return fault ?? states.find((state) => state.ok && state.warning !== undefined) ?? { ok: true };
}
