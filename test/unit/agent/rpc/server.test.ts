import { connect as connectHttp2 } from 'node:http2';
import { createRequire } from 'node:module';
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from 'node:net';
import { setTimeout as elapse } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import {
  type ClientReadableStream,
  credentials,
  makeGenericClientConstructor,
  type ServiceDefinition,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { service as health } from 'grpc-health-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { InvocationResult } from '../../../../src/agent/model/invocation.ts';
import { CallBudget } from '../../../../src/agent/rpc/call-budget.ts';
import { AgentGrpcServer } from '../../../../src/agent/rpc/server.ts';
import { systemClock } from '../../../../src/common/clock.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { grpcFrame } from '../../../../src/gateway/agents/grpc-stream.ts';
import { loadAgentProto } from '../../../../src/protocol/agent-proto.ts';
import {
  type CertificateAuthority,
  createCertificateAuthority,
  type IssuedCertificate,
} from '../../../support/certificate-authority.ts';
import { fakeFleet, viewFixture } from '../../../support/fake-fleet.ts';
import { type MemoryWorkerLog, memoryWorkerLogs } from '../../../support/memory-worker-logs.ts';
import { waitFor } from '../../../support/wait-for.ts';

// Messages as the loader makes them; the expectations show their form.
// biome-ignore lint/suspicious/noExplicitAny: see above
type Part = any;
type Stream = ClientReadableStream<Part>;

/** The reflection service in one of its versions. Older tools ask for `v1alpha`. */
const reflectionOf = (version: 'v1' | 'v1alpha'): ServiceDefinition =>
  loadSync(
    createRequire(import.meta.url).resolve(`@grpc/reflection/build/proto/grpc/reflection/${version}/reflection.proto`),
    { oneofs: true, longs: Number },
  )[`grpc.reflection.${version}.ServerReflection`] as unknown as ServiceDefinition;

const services = {
  agent: loadAgentProto().agent as ServiceDefinition,
  health: health as unknown as ServiceDefinition,
  reflection: reflectionOf('v1'),
  oldReflection: reflectionOf('v1alpha'),
};

const timings = { queued: 1, wake: 2, run: 3, start: 'paused' } as const;

/** A way to a port that stops to carry anything, in both directions, without a word to anybody. */
async function silentRelay(port: number): Promise<{ readonly port: number; silence(): void }> {
  const sockets: Socket[] = [];
  const relay = createServer((near) => {
    const far = connectTcp(port, '127.0.0.1');
    sockets.push(near, far);
    near.pipe(far).pipe(near);
    for (const socket of [near, far]) {
      socket.on('error', () => undefined);
    }
  });
  await new Promise<void>((resolve) => {
    relay.listen(0, '127.0.0.1', resolve);
  });
  onTestFinished(() => {
    relay.close();
    for (const socket of sockets) {
      socket.destroy();
    }
  });
  return {
    port: (relay.address() as AddressInfo).port,
    silence: () => {
      for (const socket of sockets) {
        socket.unpipe();
        socket.pause();
      }
    },
  };
}

async function agent(options: { readonly keepAliveMs?: number; readonly budget?: CallBudget } = {}) {
  const clients = await createCertificateAuthority();
  const own = await createCertificateAuthority();
  const shown = await own.issueServer();
  const fleet = fakeFleet();
  const server = new AgentGrpcServer({ logger: silentLogger(), clock: systemClock, ...options });
  const address = await server.bind({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => server.close());
  const configure = (authority: CertificateAuthority | undefined): void =>
    server.configure({
      certificate: shown.certificate,
      privateKey: shown.key,
      clientAuthority: authority?.certificate,
    });
  configure(clients);
  const written = new Map<string, MemoryWorkerLog>();
  const logs = { workerLogs: memoryWorkerLogs(written) };
  const serve = (): void =>
    server.serve({
      fleet,
      logs,
      usages: async () => new Map([['uid-of-hello', { cpuUs: 1_500.4, memoryBytes: 4_096, takenAt: 17 }]]),
      metricsPage: async () => ({ contentType: 'text/plain', text: 'up 1\n' }),
    });
  const connect = (certificate?: IssuedCertificate, service: keyof typeof services = 'agent', port = address.port) => {
    const Client = makeGenericClientConstructor(services[service], service);
    const client = new Client(
      `127.0.0.1:${port}`,
      certificate === undefined
        ? credentials.createSsl(Buffer.from(own.certificate))
        : credentials.createSsl(
            Buffer.from(own.certificate),
            Buffer.from(certificate.key),
            Buffer.from(certificate.certificate),
          ),
      { 'grpc.ssl_target_name_override': 'localhost', 'grpc.use_local_subchannel_pool': 1 },
    );
    onTestFinished(() => client.close());
    const methods = client as unknown as Record<string, (...args: unknown[]) => unknown>;
    const call = (method: string, request: object): Promise<unknown> => {
      const done = Promise.withResolvers<unknown>();
      methods[method]?.call(
        client,
        request,
        { deadline: Date.now() + 10_000 },
        (error: Error | null, answer: unknown) => (error === null ? done.resolve(answer) : done.reject(error)),
      );
      return done.promise;
    };
    const stream = (method: string, request: object): Stream =>
      methods[method]?.call(client, request, { deadline: Date.now() + 10_000 }) as Stream;
    const duplex = (method: string): Part => methods[method]?.call(client, { deadline: Date.now() + 10_000 });
    return { call, stream, duplex };
  };
  return {
    server,
    port: address.port,
    fleet,
    authority: own,
    written,
    serve,
    configure,
    connect,
    clients,
    gateway: (...namespaces: readonly string[]) =>
      clients.issueGateway(namespaces.length === 0 ? ['default'] : namespaces),
  };
}

async function partsOf(stream: Stream): Promise<Part[]> {
  const parts: Part[] = [];
  for await (const part of stream) {
    parts.push(part);
  }
  return parts;
}

const invoke = (uid = 'uid-of-hello') => ({
  worker: { namespace: 'default', name: 'hello', uid },
  epoch: 1,
  requestId: 'r-1',
  payload: Buffer.from('{"a":1}'),
});

describe("the agent's gRPC server", () => {
  it('lets in only clients with a certificate that the client authority signed for a gateway', {
    tags: ['P31'],
  }, async () => {
    const { connect, serve, gateway, clients } = await agent();
    serve();
    await expect(connect(await gateway()).call('list', {})).resolves.toEqual({ workers: [] });
    await expect(connect().call('list', {})).rejects.toMatchObject({ code: status.UNAVAILABLE });
    const stranger = await (await createCertificateAuthority()).issueGateway(['default']);
    await expect(connect(stranger).call('list', {})).rejects.toMatchObject({ code: status.UNAVAILABLE });
    const other = await clients.issueClient('esb-agent', []);
    await expect(connect(other).call('list', {})).rejects.toMatchObject({ code: status.UNAVAILABLE });
  });

  it('takes another client authority on the same port, and cuts clients of the former one', async () => {
    const { connect, serve, gateway, configure } = await agent();
    serve();
    const before = connect(await gateway());
    const watch = before.stream('watch', {});
    const ended = Promise.withResolvers<void>();
    watch.on('error', () => ended.resolve());
    await new Promise((resolve) => watch.once('data', resolve));
    const successor = await createCertificateAuthority();
    configure(successor);
    await ended.promise;
    await expect(before.call('list', {})).rejects.toMatchObject({ code: status.UNAVAILABLE });
    const after = connect(await successor.issueGateway(['default']));
    await expect(after.call('list', {})).resolves.toEqual({ workers: [] });
  });

  it('lets nobody in while there is no client authority', { tags: ['P31'] }, async () => {
    const { connect, serve, gateway, configure } = await agent();
    serve();
    configure(undefined);
    await expect(connect(await gateway()).call('list', {})).rejects.toMatchObject({
      code: status.UNAVAILABLE,
    });
  });

  it('is the only one on its port', async () => {
    const { server } = await agent();
    const address = await server.bind({ host: '127.0.0.1', port: 0 }).catch((error: unknown) => error);
    expect(address).toBeInstanceOf(Error);
  });

  it('passes head, chunks and trailer of a call on as they come', async () => {
    const { connect, serve, gateway, fleet } = await agent();
    serve();
    fleet.show(viewFixture());
    fleet.onInvoke(async (invocation): Promise<InvocationResult> => {
      invocation.onHead({ status: 200, contentType: 'application/json' });
      invocation.onChunk(Buffer.from('{"got":'));
      // The part that the test plays takes as long.
      await elapse(5);
      invocation.onChunk(Buffer.concat([invocation.payload, Buffer.from('}')]));
      // The part that the test plays takes as long.
      await elapse(5);
      return { kind: 'Answered', stamp: '2026-11-01T00:00:00.000001Z', timings };
    });
    const parts = await partsOf(connect(await gateway()).stream('invoke', invoke()));
    expect(parts).toHaveLength(3);
    expect(parts[0].head).toEqual({ status: 200, contentType: 'application/json', streaming: false });
    expect(Buffer.concat([parts[0].chunk, parts[1].chunk]).toString()).toBe('{"got":{"a":1}}');
    expect(parts[2].trailer).toMatchObject({
      outcome: 'OUTCOME_ANSWERED',
      stamp: '2026-11-01T00:00:00.000001Z',
      timings: { queued: 1, wake: 2, run: 3, start: 'paused' },
    });
  });

  it('puts an answer that comes in one go into one message', async () => {
    const { connect, serve, gateway, fleet } = await agent();
    serve();
    fleet.show(viewFixture());
    fleet.onInvoke(async (invocation): Promise<InvocationResult> => {
      invocation.onHead({ status: 200, contentType: '' });
      invocation.onChunk(Buffer.from('a'));
      invocation.onChunk(Buffer.from('b'));
      return { kind: 'Answered', stamp: '2026-11-01T00:00:00.000001Z', timings };
    });
    const parts = await partsOf(connect(await gateway()).stream('invoke', invoke()));
    expect(parts).toMatchObject([
      { head: { status: 200 }, chunk: Buffer.from('ab'), trailer: { outcome: 'OUTCOME_ANSWERED' } },
    ]);
  });

  it('passes on what the caller says of a call', async () => {
    const { connect, serve, gateway, fleet } = await agent();
    serve();
    fleet.show(viewFixture());
    let seen: unknown;
    fleet.onInvoke(async ({ requestId, clientContext, traceId, tailLog }) => {
      seen = { requestId, clientContext, traceId, tailLog };
      return { kind: 'Refused', reason: 'QueueFull', message: '' };
    });
    const said = { clientContext: 'eyJ9', traceId: 'Root=1-2-3', tailLog: true };
    await partsOf(connect(await gateway()).stream('invoke', { ...invoke(), ...said }));
    expect(seen).toEqual({ requestId: 'r-1', ...said });
  });

  it('tells a refusal with its reason', async () => {
    const { connect, serve, gateway, fleet } = await agent();
    serve();
    fleet.onInvoke(async () => ({ kind: 'Refused', reason: 'Fenced', message: 'epoch is 7' }));
    const [part] = await partsOf(connect(await gateway()).stream('invoke', invoke()));
    expect(part.trailer).toMatchObject({
      outcome: 'OUTCOME_REFUSED',
      reason: 'Fenced',
      message: 'epoch is 7',
      initFault: null,
    });
  });

  it('tells why a function cannot be initialized beside a refusal', async () => {
    const { connect, serve, gateway, fleet } = await agent();
    serve();
    const fault = { errorType: 'Runtime.ExitError', message: 'Runtime exited with error: exit status 3' };
    fleet.onInvoke(async () => ({ kind: 'Refused', reason: 'StartFailed', message: 'why', fault }));
    const [part] = await partsOf(connect(await gateway()).stream('invoke', invoke()));
    expect(part.trailer).toMatchObject({
      outcome: 'OUTCOME_REFUSED',
      reason: 'StartFailed',
      message: 'why',
      functionEnd: null,
      initFault: { ...fault, body: '' },
    });
  });

  it('tells the fleet of a caller who hangs up', async () => {
    const { connect, serve, gateway, fleet } = await agent();
    serve();
    let begun = false;
    let gone = false;
    fleet.onInvoke(async ({ signal }) => {
      begun = true;
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      gone = true;
      return { kind: 'Refused', reason: 'CallerGone', message: '' };
    });
    const stream = connect(await gateway()).stream('invoke', invoke());
    stream.on('error', () => undefined);
    // A call that is given up before there is a connection reaches no server.
    await waitFor('the call', () => begun);
    stream.cancel();
    await waitFor('the caller to be gone', () => gone);
  });

  it('keeps the calls that came before it served', async () => {
    const { connect, serve, gateway } = await agent();
    const answer = connect(await gateway()).call('list', {});
    setTimeout(serve, 50);
    await expect(answer).resolves.toEqual({ workers: [] });
  });

  it('tells what workers use to a client that asks for that', async () => {
    const { connect, serve, gateway, fleet } = await agent();
    serve();
    fleet.show(viewFixture());
    const client = connect(await gateway());
    await expect(client.call('list', {})).resolves.toMatchObject({ workers: [{ usage: null }] });
    await expect(client.call('list', { withUsage: true })).resolves.toMatchObject({
      workers: [{ usage: { cpuUs: 1_500, memoryBytes: 4_096, takenAtMs: 17 } }],
    });
    // Workers of other namespaces do not exist.
    await expect(connect(await gateway('other')).call('list', { withUsage: true })).resolves.toEqual({ workers: [] });
  });

  it('shows every worker to a watcher, and then each change', async () => {
    const { connect, serve, gateway, fleet } = await agent();
    serve();
    fleet.show(viewFixture());
    const stream = connect(await gateway()).stream('watch', {});
    stream.on('error', () => undefined);
    const seen: Part[] = [];
    stream.on('data', (event) => seen.push(event));
    await waitFor('the snapshot', () => seen.length === 1);
    expect(seen[0].snapshot.workers).toMatchObject([{ phase: 'PHASE_RUNNING', callable: true, epoch: 1 }]);
    fleet.show(viewFixture({ phase: 'Pausing', transient: true }));
    fleet.show(viewFixture({ phase: 'Paused' }));
    await waitFor('the change', () => seen.length === 2);
    expect(seen[1].changed).toMatchObject({ phase: 'PHASE_PAUSED' });
    fleet.remove('uid-of-hello');
    await waitFor('the removal', () => seen.length === 3);
    expect(seen[2].removed).toMatchObject({ uid: 'uid-of-hello' });
    stream.cancel();
  });

  it('follows hints, and says with a status and a code why not', async () => {
    const { connect, serve, gateway, fleet } = await agent();
    serve();
    fleet.show(viewFixture({ phase: 'Paused' }));
    const { call } = connect(await gateway());
    const worker = { namespace: 'default', name: 'hello' };
    await expect(call('pause', { worker, epoch: 1 })).resolves.toMatchObject({ phase: 'PHASE_PAUSED' });
    expect(fleet.asked).toEqual(['pause uid-of-hello 1']);
    await expect(call('resume', { worker, epoch: 2 })).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: 'Fenced: epoch is 1',
    });
    await expect(call('destroy', { worker: { ...worker, name: 'nobody' }, epoch: 1 })).rejects.toMatchObject({
      code: status.NOT_FOUND,
    });
    await expect(call('ensure', { epoch: 1 })).rejects.toMatchObject({ code: status.INVALID_ARGUMENT });
  });

  it('gives the last lines of a log, and the metrics page', async () => {
    const { connect, serve, gateway, fleet, written } = await agent();
    serve();
    fleet.show(viewFixture({ containerId: 'c' }));
    written.set('c', { text: 'one\ntwo\nthree\n' });
    const client = connect(await gateway());
    const worker = { namespace: 'default', name: 'hello' };
    const chunks = await partsOf(client.stream('getLogs', { worker, tailLines: 2 }));
    expect(chunks).toEqual([{ data: Buffer.from('two\nthree\n'), offset: 4, missed: 0, requestId: '' }]);
    await expect(client.call('getMetrics', {})).resolves.toEqual({
      contentType: 'text/plain',
      text: 'up 1\n',
    });
  });

  it('answers the health service by whether it serves', async () => {
    const { connect, serve, gateway } = await agent();
    const { call } = connect(await gateway(), 'health');
    await expect(call('check', {})).resolves.toEqual({ status: 'NOT_SERVING' });
    serve();
    await expect(call('check', { service: 'esb.agent.v1.Agent' })).resolves.toEqual({ status: 'SERVING' });
    await expect(call('check', { service: 'nothing' })).rejects.toMatchObject({ code: status.NOT_FOUND });
  });

  it('tells watchers of the health service each change', async () => {
    const { connect, serve, server, gateway } = await agent();
    const { stream } = connect(await gateway(), 'health');
    const watched = ['', 'esb.agent.v1.Agent', 'nothing'].map((service) => {
      const seen: string[] = [];
      const watch = stream('watch', { service });
      watch.on('error', () => undefined);
      watch.on('data', (answer: Part) => seen.push(answer.status));
      return seen;
    });
    await waitFor('the first answers', () => watched.every((seen) => seen.length === 1));
    serve();
    await waitFor('the change', () => watched.filter((seen) => seen.length === 2).length === 2);
    server.refuse();
    await waitFor('the end', () => watched.filter((seen) => seen.length === 3).length === 2);
    expect(watched).toEqual([
      ['NOT_SERVING', 'SERVING', 'NOT_SERVING'],
      ['NOT_SERVING', 'SERVING', 'NOT_SERVING'],
      ['SERVICE_UNKNOWN'],
    ]);
  });

  it.each(['reflection', 'oldReflection'] as const)('describes itself to tools (%s)', async (version) => {
    const { connect, gateway } = await agent();
    const stream = connect(await gateway(), version).duplex('serverReflectionInfo');
    const answers: Part[] = [];
    stream.on('data', (answer: Part) => answers.push(answer));
    stream.write({ listServices: '*' });
    stream.write({ fileContainingSymbol: 'esb.agent.v1.Agent' });
    stream.write({ fileContainingSymbol: 'no.such.Thing' });
    stream.write({ fileContainingSymbol: 'esb.agent.v1.InvokeRequest' });
    stream.write({ fileContainingSymbol: 'grpc.health.v1.Health' });
    stream.end();
    await waitFor('the answers', () => answers.length === 5);
    expect(answers[0].listServicesResponse.service).toEqual([
      { name: 'esb.agent.v1.Agent' },
      { name: 'grpc.health.v1.Health' },
    ]);
    const files: Buffer[] = answers[1].fileDescriptorResponse.fileDescriptorProto;
    expect(files.some((file) => file.includes('InvokeRequest'))).toBe(true);
    expect(answers[2].errorResponse.errorCode).toBe(status.NOT_FOUND);
    expect(answers[3].fileDescriptorResponse.fileDescriptorProto).toEqual(files);
    expect(answers[4].fileDescriptorResponse.fileDescriptorProto).toHaveLength(1);
  });

  it('ends watches but not calls when it refuses, and gives calls their last bytes when it closes', async () => {
    const { connect, serve, gateway, fleet, server } = await agent();
    serve();
    const finish = Promise.withResolvers<void>();
    fleet.onInvoke(async (invocation) => {
      invocation.onHead({ status: 200, contentType: 'application/json' });
      await finish.promise;
      invocation.onChunk(Buffer.alloc(1_000_000, 'x'));
      return { kind: 'Answered', stamp: '', timings };
    });
    const { stream } = connect(await gateway());
    const watch = stream('watch', {});
    const ended = Promise.withResolvers<void>();
    watch.on('error', () => ended.resolve());
    watch.resume();
    const call = stream('invoke', invoke());
    await new Promise((resolve) => call.once('data', resolve));
    server.refuse();
    await ended.promise;
    const rest = partsOf(call);
    finish.resolve();
    await new Promise((resolve) => setImmediate(resolve));
    await server.close();
    const parts = await rest;
    expect(parts.at(-1).trailer.outcome).toBe('OUTCOME_ANSWERED');
  });

  it('serves many calls on one stream, each answered under its number', async () => {
    const { connect, serve, gateway, fleet } = await agent();
    serve();
    fleet.show(viewFixture());
    const held = Promise.withResolvers<void>();
    fleet.onInvoke(async (invocation) => {
      if (invocation.requestId === 'slow') {
        await held.promise;
      }
      invocation.onHead({ status: 200, contentType: '' });
      invocation.onChunk(Buffer.from(invocation.requestId));
      return { kind: 'Answered', stamp: '', timings };
    });
    const shared = connect(await gateway()).duplex('invokeMany');
    const answers: Part[] = [];
    shared.on('data', (part: Part) => answers.push(part));
    shared.write({ call: 1, invoke: { ...invoke(), requestId: 'slow' } });
    shared.write({ call: 2, invoke: { ...invoke(), requestId: 'quick' } });
    shared.write({ call: 3, invoke: { ...invoke(), worker: null } });
    await waitFor('two answers', () => answers.length === 2);
    held.resolve();
    await waitFor('the third', () => answers.length === 3);
    expect(answers.find(({ call }) => call === 3).failure.code).toBe('InvalidArgument');
    expect(
      answers.filter(({ answer }) => answer !== null).map(({ call, answer }) => [call, String(answer.chunk)]),
    ).toEqual([
      [2, 'quick'],
      [1, 'slow'],
    ]);
    shared.end();
  });

  it('reads a streamed answer no further than its window before its caller has read', async () => {
    const budget = new CallBudget(64 * 2 ** 20, systemClock);
    const { connect, serve, gateway, fleet } = await agent({ budget });
    serve();
    fleet.show(viewFixture());
    let written = 0;
    fleet.onInvoke(async ({ onHead, onChunk, room }) => {
      onHead({ status: 200, contentType: '', streaming: true });
      for (; written < 100; written += 1) {
        onChunk(Buffer.alloc(1_000));
        await room?.();
      }
      return { kind: 'Answered', end: { outcome: 'Answered' }, stamp: '', timings };
    });
    const call = connect(await gateway()).duplex('invokeStreamed');
    let got = 0;
    let trailer: Part;
    call.on('data', (part: Part) => {
      got += part.chunk.length;
      trailer ??= part.trailer;
    });
    call.write({ invoke: invoke(), window: 10_000 });
    await waitFor('the window to be full', () => got === 10_000);
    // Longer than an answer without a window may wait.
    await elapse(2_300);
    expect([got, written]).toEqual([10_000, 9]);
    call.write({ read: 4_000 });
    await waitFor('as much as was read', () => got === 14_000);
    call.write({ read: 1_000_000 });
    call.write({ read: 24_000 });
    await waitFor('the window again', () => got === 34_000);
    for (let read = 34_000; read < 100_000; read += 10_000) {
      call.write({ read });
      await waitFor('more', () => got >= Math.min(read + 10_000, 100_000));
    }
    await waitFor('the end', () => trailer !== null && trailer !== undefined);
    expect(trailer).toMatchObject({ functionEnd: { outcome: 'FUNCTION_OUTCOME_ANSWERED' } });
    await waitFor('nothing to be held', () => budget.held === 0, { everyMs: 5 });
  });

  it('ends a streamed call with its caller, and refuses a stream without a call', async () => {
    const { connect, serve, gateway, fleet } = await agent();
    serve();
    fleet.show(viewFixture());
    const begun = Promise.withResolvers<AbortSignal>();
    const left = Promise.withResolvers<void>();
    fleet.onInvoke(async ({ onHead, onChunk, room, signal }) => {
      onHead({ status: 200, contentType: '', streaming: true });
      begun.resolve(signal);
      onChunk(Buffer.alloc(1_000));
      await room?.();
      left.resolve();
      return { kind: 'Answered', end: { outcome: 'Answered' }, stamp: '', timings };
    });
    const client = connect(await gateway());
    const call = client.duplex('invokeStreamed');
    call.on('error', () => undefined);
    call.write({ invoke: invoke(), window: 10 });
    const signal = await begun.promise;
    call.cancel();
    await left.promise;
    expect(signal.aborted).toBe(true);
    const empty = client.duplex('invokeStreamed');
    const failed = Promise.withResolvers<{ readonly code: number }>();
    empty.on('error', failed.resolve);
    empty.resume();
    empty.end();
    expect((await failed.promise).code).toBe(status.INVALID_ARGUMENT);
  });

  it('tells the fleet of callers whose machine is gone without a word', async () => {
    const { port, connect, serve, gateway, fleet } = await agent({ keepAliveMs: 500 });
    serve();
    const relay = await silentRelay(port);
    const signals: AbortSignal[] = [];
    fleet.onInvoke(async ({ signal }) => {
      signals.push(signal);
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      return { kind: 'Refused', reason: 'CallerGone', message: 'the caller hung up' };
    });
    const shared = connect(await gateway(), 'agent', relay.port).duplex('invokeMany');
    shared.on('error', () => undefined);
    shared.write({ call: 1, invoke: invoke() });
    await waitFor('the call', () => signals.length === 1);
    // Nothing may happen meanwhile.
    await elapse(1_500);
    expect(signals[0]?.aborted, 'one that answers stays').toBe(false);
    relay.silence();
    await waitFor('the caller to be gone', () => signals[0]?.aborted === true, { timeoutMs: 5_000 });
  });

  it('tells the fleet of the one of many callers who hangs up, and of all when the connection breaks', async () => {
    const { connect, serve, gateway, fleet } = await agent();
    serve();
    fleet.show(viewFixture());
    const signals = new Map<string, AbortSignal>();
    fleet.onInvoke((invocation) => {
      signals.set(invocation.requestId, invocation.signal);
      return new Promise(() => undefined);
    });
    const shared = connect(await gateway()).duplex('invokeMany');
    shared.on('error', () => undefined);
    for (const call of [1, 2, 3]) {
      shared.write({ call, invoke: { ...invoke(), requestId: `r-${call}` } });
    }
    await waitFor('the calls', () => signals.size === 3);
    shared.write({ call: 2, cancel: true });
    await waitFor('one to be gone', () => signals.get('r-2')?.aborted === true);
    expect(signals.get('r-1')?.aborted).toBe(false);
    shared.cancel();
    await waitFor('all to be gone', () => [...signals.values()].every(({ aborted }) => aborted));
  });

  it('cuts a client whose certificate has run out', async () => {
    const { connect, serve, clients } = await agent();
    serve();
    const brief = await clients.issueGateway(['default'], new Date(Date.now() + 1_500));
    const watch = connect(brief).stream('watch', {});
    const ended = Promise.withResolvers<void>();
    watch.on('error', () => ended.resolve());
    await new Promise((resolve) => watch.once('data', resolve));
    await ended.promise;
  });

  it('answers what it took of many calls before it ends their stream', async () => {
    const { connect, serve, gateway, fleet, server } = await agent();
    serve();
    fleet.show(viewFixture());
    const finish = Promise.withResolvers<void>();
    let begun = false;
    fleet.onInvoke(async () => {
      begun = true;
      await finish.promise;
      return { kind: 'Answered', stamp: '', timings };
    });
    const shared = connect(await gateway()).duplex('invokeMany');
    const seen: string[] = [];
    shared.on('data', ({ answer }: Part) => seen.push(answer.trailer.outcome));
    shared.on('status', ({ code }: Part) => seen.push(`status ${code}`));
    shared.write({ call: 1, invoke: invoke() });
    await waitFor('the call', () => begun);
    server.refuse();
    // Nothing may happen meanwhile.
    await elapse(20);
    expect(seen).toEqual([]);
    finish.resolve();
    await waitFor('the end', () => seen.length === 2);
    expect(seen).toEqual(['OUTCOME_ANSWERED', 'status 0']);
  });
});

/** A gateway without a library: streams of its own, and no byte read unless the test asks. */
async function plainGateway({ authority, port, gateway }: Awaited<ReturnType<typeof agent>>) {
  const issued = await gateway();
  const socket = connectTls({
    host: '127.0.0.1',
    port,
    key: issued.key,
    cert: issued.certificate,
    ca: authority.certificate,
    servername: 'localhost',
    ALPNProtocols: ['h2'],
  });
  const session = connectHttp2('https://agent', { createConnection: () => socket, maxSessionMemory: 4_096 });
  session.on('error', () => undefined);
  onTestFinished(() => session.destroy());
  return {
    session,
    /** Resolves to the status of gRPC and the code of its error; never where the answer is not read to its end. */
    send: (frame: Buffer): Promise<string> => {
      const stream = session.request({
        ':method': 'POST',
        ':path': '/esb.agent.v1.Agent/Invoke',
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      const done = Promise.withResolvers<string>();
      const told = (headers: Record<string, unknown>): void => {
        if (headers['grpc-status'] !== undefined) {
          done.resolve([headers['grpc-status'], headers['esb-code']].join(' ').trim());
          stream.close();
        }
      };
      stream.on('error', () => undefined);
      stream.on('response', told);
      stream.on('trailers', told);
      stream.end(frame);
      return done.promise;
    },
  };
}

/** The one message of a call. */
function invokeFrame(uid: string, payload: Buffer): Buffer {
  const request = {
    worker: { namespace: 'default', name: '', uid },
    epoch: 1,
    requestId: 'r-1',
    payload,
    clientContext: '',
    traceId: '',
    traceParent: '',
    tailLog: false,
  };
  return grpcFrame(loadAgentProto().agent.Invoke.requestSerialize(request));
}

describe('an agent that is given more than it may hold', () => {
  const MIB = 2 ** 20;

  it('refuses payloads before it reads them, holds no more than its budget, and serves others meanwhile', {
    timeout: 60_000,
  }, async () => {
    const budget = new CallBudget(64 * MIB, systemClock);
    const served = await agent({ budget });
    const { fleet, serve, gateway, connect } = served;
    for (let each = 0; each < 16; each += 1) {
      fleet.show(viewFixture({ uid: `uid-${each}`, name: `slow-${each}` }));
    }
    fleet.show(viewFixture({}));
    const held: (() => void)[] = [];
    let most = 0;
    const answered: InvocationResult = { kind: 'Answered', stamp: 's', timings };
    fleet.onInvoke(({ uid }) => {
      most = Math.max(most, budget.held);
      return uid === 'uid-of-hello'
        ? Promise.resolve(answered)
        : new Promise((resolve) => {
            held.push(() => resolve(answered));
          });
    });
    serve();
    const flood = await plainGateway(served);
    const other = connect(await gateway());
    const payload = Buffer.alloc(MIB, '1');
    const frames = Array.from({ length: 16 }, (_, each) => invokeFrame(`uid-${each}`, payload));
    const before = process.memoryUsage().rss;
    const ends: Promise<string>[] = [];
    let refused = 0;
    for (let each = 0; each < 16 * 16; each += 1) {
      const end = flood.send(frames[each % 16] ?? payload);
      ends.push(end);
      void end.then((status) => {
        refused += status === '8 QueueFull' ? 1 : 0;
      });
    }
    await waitFor('all calls to be held or refused', () => refused + held.length === ends.length, {
      everyMs: 10,
    });
    most = Math.max(most, budget.held);
    const answers = await partsOf(other.stream('invoke', invoke()));
    expect(answers.at(-1)).toMatchObject({ trailer: { outcome: 'OUTCOME_ANSWERED' } });
    expect(held.length).toBeGreaterThan(4);
    expect(most).toBeLessThanOrEqual(40 * MIB);
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * MIB);
    for (const end of held) {
      end();
    }
    expect((await Promise.all(ends)).filter((status) => status === '0')).toHaveLength(held.length);
    await waitFor('all to be given back', () => budget.held === 0, { everyMs: 5 });
  });

  it('lets the answers to a gateway that does not read wait for a moment, then drops them', async () => {
    const budget = new CallBudget(64 * MIB, systemClock);
    const served = await agent({ budget });
    const { fleet, serve, gateway, connect } = served;
    fleet.show(viewFixture({ uid: 'uid-0', name: 'large' }));
    fleet.show(viewFixture({ uid: 'uid-1', name: 'other' }));
    let most = 0;
    let waited = 0;
    let over = 0;
    const chunk = Buffer.alloc(MIB / 4, '1');
    fleet.onInvoke(async ({ onHead, onChunk, room }) => {
      onHead({ status: 200, contentType: '' });
      for (let each = 0; each < 20; each += 1) {
        onChunk(chunk);
        const wait = room?.();
        most = Math.max(most, budget.held);
        if (wait !== undefined) {
          waited += 1;
          await wait;
        }
      }
      over += 1;
      return { kind: 'Answered', stamp: 's', timings };
    });
    serve();
    const still = await plainGateway(served);
    let refused = 0;
    const frame = invokeFrame('uid-0', Buffer.from('{}'));
    for (let each = 0; each < 16; each += 1) {
      void still.send(frame).then(() => {
        refused += 1;
      });
    }
    await waitFor('every worker to be free', () => over + refused === 16, { everyMs: 10 });
    expect(waited).toBeGreaterThan(0);
    expect(over).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual((12 + 1 + 16) * MIB);
    await waitFor('what was dropped to be given back', () => budget.held <= 13 * MIB, { everyMs: 5 });
    expect(await partsOf(connect(await gateway()).stream('invoke', invoke('uid-1')))).toHaveLength(21);
    still.session.destroy();
    await waitFor('all to be given back', () => budget.held === 0, { everyMs: 5 });
  });

  it('counts the payload of a call that stays without its caller until its end', async () => {
    const budget = new CallBudget(64 * MIB, systemClock);
    const { connect, serve, gateway, fleet } = await agent({ budget });
    serve();
    fleet.show(viewFixture());
    const ended = Promise.withResolvers<InvocationResult>();
    const invoked = Promise.withResolvers<void>();
    fleet.onInvoke(() => {
      invoked.resolve();
      return ended.promise;
    });
    const client = connect(await gateway());
    const shared = client.duplex('invokeMany');
    const gone = new Promise((resolve) => shared.on('error', resolve));
    shared.write({ call: 1, invoke: { ...invoke(), payload: Buffer.alloc(MIB), keeps: true } });
    await invoked.promise;
    shared.cancel();
    await gone;
    // On the same connection, and so behind the end of the stream.
    await client.call('list', {});
    expect(budget.held).toBe(MIB);
    ended.resolve({ kind: 'Answered', stamp: '', timings });
    await waitFor('all to be given back', () => budget.held === 0, { everyMs: 5 });
  });
});

describe('a gateway whose certificate names namespaces', () => {
  /** A worker of the gateway's own namespace and one of another, both with a log. */
  async function two() {
    const lab = await agent();
    lab.serve();
    const own = viewFixture({ containerId: 'own' });
    const other = viewFixture({
      identity: { namespace: 'shop', name: 'till', uid: 'uid-of-till', functionName: 'till' },
      containerId: 'other',
    });
    lab.fleet.show(own);
    lab.fleet.show(other);
    for (const id of ['own', 'other']) {
      lab.written.set(id, { text: `${id}\n` });
    }
    const invoked: string[] = [];
    lab.fleet.onInvoke(async ({ uid }) => {
      invoked.push(uid);
      return lab.fleet.view(uid) === undefined
        ? { kind: 'Refused', reason: 'NotFound', message: 'no such worker' }
        : { kind: 'Answered', stamp: '', timings };
    });
    const recovered: string[] = [];
    lab.fleet.onRecover(async ({ uid }) => {
      recovered.push(uid);
      return { kind: 'Unknown', reason: 'AgentStopped', message: 'not kept', stamp: '' };
    });
    return { ...lab, other, invoked, recovered };
  }
  const till = { namespace: 'shop', name: 'till', uid: 'uid-of-till' };
  const nameless = { namespace: 'shop', name: 'till' };

  it('is told of no worker of another, in a list, a snapshot or a change', async () => {
    const { connect, gateway, fleet, other } = await two();
    const client = connect(await gateway());
    const names = ({ workers }: Part) => workers.map(({ worker }: Part) => worker.name);
    expect(names(await client.call('list', {}))).toEqual(['hello']);
    const watch = client.stream('watch', {});
    watch.on('error', () => undefined);
    const seen: Part[] = [];
    watch.on('data', (event) => seen.push(event));
    await waitFor('the snapshot', () => seen.length === 1);
    expect(names(seen[0].snapshot)).toEqual(['hello']);
    fleet.show({ ...other, phase: 'Paused' });
    fleet.remove('uid-of-till');
    fleet.show(viewFixture({ phase: 'Paused' }));
    await waitFor('the change', () => seen.length === 2);
    expect(seen[1].changed.worker.name).toBe('hello');
    watch.cancel();
  });

  it.each([till, nameless])('calls, hints at and reads none of another (%j)', async (worker) => {
    const { connect, gateway, fleet, invoked, recovered } = await two();
    const client = connect(await gateway());
    for (const method of ['ensure', 'pause', 'resume', 'destroy']) {
      await expect(client.call(method, { worker, epoch: 1 })).rejects.toMatchObject({
        code: status.NOT_FOUND,
      });
    }
    await expect(partsOf(client.stream('getLogs', { worker }))).rejects.toMatchObject({
      code: status.NOT_FOUND,
    });
    const alone = await partsOf(client.stream('invoke', { ...invoke(), worker })).catch(({ code }: Part) => code);
    expect(alone === status.NOT_FOUND || alone[0].trailer.reason === 'NotFound').toBe(true);
    const shared = client.duplex('invokeMany');
    const answers: Part[] = [];
    shared.on('data', (part: Part) => answers.push(part));
    shared.write({ call: 1, invoke: { ...invoke(), worker } });
    await waitFor('the refusal', () => answers.length === 1);
    expect(answers[0].failure?.code ?? answers[0].answer.trailer.reason).toBe('NotFound');
    shared.end();
    const asked = client.duplex('recover');
    asked.write({ worker, requestId: 'r-1' });
    await partsOf(asked).catch(() => undefined);
    expect(recovered).not.toContain('uid-of-till');
    expect(invoked).not.toContain('uid-of-till');
    expect(fleet.asked.filter((asked) => asked.includes('uid-of-till'))).toEqual([]);
  });

  it('takes the place of no answer that is kept for another', async () => {
    const { connect, gateway, fleet } = await two();
    fleet.onInvoke(async ({ onChunk, onHead, uid }) => {
      if (fleet.view(uid) === undefined) {
        return { kind: 'Refused', reason: 'NotFound', message: 'no such worker' };
      }
      onHead({ status: 200, contentType: '' });
      onChunk(Buffer.from('kept'));
      return { kind: 'Answered', stamp: '', timings };
    });
    const call = { ...invoke(), worker: till, keeps: true };
    const shop = connect(await gateway('shop'));
    await partsOf(shop.stream('invoke', call));
    await partsOf(connect(await gateway()).stream('invoke', call)).catch(() => undefined);
    const asked = shop.duplex('recover');
    asked.write({ worker: till, requestId: 'r-1' });
    asked.end();
    const parts = await partsOf(asked);
    expect(Buffer.concat(parts.map(({ chunk }) => chunk ?? Buffer.alloc(0))).toString()).toBe('kept');
  });

  it('has all of that in each namespace that is named', async () => {
    const { connect, gateway, invoked, recovered } = await two();
    const client = connect(await gateway('shop', 'pay'));
    const { workers }: Part = await client.call('list', {});
    expect(workers).toHaveLength(1);
    await expect(client.call('pause', { worker: nameless, epoch: 1 })).resolves.toMatchObject({ epoch: 1 });
    expect(await partsOf(client.stream('getLogs', { worker: till }))).toHaveLength(1);
    await partsOf(client.stream('invoke', { ...invoke(), worker: till }));
    expect(invoked).toEqual(['uid-of-till']);
    const asked = client.duplex('recover');
    asked.write({ worker: till, requestId: 'r-1' });
    await partsOf(asked);
    expect(recovered).toEqual(['uid-of-till']);
  });

  it('has nothing where it names none', async () => {
    const { connect, clients } = await two();
    const { workers }: Part = await connect(await clients.issueClient('esb-gateway', [])).call('list', {});
    expect(workers).toEqual([]);
  });

  it('has nothing where the names are not those of namespaces', async () => {
    const { connect, gateway } = await two();
    const { workers }: Part = await connect(await gateway('a/b')).call('list', {});
    expect(workers).toEqual([]);
  });
});
