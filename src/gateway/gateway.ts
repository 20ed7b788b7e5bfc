import { randomUUID } from 'node:crypto';
import type { RequestListener, Server } from 'node:http';
import type { LambdaNode } from '../api/lambda-node.ts';
import type { LambdaWorker } from '../api/lambda-worker.ts';
import type { Clock } from '../common/clock.ts';
import { hasCode, unreachable } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import { formatHostPort, type HostPort } from '../common/host-port.ts';
import { listenError } from '../common/listen.ts';
import type { Logger } from '../common/logger.ts';
import type { Informer, KubeClient } from '../kube/api/types.ts';
import { type Access, createOpenAccess } from './access/access.ts';
import { FunctionAdmission } from './admission/function-admission.ts';
import { type GatewayLimits, gatewayLimits } from './admission/gateway-limits.ts';
import { ProcessPressure } from './admission/process-pressure.ts';
import { Room } from './admission/room.ts';
import { ActivityWriter } from './agents/activity-writer.ts';
import { AgentConnections } from './agents/agent-connections.ts';
import { loadAgentProtocol } from './agents/agent-protocol.ts';
import type { ClientIdentity } from './agents/client-identity.ts';
import { FleetView } from './agents/fleet-view.ts';
import { EndpointGuard } from './events/endpoint-guard.ts';
import { createPostRecord } from './events/event-destination.ts';
import { EventQueue } from './events/event-queue.ts';
import { eventSettingsOf } from './events/event-settings.ts';
import type { EventSettings, EventStore } from './events/event-store.ts';
import { FunctionCatalog } from './http/function-catalog.ts';
import type { ClientPatience } from './http/http-guard.ts';
import { createLambdaApi, type LambdaApi } from './http/lambda-api.ts';
import { Invoker } from './invoker.ts';
import { unavailable } from './lambda/lambda-error.ts';
import { DEFAULT_MAX_FUNCTIONS } from './telemetry/function-metrics.ts';
import { createGatewayMetrics, type GatewayMetrics } from './telemetry/gateway-metrics.ts';
import type { GatewayObservation } from './telemetry/gateway-observation.ts';
import { createCallObserver } from './telemetry/observed-call.ts';

/**
 * Milliseconds without a request after which clients count as sent elsewhere, once the end was asked for: load balancers have
 * to hear of it. Those who go on calling all the same hold it up that many times as long.
 */
const LAME_DUCK_MS = 500;
const MAX_LAME_DUCKS = 10;
/** Milliseconds for background calls to end, and for the last stamps to be written. */
const EVENT_DRAIN_MS = 10_000;
const ACTIVITY_FLUSH_MS = 3_000;

export interface GatewayOptions {
  /** The Kubernetes namespace that is served. */
  readonly namespace: string;
  readonly workers: Informer<LambdaWorker>;
  readonly nodes: Informer<LambdaNode>;
  readonly client: Pick<KubeClient, 'patch'>;
  readonly identity: Pick<ClientIdentity, 'current' | 'accepted' | 'refused'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where events are kept. Who runs the gateway owns it. */
  readonly eventStore: EventStore;
  /** Where records of failure may be posted; as without `--event-destination` when absent. */
  readonly endpoints?: EndpointGuard;
  /** Milliseconds that a call waits for a worker that is being moved, in place of 30,000. */
  readonly maxWaitMs?: number;
  /** Milliseconds in place of {@link LAME_DUCK_MS}. */
  readonly lameDuckMs?: number;
  /** Who may do what; everybody everything when absent. */
  readonly access?: Access;
  /** How much is taken on; what the flags have as their defaults when absent. */
  readonly limits?: GatewayLimits;
  /** What slow clients are given over plain HTTP, in place of what those of every gateway are. */
  readonly patience?: ClientPatience;
  /** Whether answers tell what the call found and how long it took where. Default true. */
  readonly timingHeaders?: boolean;
  /** What is told of calls beside their metrics; nothing when absent. */
  readonly observation?: GatewayObservation;
  /** Makes the server of the Lambda API, in place of one for plain HTTP. */
  readonly createServer?: (listener: RequestListener) => Server;
}

/** The Lambda API of one namespace, put together. Who runs it owns informers and identity. */
export class Gateway {
  readonly #options: GatewayOptions;
  readonly #view: FleetView;
  readonly #agents: AgentConnections;
  readonly #activity: ActivityWriter;
  readonly #events: EventQueue;
  readonly #api: LambdaApi;
  readonly #pressure: ProcessPressure;
  readonly metrics: GatewayMetrics;
  #draining = false;

  constructor(options: GatewayOptions) {
    this.#options = options;
    const { clock, logger, identity, workers, nodes } = options;
    const view = new FleetView(options.namespace);
    this.#view = view;
    const { listeners = [], tracing, maxFunctions = DEFAULT_MAX_FUNCTIONS } = options.observation ?? {};
    this.metrics = createGatewayMetrics(
      {
        functions: () => view.functionCount,
        workers: () => view.workerCount,
        agents: () => this.#agents.size,
        agentsConnected: () => view.connected.size,
        eventsPending: () => this.#events.size,
        eventStoreWorks: () => this.#events.health.ok,
        activityPending: () => this.#activity.pending,
        requestsHeld: () => room.requests,
        bytesHeld: () => room.bytes,
        callsWaiting: () => admission.waiting,
      },
      { exists: (name) => view.function(name) !== undefined, maxFunctions },
    );
    this.#agents = new AgentConnections({
      protocol: loadAgentProtocol(),
      view,
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
    this.#activity = new ActivityWriter({
      client: options.client,
      clock,
      logger,
      exists: (uid) => view.worker(uid) !== undefined,
      onWritten: (ok) => this.metrics.activityWritten(ok),
    });
    const invoker = new Invoker({
      view,
      isViewCurrent: () => workers.isCurrent(),
      clock,
      sessionOf: (nodeName) => this.#agents.session(nodeName),
      onActivity: (worker, stamp) => this.#activity.note(worker.reference, stamp),
      tracing,
      ...(options.maxWaitMs === undefined ? {} : { maxWaitMs: options.maxWaitMs }),
    });
    const limits = options.limits ?? gatewayLimits();
    this.#pressure = new ProcessPressure(clock);
    const room = new Room(limits.load, this.#pressure);
    const admission = new FunctionAdmission({
      view,
      room,
      callerRate: limits.callerRate,
      maxWaitMs: limits.maxQueueWaitMs,
      clock,
    });
    const eventSettings = (name: string): EventSettings | undefined => {
      const entry = view.function(name);
      return entry === undefined ? undefined : eventSettingsOf(entry.settings);
    };
    this.#events = new EventQueue({
      store: options.eventStore,
      post: createPostRecord(options.endpoints ?? new EndpointGuard({ allowed: [] })),
      settingsOf: eventSettings,
      isSwitchedOff: (name) => view.function(name)?.settings.concurrency?.reserved === 0,
      isReady: () => workers.hasSynced() && nodes.hasSynced(),
      newRequestId: randomUUID,
      invoke: async (call, caller) => {
        const admitted = await admission.enterEvent(call, caller);
        try {
          const result = await invoker.invoke(call, caller, admitted);
          admitted.answered(result.body.length);
          if (result.timings !== undefined) {
            this.metrics.requests.ran(call.reference.name, result.timings);
          }
          return result;
        } finally {
          admitted.release();
        }
      },
      concurrencyOf: (name) => {
        const entry = view.function(name);
        const workers = entry?.workers.length ?? 0;
        return Math.min(workers, entry?.settings.concurrency?.reserved ?? workers);
      },
      clock,
      logger,
      onTried: (result) => this.metrics.eventTried(result),
      onEnded: (result) => this.metrics.eventEnded(result),
    });
    this.#api = createLambdaApi({
      invoker,
      catalog: new FunctionCatalog({
        invoker,
        functionNames: () => view.functionNames(),
        resourceOf: (name) => workers.cache.get({ namespace: options.namespace, name }),
        architectureOf: (name) => nodes.cache.get({ name })?.status?.versions?.architecture,
      }),
      access: options.access ?? createOpenAccess(() => false),
      admission,
      room,
      connections: options.patience === undefined ? limits : { ...limits, patience: options.patience },
      accept: (call) => this.#events.accept(call),
      observer: createCallObserver({ listeners: [this.metrics.requests, ...listeners], tracing }),
      notReady: () =>
        workers.hasSynced() && nodes.hasSynced()
          ? undefined
          : unavailable('The gateway has just started and has not heard from the Kubernetes API server yet.'),
      isDraining: () => this.#draining,
      clock,
      logger,
      timingHeaders: options.timingHeaders ?? true,
      ...(options.createServer === undefined ? {} : { createServer: options.createServer }),
    });
    workers.subscribe((event) => {
      switch (event.kind) {
        case 'added':
        case 'updated':
          view.applyResource(event.object);
          break;
        case 'deleted':
          view.removeResource(event.object.metadata.uid ?? '');
          break;
        default:
          unreachable(event);
      }
    });
    nodes.subscribe((event) => this.#agents.apply(event));
  }

  /** Whether calls can be served; agents that cannot be reached are no fault of the gateway. */
  health(): Health {
    const { workers, nodes, identity } = this.#options;
    if (this.#draining) {
      return { ok: false, reason: 'Stopping', message: 'the gateway is ending' };
    }
    if (!workers.hasSynced() || !nodes.hasSynced()) {
      return {
        ok: false,
        reason: 'NotSynced',
        message: 'LambdaWorkers and LambdaNodes have not been read from the API server yet',
      };
    }
    if (identity.current === undefined) {
      return {
        ok: false,
        reason: 'NoCertificate',
        message: 'the controller has not signed the client certificate yet',
      };
    }
    return { ok: true };
  }

  /**
   * Takes the port and returns the real one.
   *
   * @throws {EsbError} `AddressInUse` when another program has it, `ListenFailed` for anything else
   */
  async listen(address: HostPort): Promise<number> {
    let port: number;
    try {
      port = await this.#api.listen(address);
    } catch (error) {
      throw listenError(address, error);
    }
    this.#pressure.start();
    this.#events.start();
    this.#options.logger.info({ address: formatHostPort({ ...address, port }) }, 'serving the Lambda API');
    return port;
  }

  /** Connects anew to all agents: the identity has changed. */
  reconnect(): void {
    this.#agents.renew();
  }

  /** Sends clients elsewhere, lets every call end, and writes what is left to be written. */
  async stop(): Promise<void> {
    this.#draining = true;
    const { lameDuckMs = LAME_DUCK_MS } = this.#options;
    await this.#api.close({ quietMs: lameDuckMs, maxMs: lameDuckMs * MAX_LAME_DUCKS });
    await this.#events.stop(EVENT_DRAIN_MS);
    await this.#activity.stop(ACTIVITY_FLUSH_MS);
    this.#agents.close();
    this.#pressure.stop();
  }

  /** What is known; for tests and debugging. */
  get view(): FleetView {
    return this.#view;
  }
}
