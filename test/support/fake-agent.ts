import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { fileURLToPath } from 'node:url';
import {
  loadPackageDefinition,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerWritableStream,
  type ServiceDefinition,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import {
  BasicConstraintsExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';
import type { LambdaNode } from '../../src/api/lambda-node.ts';
import type { FunctionEnd, InitFault } from '../../src/protocol/generated/agent.ts';
import { reasonCodeOf } from '../../src/protocol/reasons.ts';
import type { Sparse } from '../../src/protocol/sparse.ts';
import type { IssuedCertificate } from './certificate-authority.ts';
import { nodeFixture } from './worker-fixture.ts';

/** An Invoke as an agent receives it. */
export interface SeenInvoke {
  readonly worker: { readonly namespace: string; readonly name: string; readonly uid: string };
  readonly epoch: number;
  readonly requestId: string;
  readonly payload: Buffer;
  readonly clientContext: string;
  readonly tailLog: boolean;
  readonly traceId: string;
  readonly atOnce: boolean;
  readonly waitedMs: number;
  readonly keeps: boolean;
}

/** A Recover as an agent receives it. */
export interface SeenRecover {
  readonly requestId: string;
  readonly run: string;
  readonly sentMs: number;
  readonly from: number;
  readonly tailLog: boolean;
}

/** Claim of an agent about a worker. */
export interface FakeWorkerState {
  readonly worker: { readonly namespace: string; readonly name: string; readonly uid: string };
  readonly functionName: string;
  readonly epoch: number;
  readonly phase: string;
  readonly inFlight: number;
  readonly others?: number;
  readonly othersPlaced?: number;
  readonly containerId: string;
  readonly callable: boolean;
}

export interface FakeTimings {
  readonly queued: number;
  readonly wake: number;
  readonly run: number;
  readonly start: string;
}

/** One call, to be ended by exactly one of these. */
export interface FakeCall {
  readonly request: SeenInvoke;
  /** Resolves when the caller has given the call up or is gone. */
  readonly cancelled: Promise<void>;
  /** Resolves when the caller asks for a refusal, because another worker would take the call. */
  readonly withdrawn: Promise<void>;
  answer(
    body: string | Buffer | readonly Buffer[],
    options?: {
      readonly status?: number;
      readonly head?: { readonly contentType?: string; readonly streaming?: boolean };
      readonly end?: Sparse<FunctionEnd>;
      readonly logTail?: string;
      readonly timings?: FakeTimings;
      readonly stamp?: string;
    },
  ): void;
  refuse(reason: string, message?: string, initFault?: Sparse<InitFault>): void;
  unknown(reason: string, message?: string): void;
  timeOut(): void;
  /** Ends the call with a gRPC status instead of a trailer; `code` goes along as `esb-code`. */
  fail(grpcStatus: number, code?: string, message?: string): void;
  /** Head and body only: the rest is up to the test. */
  begin(body: string | readonly Buffer[]): void;
}

/** A gRPC server that speaks the agent's protocol over mutual TLS and does what it is told. */
export interface FakeAgent {
  readonly nodeName: string;
  readonly port: number;
  /** PEM. */
  readonly certificate: string;
  /** Its LambdaNode. */
  readonly node: LambdaNode;
  /** Every call, oldest first. */
  readonly calls: readonly SeenInvoke[];
  /** Handler of calls from now on. The default answers `{}`. */
  onInvoke(handle: (call: FakeCall) => void): void;
  /** Handler of the requests for answers of calls of an earlier run. The default knows none. */
  onRecover(handle: (call: FakeCall, request: SeenRecover) => void): void;
  /** Adds or changes a worker, and tells watchers. */
  put(worker: Partial<FakeWorkerState> & { readonly name: string }): void;
  remove(name: string): void;
  /** Watches that are open. */
  watchers(): number;
  /** Ends Watches as a stopping agent does: calls under way go on. */
  endWatches(): void;
  /** Ends every stream that is shared by calls, orderly, with calls unanswered. */
  endShared(): void;
  /** Calls that came on a stream of their own. */
  alone(): number;
  /** Cuts every connection and stops to listen, as a killed process. */
  kill(): Promise<void>;
  /** Listens again on the same port. */
  revive(): Promise<void>;
  stop(): Promise<void>;
}

export interface FakeAgentOptions {
  readonly nodeName?: string;
  /** PEM of the authority of the clients to let in. */
  readonly clientAuthority: string;
  /** In place of one of its own. */
  readonly identity?: IssuedCertificate;
  /** Whether it keeps the answers of calls that are to be kept, as agents do. Default no. */
  readonly keepsAnswers?: boolean;
}

/** Stream that a call is answered on: one of its own, or its share of one. */
interface InvokeStream extends EventEmitter {
  readonly request: SeenInvoke;
  write(message: object): unknown;
  end(): unknown;
}

interface ManyRequest {
  readonly call: number;
  readonly invoke: SeenInvoke | null;
  readonly cancel: boolean;
  readonly withdraw: boolean;
}

type StreamedRequest = Pick<ManyRequest, 'invoke' | 'withdraw'>;

const timings: FakeTimings = { queued: 12, wake: 0, run: 1_500, start: 'running' };

/** Starts one on a free loopback port. */
export async function startFakeAgent(options: FakeAgentOptions): Promise<FakeAgent> {
  const nodeName = options.nodeName ?? 'node-1';
  const identity = options.identity ?? (await makeServerCertificate(nodeName));
  const workers = new Map<string, FakeWorkerState>();
  const watches = new Set<ServerWritableStream<object, object>>();
  const shares = new Set<{ end(): unknown }>();
  const calls: SeenInvoke[] = [];
  let alone = 0;
  let run = 1;
  let handle: (call: FakeCall) => void = (call) => call.answer('{}');
  let recovered: (call: FakeCall, request: SeenRecover) => void = (call) => call.unknown('AgentStopped');
  let stamps = 0;
  const nextStamp = (): string => {
    stamps += 1;
    return `2026-11-01T00:00:00.${String(stamps).padStart(6, '0')}Z`;
  };
  const tell = (event: object): void => {
    for (const watch of watches) {
      watch.write(event);
    }
  };
  const kept = new Map<string, KeptAnswer>();
  const take = (stream: InvokeStream): void => {
    calls.push(stream.request);
    let taken = stream;
    if (options.keepsAnswers === true && stream.request.keeps) {
      const answer = new KeptAnswer(stream);
      kept.set(keyOf(stream.request), answer);
      taken = answer;
    }
    handle(fakeCall(taken, nextStamp));
  };
  const service = {
    InvokeStreamed: (stream: ServerDuplexStream<StreamedRequest, object>): void => {
      stream.on('data', ({ invoke, withdraw }: StreamedRequest) => {
        if (withdraw) {
          stream.emit('withdrawn');
        } else if (invoke !== null) {
          alone += 1;
          take(Object.assign(stream, { request: invoke }));
        }
      });
    },
    Recover: (stream: Omit<InvokeStream, 'request'> & { readonly request: SeenRecover & SeenInvoke }): void => {
      stream.once('data', (request: SeenRecover & SeenInvoke) => {
        const answer = kept.get(keyOf(request));
        if (answer === undefined) {
          recovered(fakeCall(stream, nextStamp), request);
        } else {
          answer.tell(stream);
        }
      });
    },
    InvokeMany: (shared: ServerDuplexStream<ManyRequest, object>): void => {
      const open = new Map<number, InvokeStream>();
      shares.add(shared);
      shared.on('close', () => shares.delete(shared));
      shared.on('data', ({ call, invoke, cancel, withdraw }: ManyRequest) => {
        if (cancel) {
          open.get(call)?.emit('cancelled');
        } else if (withdraw) {
          open.get(call)?.emit('withdrawn');
        } else if (invoke !== null) {
          const share = shareOf(shared, call, invoke, () => open.delete(call));
          open.set(call, share);
          take(share);
        }
      });
      shared.on('end', () => shared.end());
      shared.on('cancelled', () => {
        for (const share of open.values()) {
          share.emit('cancelled');
        }
      });
    },
    Watch: (stream: ServerWritableStream<object, object>): void => {
      watches.add(stream);
      const gone = (): boolean => watches.delete(stream);
      stream.on('cancelled', gone);
      stream.on('close', gone);
      stream.write({ snapshot: { workers: [...workers.values()], run: `run-${run}` } });
    },
  };
  const listen = async (port: number): Promise<{ readonly server: Server; readonly port: number }> => {
    const server = new Server({ 'grpc.max_receive_message_length': 16 * 1024 * 1024 });
    server.addService(agentService(), service);
    const bound = Promise.withResolvers<number>();
    server.bindAsync(
      `127.0.0.1:${port}`,
      ServerCredentials.createSsl(
        Buffer.from(options.clientAuthority),
        [{ cert_chain: Buffer.from(identity.certificate), private_key: Buffer.from(identity.key) }],
        true,
      ),
      (error, actual) => (error === null ? bound.resolve(actual) : bound.reject(error)),
    );
    return { server, port: await bound.promise };
  };
  let running: Awaited<ReturnType<typeof listen>> | undefined = await listen(0);
  const { port } = running;
  const kill = async (): Promise<void> => {
    running?.server.forceShutdown();
    running = undefined;
    watches.clear();
  };
  return {
    nodeName,
    port,
    certificate: identity.certificate,
    node: nodeFixture({
      name: nodeName,
      status: { endpoint: `127.0.0.1:${port}`, certificate: identity.certificate },
    }),
    calls,
    onInvoke: (next) => {
      handle = next;
    },
    onRecover: (next) => {
      recovered = next;
    },
    put({ name, ...worker }) {
      const state: FakeWorkerState = {
        worker: { namespace: 'default', name, uid: `uid-of-${name}` },
        functionName: name,
        epoch: 1,
        phase: 'PHASE_RUNNING',
        inFlight: 0,
        containerId: `${name}-1`,
        callable: true,
        ...workers.get(name),
        ...worker,
      };
      workers.set(name, state);
      tell({ changed: state });
    },
    remove(name) {
      const state = workers.get(name);
      workers.delete(name);
      if (state !== undefined) {
        tell({ removed: state.worker });
      }
    },
    watchers: () => watches.size,
    alone: () => alone,
    endShared() {
      for (const shared of shares) {
        shared.end();
      }
    },
    endWatches() {
      for (const watch of watches) {
        watch.emit('error', { code: status.UNAVAILABLE, details: 'Unavailable: stopping' });
      }
      watches.clear();
    },
    kill,
    async revive() {
      run += 1;
      running ??= await listen(port);
    },
    stop: kill,
  };
}

/** The part of a call by which a later process asks for its answer. */
function keyOf({ requestId, worker }: Pick<SeenInvoke, 'requestId' | 'worker'>): string {
  return `${worker.uid}/${requestId}`;
}

/** An answer that the end of its caller does not end, and that is told to each who asks, from its beginning. */
class KeptAnswer extends EventEmitter implements InvokeStream {
  readonly request: SeenInvoke;
  readonly #told: object[] = [];
  readonly #askers = new Set<Pick<InvokeStream, 'write' | 'end'>>();
  #hasEnded = false;

  constructor(caller: InvokeStream) {
    super();
    this.request = caller.request;
    caller.once('withdrawn', () => this.emit('withdrawn'));
    this.tell(caller);
  }

  tell(asker: Pick<InvokeStream, 'write' | 'end' | 'on'>): void {
    this.#askers.add(asker);
    asker.on('cancelled', () => this.#askers.delete(asker));
    for (const message of this.#told) {
      asker.write(message);
    }
    if (this.#hasEnded) {
      asker.end();
    }
  }

  write(message: object): void {
    this.#told.push(message);
    for (const asker of this.#askers) {
      asker.write(message);
    }
  }

  end(): void {
    this.#hasEnded = true;
    for (const asker of this.#askers) {
      asker.end();
    }
  }
}

/** One call's share of a stream for many. */
function shareOf(
  shared: ServerDuplexStream<ManyRequest, object>,
  call: number,
  request: SeenInvoke,
  ended: () => void,
): InvokeStream {
  const share = Object.assign(new EventEmitter(), {
    request,
    write: (answer: object) => shared.write({ call, answer }),
    end: ended,
  });
  share.on('error', ({ details, metadata }: { details: string; metadata: Metadata }) => {
    const code = metadata.get('esb-code')[0];
    const word = typeof code === 'string' ? code : '';
    shared.write({ call, failure: { code: word, message: details, reasonCode: reasonCodeOf(word) } });
    ended();
  });
  return share;
}

function fakeCall(stream: InvokeStream, nextStamp: () => string): FakeCall {
  const cancelled = Promise.withResolvers<void>();
  stream.on('cancelled', () => cancelled.resolve());
  stream.on('close', () => cancelled.resolve());
  const withdrawn = Promise.withResolvers<void>();
  stream.once('withdrawn', () => withdrawn.resolve());
  const end = (trailer: object): void => {
    stream.write({ trailer });
    stream.end();
  };
  const writeBody = (head: object, chunks: readonly Buffer[]): void => {
    stream.write({ head: { status: 200, contentType: 'text/plain', ...head } });
    for (const chunk of chunks) {
      stream.write({ chunk });
    }
  };
  return {
    request: stream.request,
    cancelled: cancelled.promise,
    withdrawn: withdrawn.promise,
    answer(body, options = {}) {
      const chunks = typeof body === 'string' ? [Buffer.from(body)] : Buffer.isBuffer(body) ? [body] : body;
      writeBody({ status: options.status ?? 200, ...options.head }, chunks);
      end({
        outcome: 'OUTCOME_ANSWERED',
        stamp: options.stamp ?? nextStamp(),
        timings: options.timings ?? timings,
        logTail: Buffer.from(options.logTail ?? ''),
        functionEnd: options.end,
      });
    },
    refuse: (reason, message = `refused: ${reason}`, initFault) =>
      end({ outcome: 'OUTCOME_REFUSED', reason, reasonCode: reasonCodeOf(reason), message, initFault }),
    unknown: (reason, message = `lost: ${reason}`) =>
      end({ outcome: 'OUTCOME_UNKNOWN', reason, reasonCode: reasonCodeOf(reason), message, stamp: nextStamp() }),
    timeOut: () => end({ outcome: 'OUTCOME_TIMED_OUT', message: 'too slow', stamp: nextStamp(), timings }),
    fail(grpcStatus, code, message = 'failed') {
      const metadata = new Metadata();
      if (code !== undefined) {
        metadata.set('esb-code', code);
      }
      stream.emit('error', { code: grpcStatus, details: message, metadata });
    },
    begin: (body) => writeBody({}, typeof body === 'string' ? [Buffer.from(body)] : body),
  };
}

function agentService(): ServiceDefinition {
  const definition = loadSync('esb/agent/v1/agent.proto', {
    keepCase: false,
    longs: Number,
    enums: String,
    defaults: true,
    includeDirs: [fileURLToPath(new URL('../../proto', import.meta.url))],
  });
  // grpc-js takes nothing less than the whole tree.
  const loaded = loadPackageDefinition(definition) as unknown as {
    readonly esb: {
      readonly agent: { readonly v1: { readonly Agent: { readonly service: ServiceDefinition } } };
    };
  };
  return loaded.esb.agent.v1.Agent.service;
}

/** A self-signed certificate as an agent makes it. */
export async function makeServerCertificate(nodeName: string): Promise<IssuedCertificate> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: `CN=${nodeName}`,
    keys,
    signingAlgorithm: algorithm,
    notBefore: new Date(Date.now() - 3_600_000),
    notAfter: new Date(Date.now() + 86_400_000),
    extensions: [
      new SubjectAlternativeNameExtension([{ type: 'dns', value: nodeName }]),
      new BasicConstraintsExtension(false, undefined, true),
    ],
  });
  return {
    certificate: `${certificate.toString('pem').trim()}\n`,
    key: PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY'),
  };
}
