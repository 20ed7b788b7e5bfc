import type { RequestListener, Server } from 'node:http';
import type { LambdaFunction } from '../api/lambda-function.ts';
import type { LambdaNode } from '../api/lambda-node.ts';
import type { LambdaVersion } from '../api/lambda-version.ts';
import type { LambdaWorker } from '../api/lambda-worker.ts';
import type { Clock } from '../common/clock.ts';
import { EsbError, hasCode } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import { formatHostPort, type HostPort } from '../common/host-port.ts';
import type { Logger } from '../common/logger.ts';
import { listenError } from '../common/net/listen.ts';
import type { Tracing } from '../common/tracing/span.ts';
import type { Informer } from '../kube/api/types.ts';
import { type Access, createOpenAccess } from './access/access.ts';
import { type GatewayLimits, gatewayLimits } from './admission/gateway-limits.ts';
import { LoadMeter } from './admission/load-meter.ts';
import { RequestRates } from './admission/request-rates.ts';
import { ProcessPressure, partOf, Room } from './admission/room.ts';
import { AgentConnections } from './agents/agent-connections.ts';
import { loadAgentProtocol } from './agents/agent-protocol.ts';
import type { ClientIdentity } from './agents/client-identity.ts';
import { FleetView } from './agents/fleet-view.ts';
import type { FunctionCall } from './agents/function-call.ts';
import { VersionBook } from './agents/version-book.ts';
import type { ControlClient } from './control/function-writer.ts';
import { Invoker } from './dispatch/invoker.ts';
import type { EventKeeper } from './events/event-keeper.ts';
import { createGatewayEvents, type EventPlace } from './gateway-events.ts';
import { createGatewayFunctions } from './gateway-functions.ts';
import type { EventIntakeOptions } from './handover/event-intake.ts';
import type { Door } from './http/connection-drain.ts';
import type { ClientPatience } from './http/http-guard.ts';
import { createLambdaApi } from './http/lambda-api.ts';
import { unavailable } from './lambda/lambda-error.ts';
import { createGatewayMetrics, type GatewayMetrics } from './telemetry/gateway-metrics.ts';
import { type CallListener, createCallObserver } from './telemetry/observed-call.ts';
import type { FunctionUrls } from './url/function-urls.ts';
import { UrlRoutes } from './url/function-urls.ts';
import { createUrlDoor } from './url/url-service.ts';

/**
 * Milliseconds without a request after which clients count as sent elsewhere, once the gateway is to end: load
 * balancers need that time to notice. Clients that go on calling delay the end by up to {@link MAX_LAME_DUCKS} times as
 * long.
 */
const LAME_DUCK_MS = 500;
const MAX_LAME_DUCKS = 10;
/**
 * Milliseconds for events under way to end. Those that take longer go on in their workers, which the next process asks
 * for the answers: it begins within the grace period of a Pod, 60 seconds, so that other events do not wait.
 */
const EVENT_DRAIN_MS = 45_000;

/** Part of the gateway's room that requests of function URLs have for themselves, beside that of the Lambda API. */
const URL_PART = 1 / 4;
/** Likewise for runs of events, which are tried again later where there is no room. */
const EVENT_PART = 1 / 4;

/** The observers of calls beside the metrics. */
export interface GatewayObservation {
  readonly listeners: readonly CallListener[];
  /** Receives spans; undefined for none. */
  readonly tracing: Tracing | undefined;
  /** Most functions with metrics of their own. */
  readonly maxFunctions: number;
}

export interface GatewayOptions {
  readonly namespace: string;
  readonly workers: Informer<LambdaWorker>;
  readonly nodes: Informer<LambdaNode>;
  /** Of the namespace. */
  readonly functions: Informer<LambdaFunction>;
  /** Of the namespace. */
  readonly versions: Informer<LambdaVersion>;
  /** A number of [0, 1), by which aliases share their calls; by default that of the platform. */
  readonly random?: () => number;
  readonly identity: Pick<ClientIdentity, 'current' | 'accepted' | 'refused'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly events: EventPlace;
  /** Lets callers change functions, by this account; they cannot without it. */
  readonly control?: ControlClient;
  /** Functions are called by URL as well; on a listener of its own. */
  readonly urls?: FunctionUrls;
  /** Takes events from gateways, in place of calls from clients. */
  readonly intake?: (options: EventIntakeOptions) => Door;
  /** Milliseconds that a call waits for a worker that is being moved, in place of 30,000. */
  readonly maxWaitMs?: number;
  /** Milliseconds in place of {@link LAME_DUCK_MS}. */
  readonly lameDuckMs?: number;
  /** Milliseconds in place of {@link EVENT_DRAIN_MS}. */
  readonly eventDrainMs?: number;
  /** Authentication and authorization of callers; every caller may do everything when absent. */
  readonly access?: Access;
  /** Names, in small letters, for which requests may be signed, beside `localhost` and addresses. */
  readonly hosts?: readonly string[];
  /** Limits of the load; the defaults of the flags when absent. */
  readonly limits?: GatewayLimits;
  /** Times that slow clients get over plain HTTP, in place of the usual ones. */
  readonly patience?: ClientPatience;
  /** Whether answers have headers with the start kind and the timings of the call. Default true. */
  readonly timingHeaders?: boolean;
  /** Access log and spans; none when absent. */
  readonly observation?: GatewayObservation;
  /** Makes the server of the Lambda API, in place of one for plain HTTP. */
  readonly createServer?: (listener: RequestListener) => Server;
}

/**
 * The Lambda API of one namespace, put together; with an intake, the role that keeps the events of its gateways and
 * calls functions as they do. The caller owns the informers, the identity and the event store.
 */
export class Gateway {
  readonly #options: GatewayOptions;
  readonly #limits: GatewayLimits;
  readonly view: FleetView;
  readonly #book: VersionBook;
  readonly #pressure: ProcessPressure;
  readonly #room: Room;
  /** Runs of events, which no request waits for. */
  readonly #eventRoom: Room;
  readonly #urlRoom: Room;
  readonly #agents: AgentConnections;
  readonly #invoker: Invoker;
  readonly #requestRates: RequestRates;
  readonly #events: EventKeeper;
  readonly #door: Door;
  readonly #urlDoor: Door | undefined;
  readonly metrics: GatewayMetrics;
  /** The calls by which functions are scaled. */
  readonly loadMeter: LoadMeter;
  #draining = false;

  constructor(options: GatewayOptions) {
    const { clock, limits = gatewayLimits(), random = Math.random, workers } = options;
    const view = new FleetView(options.namespace);
    this.#options = options;
    this.#limits = limits;
    this.view = view;
    this.#book = new VersionBook({ ...options, onChange: (name, owner) => view.noteChange(name, owner) });
    this.#pressure = new ProcessPressure(clock);
    this.#room = new Room(limits.load, this.#pressure);
    this.#eventRoom = new Room(partOf(limits.load, EVENT_PART), this.#pressure);
    this.#urlRoom = new Room(partOf(limits.load, URL_PART), this.#pressure, 1);
    this.metrics = this.#createMetrics();
    this.#agents = this.#createAgents();
    this.loadMeter = new LoadMeter(this.#book);
    this.#invoker = new Invoker({
      loadMeter: this.loadMeter,
      room: this.#room,
      mayGrow: (name) => (this.#book.scaling(name)?.maxWorkers ?? 0) > 1,
      maxQueueWaitMs: limits.maxQueueWaitMs,
      view,
      isViewCurrent: () => workers.isCurrent(),
      book: this.#book,
      random,
      clock,
      sessionOf: (nodeName) => this.#agents.session(nodeName),
      onAskedAgain: (result) => this.metrics.askedAgain(result),
      tracing: options.observation?.tracing,
      ...(options.maxWaitMs === undefined ? {} : { maxWaitMs: options.maxWaitMs }),
    });
    this.#requestRates = new RequestRates({ callerRate: limits.callerRate, clock });
    this.#events = createGatewayEvents({
      ...options,
      view,
      book: this.#book,
      invoker: this.#invoker,
      room: this.#eventRoom,
      metrics: this.metrics,
      isReady: () => this.#isSynced,
    });
    this.#door = this.#createDoor();
    this.#urlDoor = options.urls === undefined ? undefined : this.#createUrlDoor(options.urls);
    workers.subscribe(({ kind, object }) => {
      if (kind === 'deleted') {
        view.removeResource(object.metadata.uid ?? '');
      } else {
        view.applyResource(object);
      }
    });
    options.nodes.subscribe((event) => this.#agents.apply(event));
  }

  #createMetrics(): GatewayMetrics {
    return createGatewayMetrics(
      {
        functions: () => this.view.functionCount,
        workers: () => this.view.workerCount,
        agents: () => this.#agents.size,
        agentsConnected: () => this.view.connected.size,
        eventsPending: () => this.#events.size,
        eventStoreWorks: () => this.#events.health.ok,
        requestsHeld: () => this.#room.requests + this.#urlRoom.requests,
        bytesHeld: () => this.#room.bytes + this.#urlRoom.bytes + this.#eventRoom.bytes,
        callsWaiting: () => this.#invoker.waiting,
      },
      {
        exists: (name) => this.view.function(name) !== undefined,
        maxFunctions: this.#options.observation?.maxFunctions,
      },
    );
  }

  #createAgents(): AgentConnections {
    const { clock, identity, logger } = this.#options;
    return new AgentConnections({
      protocol: loadAgentProtocol(),
      view: this.view,
      identity: () => identity.current,
      clock,
      logger,
      onOpened: () => identity.accepted(),
      onFailure: (reason) => {
        this.metrics.agentFailed();
        if (hasCode(reason, 'ClientRefused')) {
          identity.refused();
        }
      },
    });
  }

  #createDoor(): Door {
    const { createServer, hosts, intake, urls } = this.#options;
    const common = {
      ...this.#commonOfDoors(),
      accept: (call: FunctionCall) => this.#events.accept(call),
      room: this.#room,
    };
    if (intake !== undefined) {
      return intake({ ...common, namespace: this.#options.namespace });
    }
    return createLambdaApi({
      ...common,
      ...createGatewayFunctions({
        ...this.#options,
        invoker: this.#invoker,
        view: this.view,
        book: this.#book,
      }),
      ...this.#partsOfCalls(),
      hosts: new Set(hosts),
      urlDomain: urls?.domain,
      timingHeaders: this.#options.timingHeaders ?? true,
      ...(createServer === undefined ? {} : { createServer }),
    });
  }

  #createUrlDoor(urls: FunctionUrls): Door {
    const { functions, namespace } = this.#options;
    return createUrlDoor({
      ...this.#commonOfDoors(),
      ...this.#partsOfCalls(),
      ...urls,
      routes: new UrlRoutes({ ...urls, functions, holderOf: (name) => this.#book.function(name), namespace }),
      room: this.#urlRoom,
    });
  }

  #commonOfDoors() {
    const { clock, logger, patience } = this.#options;
    return {
      connections: patience === undefined ? this.#limits : { ...this.#limits, patience },
      notReady: () =>
        this.#isSynced
          ? undefined
          : unavailable('The gateway has just started and has not heard from the Kubernetes API server yet.'),
      isDraining: () => this.#draining,
      clock,
      logger,
    };
  }

  #partsOfCalls() {
    const { listeners = [], tracing } = this.#options.observation ?? {};
    return {
      access: this.#options.access ?? createOpenAccess(() => false),
      requestRates: this.#requestRates,
      invoker: this.#invoker,
      observer: createCallObserver([this.metrics.requests, ...listeners], tracing),
    };
  }

  /** Whether all first lists have come. */
  get #isSynced(): boolean {
    return this.#options.workers.hasSynced() && this.#options.nodes.hasSynced() && this.#book.hasSynced;
  }

  /** Whether calls can be served; agents that cannot be reached are no fault of the gateway. */
  health(): Health {
    if (this.#draining) {
      return { ok: false, reason: 'Stopping', message: 'the gateway is ending' };
    }
    if (!this.#isSynced) {
      return {
        ok: false,
        reason: 'NotSynced',
        message: 'LambdaWorkers, LambdaFunctions and LambdaNodes have not been read from the API server yet',
      };
    }
    if (this.#options.identity.current === undefined) {
      return {
        ok: false,
        reason: 'NoCertificate',
        message: 'the controller has not signed the client certificate yet',
      };
    }
    // Of a gateway, other calls go on without events. The role that keeps them goes on where its disk is full: an event
    // that comes has the store look for room again.
    const { health } = this.#events;
    return this.#options.intake === undefined || (!health.ok && health.reason === 'EventStoreDiskFull')
      ? { ok: true }
      : health;
  }

  /**
   * Takes the port and returns the real one.
   *
   * @throws {EsbError} `AddressInUse` when another program has it, `ListenFailed` for anything else
   */
  async listen(address: HostPort): Promise<number> {
    let port: number;
    try {
      port = await this.#door.listen(address);
    } catch (error) {
      throw listenError(address, error);
    }
    this.#pressure.start();
    this.#events.start();
    this.#options.logger.info(
      { address: formatHostPort({ ...address, port }) },
      this.#options.intake === undefined ? 'serving the Lambda API' : 'taking events from gateways',
    );
    return port;
  }

  /**
   * Takes the port of function URLs and returns the real one; only with {@link GatewayOptions.urls}.
   *
   * @throws {EsbError} as {@link Gateway.listen}
   */
  async listenForUrls(address: HostPort): Promise<number> {
    const { logger, urls } = this.#options;
    if (this.#urlDoor === undefined || urls === undefined) {
      throw new EsbError('the gateway serves no function URLs', { code: 'InvalidArgument' });
    }
    const port = await this.#urlDoor.listen(address);
    logger.info({ address: formatHostPort({ ...address, port }), domain: urls.domain }, 'serving function URLs');
    return port;
  }

  /** Opens a new connection to each agent, after a change of the identity. */
  reconnect(): void {
    this.#agents.renew();
  }

  /**
   * Sends clients elsewhere, and lets every call end. The role that keeps events goes on to keep those that come until
   * the ones under way are over.
   */
  async stop(): Promise<void> {
    const { eventDrainMs = EVENT_DRAIN_MS, intake, lameDuckMs = LAME_DUCK_MS } = this.#options;
    if (intake !== undefined) {
      await this.#events.stop(eventDrainMs);
    }
    this.#draining = true;
    const drain = { quietMs: lameDuckMs, maxMs: lameDuckMs * MAX_LAME_DUCKS };
    await Promise.all([this.#door.close(drain), this.#urlDoor?.close(drain)]);
    if (intake === undefined) {
      await this.#events.stop(eventDrainMs);
    }
    this.#agents.close();
    this.#pressure.stop();
  }
}
