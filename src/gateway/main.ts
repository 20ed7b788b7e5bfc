import { type LambdaFunction, lambdaFunctions } from '../api/lambda-function.ts';
import { type LambdaNode, lambdaNodes } from '../api/lambda-node.ts';
import { type LambdaVersion, lambdaVersions } from '../api/lambda-version.ts';
import { type LambdaWorker, lambdaWorkers } from '../api/lambda-worker.ts';
import { FUNCTION_DEFINITIONS, waitForSchema } from '../api/schema-revision.ts';
import { systemClock } from '../common/clock.ts';
import { aborted } from '../common/deadline.ts';
import { EsbError } from '../common/errors.ts';
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
import { OwnWrites } from '../kube/client/own-writes.ts';
import type { EventsConfig } from '../options/events.ts';
import type { GatewayConfig } from '../options/gateway.ts';
import { gatewayLimits } from './admission/gateway-limits.ts';
import { ClientIdentity } from './agents/client-identity.ts';
import { EndpointGuard } from './events/endpoint-guard.ts';
import { openEventStore } from './events/event-store-choice.ts';
import { Gateway, type GatewayOptions } from './gateway.ts';
import { createGatewayAccess } from './gateway-access.ts';
import type { EventPlace } from './gateway-events.ts';
import { ClientTrust } from './handover/client-trust.ts';
import { createEventIntake, type EventIntake } from './handover/event-intake.ts';
import { RemoteEventKeeper } from './handover/remote-event-keeper.ts';
import { LoadReporter, leaderByLease } from './load/load-reporter.ts';
import { createAccessLog } from './telemetry/access-log.ts';
import { createFunctionUrls, hostsOf } from './url/function-urls.ts';

/** Times that no flag sets; each is that of every gateway when absent. */
export type GatewayTimes = Pick<GatewayOptions, 'maxWaitMs' | 'patience'>;

/** The part of the configuration that a gateway and the role that keeps events share. */
interface CommonConfig {
  readonly server: Pick<GatewayConfig['server'], 'listen' | 'health' | 'stateDir'>;
  readonly cluster: GatewayConfig['cluster'];
  readonly observation: Pick<GatewayConfig['observation'], 'otlpEndpoint'>;
}

/** A phase of the start: has the configuration, and defers the end of the parts that it makes. */
interface Phase<Config extends CommonConfig> {
  /** Name of the program, for the API server and for spans. */
  readonly service: string;
  readonly config: Config;
  readonly context: RoleContext;
  readonly stops: StopStack;
}

type Cluster = ReturnType<typeof connect>;

/** A program that is ready to listen. */
interface Opened {
  readonly gateway: Gateway;
  readonly identity: ClientIdentity;
  /** Whether the program can do its work, beside what its {@link Gateway} says. */
  health(): Health;
  /** Begins what goes on beside the calls. */
  start(): void;
}

/** Runs a gateway until the signal fires, and then lets every call end. */
export async function runGateway(config: GatewayConfig, context: RoleContext, times: GatewayTimes = {}): Promise<void> {
  checkEventFlags(config.events);
  checkControlFlags(config);
  await run({ service: 'esb-gateway', config, context }, (phase, cluster) => openGateway(phase, cluster, times));
}

/** @throws {EsbError} `InvalidArgument` where flags name two places for events */
function checkEventFlags({ address, store, databaseFile }: GatewayConfig['events']): void {
  if (address !== undefined && (store !== 'sqlite' || databaseFile !== undefined)) {
    const flag = store === 'sqlite' ? '--event-database-file' : `--event-store=${store}`;
    throw new EsbError(`${flag} has no meaning with --events-address: the role there keeps the events`, {
      code: 'InvalidArgument',
    });
  }
}

/** @throws {EsbError} `InvalidArgument` where everybody who reaches the port could change functions */
function checkControlFlags({ callers, control }: Pick<GatewayConfig, 'callers' | 'control'>): void {
  if (control.api && callers.authentication === 'off') {
    throw new EsbError('--control-api needs --authentication on: rights to change functions are those of the caller', {
      code: 'InvalidArgument',
    });
  }
}

/**
 * Runs the role that keeps calls of type Event for the gateways of a namespace until the signal fires, and then gives
 * back the events under way.
 */
export async function runEvents(config: EventsConfig, context: RoleContext): Promise<void> {
  await run({ service: 'esb-events', config, context }, openEvents);
}

async function run<Config extends CommonConfig>(
  program: Omit<Phase<Config>, 'stops'>,
  open: (phase: Phase<Config>, cluster: Cluster) => Promise<Opened>,
): Promise<void> {
  const { config, context } = program;
  await withStops(async (stops) => {
    const phase = { ...program, stops };
    const listen = parseHostPort(config.server.listen);
    const healthAddress = parseHostPort(config.server.health);
    // Made once there is a gateway, and closed last: /readyz tells that the gateway ends.
    let healthServer: HealthServer | undefined;
    stops.defer(() => healthServer?.close());
    const cluster = connect(phase);
    const { gateway, health, identity, start } = await open(phase, cluster);
    let schema: Health = { ok: false, reason: 'NotChecked', message: 'resource definitions were not read yet' };
    healthServer = await startHealthServer(healthAddress, {
      ready: () => [schema, health(), gateway.health()].find(({ ok }) => !ok) ?? { ok: true },
      metricsPage: () => gateway.metrics.page(),
    });
    await gateway.listen(listen);
    cluster.workers.start();
    cluster.nodes.start();
    cluster.functions.start();
    cluster.versions.start();
    cluster.trust.start();
    start();
    const load = new LoadReporter({
      meter: gateway.loadMeter,
      namespace: config.cluster.namespace,
      leader: (stop) => leaderByLease(cluster.client, config.cluster.systemNamespace, stop),
      identity: () => identity.current,
      authority: () => cluster.trust.pem,
      clock: systemClock,
      logger: context.logger,
    });
    cluster.tasks.run('load', (stop) => load.run(stop));
    cluster.tasks.run('client certificate', (stop) => identity.run(stop));
    cluster.tasks.run('resource definitions', (stop) =>
      waitForSchema(
        {
          client: cluster.client,
          clock: systemClock,
          logger: context.logger,
          unreadable: 'DefinitionsUnreadable',
          definitions: FUNCTION_DEFINITIONS,
          report(found) {
            schema = found;
          },
        },
        stop,
      ),
    );
    await aborted(context.signal);
    context.logger.info('stopping: letting calls end');
  });
}

/** The program's side of the API server; nothing is read before its informers start. */
function connect({ config, context: { logger }, service, stops }: Phase<CommonConfig>) {
  const { kubeconfig, namespace, systemNamespace } = config.cluster;
  const client = createKubeClient({ source: createKubeConnectionSource({ kubeconfig }), userAgent: service });
  stops.defer(() => client.close());
  const workers = new ListWatchInformer<LambdaWorker>(client, lambdaWorkers, { namespace }, { logger });
  const nodes = new ListWatchInformer<LambdaNode>(client, lambdaNodes, {}, { logger });
  const functions = new ListWatchInformer<LambdaFunction>(client, lambdaFunctions, { namespace }, { logger });
  const versions = new ListWatchInformer<LambdaVersion>(client, lambdaVersions, { namespace }, { logger });
  const trust = new ClientTrust({ client, systemNamespace, logger });
  stops.defer(() => trust.stop());
  stops.defer(() => Promise.all([workers, nodes, functions, versions].map((informer) => informer.stop())));
  const tasks = new TaskGroup((task, error) => logger.error({ err: error, task }, 'task failed'));
  stops.defer(() => tasks.stop());
  return { client, workers, nodes, functions, versions, trust, tasks };
}

/** The parts that a gateway and the role that keeps events have alike. */
async function openCommon({ config, context: { logger }, service, stops }: Phase<CommonConfig>, { client }: Cluster) {
  const { namespace } = config.cluster;
  const clock = systemClock;
  const tracing = await openTracing({
    clock,
    logger,
    env: process.env,
    service,
    attributes: { 'k8s.namespace.name': namespace },
    endpoint: config.observation.otlpEndpoint,
  });
  stops.defer(() => tracing?.close());
  const openIdentity = (serves: boolean, onChange: () => void): Promise<ClientIdentity> =>
    ClientIdentity.open({ folder: config.server.stateDir, namespace, serves, client, clock, logger, onChange });
  return { namespace, clock, logger, tracing, openIdentity };
}

async function openGateway(phase: Phase<GatewayConfig>, cluster: Cluster, times: GatewayTimes): Promise<Opened> {
  const { config, stops } = phase;
  const { client, functions, nodes, tasks, versions, workers } = cluster;
  const { openIdentity, tracing, ...common } = await openCommon(phase, cluster);
  const { accessLog, metricsFunctions, timingHeaders } = config.observation;
  const hosts = hostsOf(config);
  const callers = await createGatewayAccess({
    ...common,
    flags: config,
    client,
    isApiServerAway: () => workers.hasSynced() && !workers.isCurrent(),
  });
  stops.defer(() => callers.stop());
  const events = await placeOfEvents(phase, cluster, () => identity.current);
  const urls = createFunctionUrls(config.urls, { ...common, client });
  const identity: ClientIdentity = await openIdentity(false, () => gateway.reconnect());
  const written = [
    { type: lambdaFunctions, informer: functions },
    { type: lambdaVersions, informer: versions },
  ];
  const gateway: Gateway = new Gateway({
    ...common,
    workers,
    nodes,
    functions,
    versions,
    identity,
    events,
    timingHeaders,
    access: callers.access,
    hosts,
    ...(config.control.api ? { control: new OwnWrites(client, written).client } : {}),
    ...(urls === undefined ? {} : { urls: urls.settings }),
    ...(callers.createServer === undefined ? {} : { createServer: callers.createServer }),
    limits: gatewayLimits(config.limits),
    ...times,
    observation: {
      listeners: accessLog ? [createAccessLog(common.logger)] : [],
      tracing,
      maxFunctions: metricsFunctions,
    },
  });
  stops.defer(() => gateway.stop());
  if (urls !== undefined) {
    await gateway.listenForUrls(parseHostPort(config.urls.listen));
  }
  return {
    gateway,
    identity,
    health: () => callers.health(),
    start() {
      if (urls !== undefined) {
        tasks.run('public functions', (stop) => urls.namespace.run(stop));
      }
      callers.start(parseHostPort(config.server.listen));
    },
  };
}

/** Where the events of a gateway are kept, as its flags say. */
async function placeOfEvents(
  { config, context: { logger }, stops }: Phase<GatewayConfig>,
  { trust }: Cluster,
  identity: () => ClientIdentity['current'],
): Promise<EventPlace> {
  const { namespace } = config.cluster;
  const { address, destinations, egress } = config.events;
  if (address !== undefined) {
    const keeper = new RemoteEventKeeper({
      address: parseHostPort(address),
      namespace,
      identity,
      authority: () => trust.pem,
      logger,
    });
    return { kind: 'Elsewhere', keeper };
  }
  const store = await openEventStore(
    { stateDir: config.server.stateDir, namespace, events: config.events },
    { env: process.env, clock: systemClock, logger },
  );
  stops.defer(() => store.close());
  return { kind: 'Here', store, endpoints: new EndpointGuard({ allowed: destinations, egress }) };
}

async function openEvents(phase: Phase<EventsConfig>, cluster: Cluster): Promise<Opened> {
  const { config, stops } = phase;
  const { functions, nodes, trust, versions, workers } = cluster;
  const { openIdentity, tracing, ...common } = await openCommon(phase, cluster);
  const { clock, logger, namespace } = common;
  const store = await openEventStore(
    {
      stateDir: config.server.stateDir,
      namespace,
      events: { ...config.events, store: 'sqlite', databaseFile: undefined },
      waits: true,
    },
    { env: process.env, clock, logger },
  );
  stops.defer(() => store.close());
  let intake: EventIntake | undefined;
  const configure = (): void => {
    const { fitting } = identity;
    if (fitting !== undefined && trust.pem !== undefined) {
      intake?.configure({ ...fitting, clientAuthority: trust.pem });
    }
  };
  const identity: ClientIdentity = await openIdentity(true, () => {
    configure();
    gateway.reconnect();
  });
  const gateway: Gateway = new Gateway({
    ...common,
    workers,
    nodes,
    functions,
    versions,
    identity,
    events: {
      kind: 'Here',
      store,
      endpoints: new EndpointGuard({ allowed: config.events.destinations, egress: config.events.egress }),
    },
    intake(options) {
      intake = createEventIntake(options);
      return intake;
    },
    observation: { listeners: [], tracing, maxFunctions: config.observation.metricsFunctions },
  });
  stops.defer(() => gateway.stop());
  trust.onChange = configure;
  return {
    gateway,
    identity,
    health() {
      if (trust.pem === undefined) {
        return {
          ok: false,
          reason: 'NotSynced',
          message: 'the authority of the gateways has not been read from the API server yet',
        };
      }
      return identity.fitting === undefined
        ? {
            ok: false,
            reason: 'NoCertificate',
            message: 'the controller has not signed a certificate yet that this server may show to gateways',
          }
        : { ok: true };
    },
    start: () => undefined,
  };
}
