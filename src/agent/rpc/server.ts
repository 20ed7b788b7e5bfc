import { randomUUID } from 'node:crypto';
import type { EventEmitter } from 'node:events';
import {
  type ConnectionInjector,
  type handleUnaryCall,
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  type UntypedHandleCall,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation, protoPath as healthProto } from 'grpc-health-check';
import { namespacesOfNames } from '../../api/gateway-name.ts';
import type { Clock } from '../../common/clock.ts';
import { type CallOptions, sleep } from '../../common/deadline.ts';
import { EsbError, hasCode } from '../../common/errors.ts';
import type { HostPort } from '../../common/host-port.ts';
import type { Logger } from '../../common/logger.ts';
import type { MetricsPage } from '../../common/net/health-server.ts';
import type { Tracing } from '../../common/tracing/span.ts';
import { loadAgentProto } from '../../protocol/agent-proto.ts';
import type { AgentMethods, ListRequest, WorkerRequest, WorkerState } from '../../protocol/generated/agent.ts';
import type { WorkerUsage } from '../../runtime/contract/usage.ts';
import type { Fleet } from '../model/fleet.ts';
import type { InvocationResult } from '../model/invocation.ts';
import type { WorkerView } from '../model/worker-state.ts';
import { CallBudget, defaultCallBytes } from './call-budget.ts';
import { GatedRead } from './gated-read.ts';
import { toGrpcStatus } from './grpc-status.ts';
import {
  type InvokeCall,
  type InvokeStreamedCall,
  type RecoverCall,
  serveInvoke,
  serveInvokeStreamed,
  serveRecover,
} from './invoke-alone.ts';
import type { Callers } from './invoke-answer.ts';
import { type InvokeManyCall, serveInvokeMany } from './invoke-stream.ts';
import { KeptCalls } from './kept-calls.ts';
import { type LogCall, type LogSource, serveLogs } from './log-stream.ts';
import { resolveWorker, type ServedFleet, servedFleet } from './served-fleet.ts';
import { type TlsIdentity, TlsListener } from './tls-listener.ts';
import { serveWatch, type WatchCall } from './watch-stream.ts';
import { usedStateMessage, workerStateMessage } from './worker-message.ts';

/** Largest request: a payload of 6 MB, which is what Lambda allows, with room for what surrounds it. */
const maxRequestBytes = 8 * 1024 * 1024;
/**
 * Milliseconds without a word after which a client is asked whether it is there, and that it gets to answer. A machine
 * that lost its power closes no connection: without this its calls would wait, and run, for a quarter of an hour.
 */
const keepAliveMs = 10_000;
/** Milliseconds that open connections get to take in their last bytes when the server is closed. */
const closeGraceMs = 1_000;
/** Milliseconds that a call waits for {@link AgentGrpcServer.serve}. */
const maxReadyWaitMs = 5_000;

/** Parts that the server needs once it serves. */
export interface GrpcServerParts {
  readonly fleet: Fleet;
  readonly logs: LogSource;
  readonly metricsPage: () => Promise<MetricsPage>;
  /** Use of each worker, by its uid. */
  readonly usages?: () => Promise<ReadonlyMap<string, WorkerUsage>>;
  /** Called at the end of each Invoke. */
  readonly onInvoked?: (result: InvocationResult) => void;
  /** Exporter of the spans of calls; absent without a collector. */
  readonly tracing?: Tracing | undefined;
}

/** Parts of the server as one client may see them. */
interface ClientParts extends Omit<GrpcServerParts, 'fleet'> {
  readonly fleet: ServedFleet;
  /** Namespaces that the client serves. */
  readonly namespaces: ReadonlySet<string>;
}

export interface GrpcServerOptions {
  readonly logger: Logger;
  readonly clock: Clock;
  /** Bytes that calls may hold in all. */
  readonly budget?: CallBudget | undefined;
  /** Milliseconds without a word after which a client is asked for one, and that it gets to answer. Default 10,000. */
  readonly keepAliveMs?: number;
}

/**
 * The agent's gRPC server. Its life: {@link AgentGrpcServer.bind} takes the port, which makes this process the one
 * agent of the node; {@link AgentGrpcServer.serve} answers, also the calls that came since; {@link
 * AgentGrpcServer.refuse} takes no new client; {@link AgentGrpcServer.close} gives the port back.
 */
export class AgentGrpcServer {
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #server: Server;
  readonly #listener: TlsListener;
  readonly #injector: ConnectionInjector;
  readonly #health = new HealthImplementation();
  readonly #parts = Promise.withResolvers<GrpcServerParts>();
  readonly #stopping = new AbortController();
  readonly #budget: CallBudget;
  readonly #kept: KeptCalls;
  /** Name of this process, by which gateways tell the calls that an earlier one was sent. */
  readonly #run = randomUUID();
  #served: GrpcServerParts | undefined;

  constructor(options: GrpcServerOptions) {
    this.#logger = options.logger;
    this.#clock = options.clock;
    this.#budget = options.budget ?? new CallBudget(defaultCallBytes(0), options.clock);
    this.#kept = new KeptCalls(options.clock);
    this.#parts.promise.catch(() => undefined);
    const proto = loadAgentProto();
    this.#server = new Server({
      'grpc.max_receive_message_length': maxRequestBytes,
      'grpc.max_send_message_length': -1,
      'grpc.keepalive_time_ms': options.keepAliveMs ?? keepAliveMs,
      'grpc.keepalive_timeout_ms': options.keepAliveMs ?? keepAliveMs,
      interceptors: [
        (method, call) =>
          method.path === proto.agent.Invoke.path || method.path === proto.agent.InvokeStreamed.path
            ? new GatedRead(call, this.#budget, () => this.#ready(), method.requestStream)
            : new ServerInterceptingCall(call),
      ],
    });
    this.#server.addService(proto.agent, this.#agentService());
    this.#setHealth('NOT_SERVING');
    this.#health.addToServer(this.#server);
    new ReflectionService({ ...proto.packageDefinition, ...loadSync(healthProto) }).addToServer(this.#server);
    // TLS is ours: grpc-js cannot take a new authority without a new port.
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
    this.#listener = new TlsListener({
      logger: options.logger,
      clock: options.clock,
      onConnection: (socket) => {
        if (this.#stopping.signal.aborted) {
          socket.destroy();
        } else {
          this.#injector.injectConnection(socket);
        }
      },
    });
  }

  /**
   * Takes the port and returns the real one.
   *
   * @throws {EsbError} `AddressInUse` when another agent of this node, or another program, has it
   */
  bind(address: HostPort): Promise<HostPort> {
    return this.#listener.bind(address);
  }

  /** Certificate to show and authority to ask for, from now on. */
  configure(identity: TlsIdentity): void {
    this.#listener.configure(identity);
  }

  /** Begins to answer. */
  serve(parts: GrpcServerParts): void {
    this.#served = parts;
    this.#parts.resolve(parts);
    this.#setHealth('SERVING');
  }

  /** Takes no more connections and ends the endless streams. Calls under way go on. */
  refuse(): void {
    const error = new EsbError('the agent is stopping', { code: 'Unavailable' });
    this.#parts.reject(error);
    this.#stopping.abort(error);
    this.#listener.refuse();
    this.#setHealth('NOT_SERVING');
  }

  /** Ends every connection, at the latest after a second, and gives the port back. */
  async close(): Promise<void> {
    this.refuse();
    this.#injector.drain(closeGraceMs);
    await Promise.race([this.#listener.idle(), sleep(this.#clock, closeGraceMs)]);
    await this.#listener.close();
    this.#injector.destroy();
    this.#server.forceShutdown();
  }

  /** Sets the answer of the health service for the server as a whole and for its one service. */
  #setHealth(status: 'SERVING' | 'NOT_SERVING'): void {
    this.#health.setStatus('', status);
    this.#health.setStatus('esb.agent.v1.Agent', status);
  }

  #agentService(): Record<keyof AgentMethods, UntypedHandleCall> {
    return {
      Invoke: this.#streaming('Invoke', async (parts, call: InvokeCall) => {
        const result = await serveInvoke(call, this.#callers(call, parts));
        parts.onInvoked?.(result);
      }),
      InvokeStreamed: this.#streaming('InvokeStreamed', async (parts, call: InvokeStreamedCall) => {
        const result = await serveInvokeStreamed(call, this.#callers(call, parts));
        parts.onInvoked?.(result);
      }),
      Recover: this.#streaming('Recover', async (parts, call: RecoverCall) => {
        const result = await serveRecover(call, this.#callers(call, parts), this.#run);
        parts.onInvoked?.(result);
      }),
      InvokeMany: this.#streaming('InvokeMany', (parts, call: InvokeManyCall) =>
        serveInvokeMany(call, this.#callers(call, parts), this.#stopping.signal, {
          onInvoked: parts.onInvoked,
          onFailed: (error) => this.#report('Invoke', error),
        }),
      ),
      Ensure: this.#hint('Ensure', (fleet, ...rest) => fleet.ensure(...rest)),
      Pause: this.#hint('Pause', (fleet, ...rest) => fleet.pause(...rest)),
      Resume: this.#hint('Resume', (fleet, ...rest) => fleet.resume(...rest)),
      Destroy: this.#hint('Destroy', (fleet, ...rest) => fleet.destroy(...rest)),
      List: this.#unary('List', async ({ fleet, usages }, request: ListRequest) => {
        const figures = request.withUsage ? await usages?.() : undefined;
        return { workers: fleet.views().map((view) => usedStateMessage(view, figures?.get(view.identity.uid))) };
      }),
      Watch: this.#streaming('Watch', async ({ fleet }, call: WatchCall) => {
        await serveWatch(call, fleet, this.#run, this.#stopping.signal);
        this.#stopping.signal.throwIfAborted();
      }),
      GetMetrics: this.#unary('GetMetrics', ({ metricsPage }) => metricsPage()),
      GetLogs: this.#streaming('GetLogs', ({ fleet, logs }, call: LogCall) =>
        serveLogs(call, fleet, logs, this.#clock, this.#stopping.signal),
      ),
    };
  }

  #callers(call: { getHost(): string; getPeer(): string }, { fleet, namespaces, tracing }: ClientParts): Callers {
    const [peer, caller] = [call.getPeer(), call.getHost()];
    return { fleet, budget: this.#budget, kept: this.#kept, namespaces, peer, caller, tracing };
  }

  #hint(
    name: string,
    follow: (fleet: ServedFleet, uid: string, epoch: number, options: CallOptions) => Promise<WorkerView>,
  ): handleUnaryCall<WorkerRequest, WorkerState> {
    return this.#unary(name, async ({ fleet }, request: WorkerRequest, options) => {
      const uid = resolveWorker(fleet, request.worker);
      return workerStateMessage(await follow(fleet, uid, request.epoch, options));
    });
  }

  #unary<Request, Response>(
    name: string,
    handle: (parts: ClientParts, request: Request, options: CallOptions) => Promise<Response>,
  ): handleUnaryCall<Request, Response> {
    return (call, answer) => {
      const gone = new AbortController();
      call.on('cancelled', () => gone.abort());
      const namespaces = namespacesOf(call);
      this.#ready()
        .then((parts) =>
          handle(partsFor(namespaces, parts), call.request, { signal: gone.signal, ...deadlineOf(call) }),
        )
        .then(
          (response) => answer(null, response),
          (error: unknown) => {
            this.#report(name, error);
            answer(toGrpcStatus(error));
          },
        );
    };
  }

  #streaming<Call extends EventEmitter & Authenticated & { end(): void }>(
    name: string,
    handle: (parts: ClientParts, call: Call) => Promise<void>,
  ): (call: Call) => void {
    return (call) => {
      const namespaces = namespacesOf(call);
      this.#ready()
        .then((parts) => handle(partsFor(namespaces, parts), call))
        .then(
          () => call.end(),
          (error: unknown) => {
            this.#report(name, error);
            // The one way in which grpc-js lets a stream end with a status.
            call.emit('error', toGrpcStatus(error));
          },
        );
    };
  }

  /** Calls that came before adoption was done wait for it, but not for ever. */
  async #ready(): Promise<GrpcServerParts> {
    if (this.#served !== undefined) {
      return this.#served;
    }
    const waiting = new AbortController();
    try {
      return await Promise.race([
        this.#parts.promise,
        sleep(this.#clock, maxReadyWaitMs, waiting.signal).then(() => {
          throw new EsbError('the agent is still looking after what an earlier run left', {
            code: 'Unavailable',
          });
        }),
      ]);
    } finally {
      waiting.abort();
    }
  }

  /** Faults of ours are logged; what a caller did wrong, or gave up, is only told to the caller. */
  #report(name: string, error: unknown): void {
    if (!(error instanceof EsbError) || hasCode(error, 'Internal')) {
      this.#logger.error({ err: error, method: name }, 'call to the agent failed');
    }
  }
}

/** A call of which it is known with which certificate its connection was made. */
interface Authenticated {
  getAuthContext(): { readonly sslPeerCertificate?: { readonly subjectaltname?: string } | undefined };
}

/** The namespaces that the certificate of a client names. The listener takes no client without a certificate. */
function namespacesOf(call: Authenticated): ReadonlySet<string> {
  return namespacesOfNames(call.getAuthContext().sslPeerCertificate?.subjectaltname);
}

function partsFor(namespaces: ReadonlySet<string>, parts: GrpcServerParts): ClientParts {
  return { ...parts, fleet: servedFleet(parts.fleet, namespaces), namespaces };
}

function deadlineOf(call: { getDeadline(): Date | number }): CallOptions {
  const deadline = Number(call.getDeadline());
  return Number.isFinite(deadline) ? { deadlineMs: Math.max(1, deadline - Date.now()) } : {};
}
