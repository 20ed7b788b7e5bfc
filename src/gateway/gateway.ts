import type { LambdaNode } from '../api/lambda-node.ts';
import type { LambdaWorker } from '../api/lambda-worker.ts';
import type { Clock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import { hasCode, unreachable } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import { formatHostPort, type HostPort } from '../common/host-port.ts';
import type { Logger } from '../common/logger.ts';
import type { Informer, KubeClient } from '../kube/types.ts';
import { ActivityWriter } from './activity-writer.ts';
import { AgentDirectory } from './agent-directory.ts';
import { loadAgentProtocol } from './agent-protocol.ts';
import type { ClientIdentity } from './client-identity.ts';
import { EventQueue } from './event-queue.ts';
import { FleetView } from './fleet-view.ts';
import { createGatewayMetrics, type GatewayMetrics } from './gateway-metrics.ts';
import { listenError } from './health-server.ts';
import { createLambdaApi, type LambdaApi } from './invoke-route.ts';
import { Invoker } from './invoker.ts';
import { unavailable } from './lambda-error.ts';

/** Milliseconds that connections are still taken after the end was asked for: load balancers have to hear of it. */
const LAME_DUCK_MS = 500;
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
  /** Milliseconds that a call waits for a worker that is being moved, in place of 15,000. */
  readonly maxWaitMs?: number;
  /** Milliseconds in place of {@link LAME_DUCK_MS}. */
  readonly lameDuckMs?: number;
}

/** The Lambda API of one namespace, put together. Who runs it owns informers and identity. */
export class Gateway {
  readonly #options: GatewayOptions;
  readonly #view: FleetView;
  readonly #agents: AgentDirectory;
  readonly #activity: ActivityWriter;
  readonly #events: EventQueue;
  readonly #api: LambdaApi;
  readonly metrics: GatewayMetrics;
  #draining = false;

  constructor(options: GatewayOptions) {
    this.#options = options;
    const { clock, logger, identity, workers, nodes } = options;
    const view = new FleetView(options.namespace);
    this.#view = view;
    this.metrics = createGatewayMetrics({
      functions: () => view.functionCount,
      workers: () => view.workerCount,
      agents: () => this.#agents.size,
      agentsConnected: () => view.connected.size,
      eventsPending: () => this.#events.size,
      activityPending: () => this.#activity.pending,
    });
    this.#agents = new AgentDirectory({
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
      clock,
      sessionOf: (nodeName) => this.#agents.session(nodeName),
      onActivity: (worker, stamp) => this.#activity.note(worker.reference, stamp),
      ...(options.maxWaitMs === undefined ? {} : { maxWaitMs: options.maxWaitMs }),
    });
    this.#events = new EventQueue({
      invoke: (call, caller) => invoker.invoke(call, caller),
      concurrencyOf: (name) => view.function(name)?.workers.length ?? 0,
      clock,
      logger,
      onEnded: (result) => this.metrics.eventEnded(result),
    });
    this.#api = createLambdaApi({
      invoker,
      accept: (call) => this.#events.accept(call),
      notReady: () =>
        workers.hasSynced() && nodes.hasSynced()
          ? undefined
          : unavailable('The gateway has just started and has not heard from the Kubernetes API server yet.'),
      isDraining: () => this.#draining,
      clock,
      logger,
      onCall: (report) => this.metrics.called(report),
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
    await sleep(this.#options.clock, this.#options.lameDuckMs ?? LAME_DUCK_MS);
    await this.#api.close();
    await this.#events.stop(EVENT_DRAIN_MS);
    await this.#activity.stop(ACTIVITY_FLUSH_MS);
    this.#agents.close();
  }

  /** What is known; for tests and debugging. */
  get view(): FleetView {
    return this.#view;
  }
}
