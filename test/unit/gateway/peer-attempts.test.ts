import { connect } from 'node:http2';
import { request } from 'node:https';
import { describe, expect, it, onTestFinished } from 'vitest';
import { AgentGrpcServer } from '../../../src/agent/rpc/server.ts';
import { encodeReport, LOAD_PATH } from '../../../src/api/load-report.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { LoadBook } from '../../../src/controller/load/load-book.ts';
import { LoadServer } from '../../../src/controller/load/load-server.ts';
import { loadAgentProtocol } from '../../../src/gateway/agents/agent-protocol.ts';
import { grpcFrame } from '../../../src/gateway/agents/grpc-stream.ts';
import { createEventIntake } from '../../../src/gateway/handover/event-intake.ts';
import { EVENTS_PATH, encodeEvent } from '../../../src/gateway/handover/event-message.ts';
import {
  type CertificateAuthority,
  createCertificateAuthority,
  type IssuedCertificate,
} from '../../support/certificate-authority.ts';
import { fakeFleet, viewFixture } from '../../support/fake-fleet.ts';
import { gatewayLab } from '../../support/gateway-lab.ts';
import { inThreadEventStore } from '../../support/in-thread-event-store.ts';
import { memoryWorkerLogs } from '../../support/memory-worker-logs.ts';
import { waitFor } from '../../support/wait-for.ts';

/** A request is answered, or the connection is cut before a word of it is read. */
type Outcome = { readonly status: number; readonly text: string } | 'Cut';

/** Bytes of a frame of gRPC before its message. */
const FRAME_HEAD = 5;

/** A server that only gateways may ask, for the worker or the function `hello` of `default`. */
interface Door {
  /** Asks it to have that function called, or scaled as for a call. */
  ask(certificate: IssuedCertificate | undefined): Promise<Outcome>;
  /** Whether it did. */
  isDone(): boolean;
}

async function ask(
  port: number,
  path: string,
  body: Buffer | string,
  certificate: IssuedCertificate | undefined,
): Promise<Outcome> {
  const identity = certificate === undefined ? {} : { cert: certificate.certificate, key: certificate.key };
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  const options = { host: '127.0.0.1', port, path, method: 'POST', agent: false, rejectUnauthorized: false };
  const sent = request({ ...options, ...identity }, (answer) => {
    const chunks: Buffer[] = [];
    answer.on('data', (chunk: Buffer) => chunks.push(chunk));
    answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
  });
  sent.on('error', () => resolve('Cut'));
  sent.end(body);
  return await promise;
}

async function agentDoor(authority: CertificateAuthority): Promise<Door> {
  const fleet = fakeFleet();
  fleet.show(viewFixture());
  const ran: string[] = [];
  fleet.onInvoke(async ({ uid }) => {
    ran.push(uid);
    return uid === ''
      ? { kind: 'Refused', reason: 'NotFound', message: 'no such worker' }
      : { kind: 'Answered', stamp: '', timings: { queued: 0, wake: 0, run: 0, start: 'running' } };
  });
  const server = new AgentGrpcServer({ logger: silentLogger(), clock: systemClock });
  const { port } = await server.bind({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => server.close());
  const { certificate, key } = await authority.issueServer();
  server.configure({ certificate, privateKey: key, clientAuthority: authority.certificate });
  const logs = { workerLogs: memoryWorkerLogs(new Map()) };
  server.serve({ fleet, logs, metricsPage: async () => ({ contentType: 'text/plain', text: '' }) });
  const protocol = loadAgentProtocol();
  const worker = { namespace: 'default', name: 'hello', uid: 'uid-of-hello' };
  const message = protocol.encodeInvoke({ worker, epoch: 1, requestId: 'r-1', payload: Buffer.from('{}') });
  return {
    isDone: () => ran.includes('uid-of-hello'),
    async ask(shown) {
      const { promise, resolve } = Promise.withResolvers<Outcome>();
      const identity = shown === undefined ? {} : { cert: shown.certificate, key: shown.key };
      const session = connect(`https://127.0.0.1:${port}`, { ...identity, rejectUnauthorized: false });
      onTestFinished(() => session.destroy());
      session.on('error', () => undefined);
      const headers = { 'content-type': 'application/grpc', te: 'trailers' };
      const stream = session.request({ ':method': 'POST', ':path': protocol.invokePath, ...headers });
      const parts: Buffer[] = [];
      stream.on('data', (part: Buffer) => parts.push(part));
      stream.on('error', () => undefined);
      stream.on('close', () => {
        const { trailer } = parts.length === 0 ? {} : protocol.decodeInvoke(Buffer.concat(parts).subarray(FRAME_HEAD));
        resolve(
          trailer == null
            ? 'Cut'
            : { status: trailer.outcome === 'OUTCOME_ANSWERED' ? 200 : 404, text: trailer.reason },
        );
      });
      stream.end(grpcFrame(message));
      return await promise;
    },
  };
}

async function loadDoor(authority: CertificateAuthority): Promise<Door> {
  let changes = 0;
  const book = new LoadBook(systemClock, () => {
    changes += 1;
  });
  const server = new LoadServer({ book, clock: systemClock, logger: silentLogger() });
  const { certificate, key } = await authority.issueServer();
  server.configure({ certificate, privateKey: key }, authority.certificate);
  const port = await server.listen({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => server.close());
  const load = [{ functionName: 'hello', version: undefined, calls: 3, peak: 3 }];
  return {
    isDone: () => changes > 0,
    ask: (shown) => ask(port, `${LOAD_PATH}?namespace=default&gateway=one`, encodeReport({ kind: 'all', load }), shown),
  };
}

async function eventDoor(authority: CertificateAuthority): Promise<Door> {
  const role = await authority.issueRole('default');
  const store = inThreadEventStore();
  const lab = await gatewayLab({
    gateway: {
      events: { kind: 'Here', store },
      intake(options) {
        const intake = createEventIntake(options);
        const { certificate, key } = role;
        intake.configure({ certificate, privateKey: key, clientAuthority: authority.certificate });
        return intake;
      },
    },
  });
  await lab.addWorker('hello');
  const event = encodeEvent({
    reference: { name: 'hello' },
    requestId: '11111111-2222-4333-8444-555555555555',
    payload: Buffer.from('{}'),
    clientContext: '',
    tailLog: false,
    traceId: '',
    traceParent: '',
  } as Parameters<typeof encodeEvent>[0]);
  return {
    isDone: () => lab.agent.calls.length + store.load().events > 0,
    ask: (shown) => ask(Number(new URL(lab.url).port), EVENTS_PATH, event, shown),
  };
}

const doors = [
  ['an agent', agentDoor],
  ['the leader that takes load', loadDoor],
  ['the role that keeps events', eventDoor],
] as const;

type Peer = (authority: CertificateAuthority) => Promise<IssuedCertificate | undefined>;

const HOUR_AGO = new Date(Date.now() - 3_600_000);

type Reasons = Readonly<Record<(typeof doors)[number][0], string>>;

const all = (reason: string): Reasons => ({
  'an agent': reason,
  'the leader that takes load': reason,
  'the role that keeps events': reason,
});

/** Clients that are no gateway of `default`, and the reasons of their refusals. */
const peers: readonly (readonly [string, Peer, Reasons])[] = [
  ['a client without a certificate', async () => undefined, all('Cut')],
  [
    'a gateway of another authority',
    async () => (await createCertificateAuthority()).issueGateway(['default']),
    all('Cut'),
  ],
  ['a gateway whose certificate has run out', (authority) => authority.issueGateway(['default'], HOUR_AGO), all('Cut')],
  ['a server', (authority) => authority.issueServer(), all('Cut')],
  [
    'a node',
    (authority) => authority.issueClient('system:node:node-1', ['system:nodes']),
    { ...all('not esb-gateway'), 'an agent': 'Cut' },
  ],
  [
    'a gateway of another namespace',
    (authority) => authority.issueGateway(['shop']),
    { ...all('not for the namespace default'), 'an agent': 'NotFound' },
  ],
];

describe.each(doors)('%s', (who, open) => {
  it.each(peers)('does nothing for %s', async (_peer, certificateOf, reasons) => {
    const authority = await createCertificateAuthority();
    const door = await open(authority);
    const outcome = await door.ask(await certificateOf(authority));
    const reason = reasons[who];
    expect(outcome).toEqual(
      reason === 'Cut' ? 'Cut' : expect.objectContaining({ text: expect.stringContaining(reason) }),
    );
    expect(door.isDone()).toBe(false);
    const heard = await door.ask(await authority.issueGateway(['default']));
    expect(heard === 'Cut' ? 0 : heard.status).toBeGreaterThanOrEqual(200);
    await waitFor('the gateway of the namespace to be heard', () => door.isDone(), { everyMs: 5 });
  });
});
