import { connect } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { onTestFinished } from 'vitest';
import type { Fleet } from '../../src/agent/model/fleet.ts';
import { AgentGrpcServer } from '../../src/agent/rpc/server.ts';
import { systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/logger.ts';
import type { LoadBook } from '../../src/controller/load/load-book.ts';
import { LoadServer } from '../../src/controller/load/load-server.ts';
import { grpcFrame } from '../../src/gateway/agents/grpc-stream.ts';
import { loadAgentProto } from '../../src/protocol/agent-proto.ts';
import type { CertificateAuthority, IssuedCertificate } from './certificate-authority.ts';
import { memoryWorkerLogs } from './memory-worker-logs.ts';

/** Listens as an agent does, for gateways of the authority; ends with the test. Returns the port. */
export async function serveAsAgent(authority: CertificateAuthority, fleet: Fleet): Promise<number> {
  const server = new AgentGrpcServer({ logger: silentLogger(), clock: systemClock });
  const { port } = await server.bind({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => server.close());
  const { certificate, key } = await authority.issueServer();
  server.configure({ certificate, privateKey: key, clientAuthority: authority.certificate });
  const logs = { workerLogs: memoryWorkerLogs(new Map()) };
  server.serve({ fleet, logs, metricsPage: async () => ({ contentType: 'text/plain', text: '' }) });
  return port;
}

/** Listens as the leading controller does, for gateways of the authority; ends with the test. Returns the port. */
export async function serveAsLeader(authority: CertificateAuthority, book: LoadBook): Promise<number> {
  const server = new LoadServer({ book, clock: systemClock, logger: silentLogger() });
  const { certificate, key } = await authority.issueServer();
  server.configure({ certificate, privateKey: key }, authority.certificate);
  const port = await server.listen({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => server.close());
  return port;
}

/** Request of a client that shows a certificate, or none. */
export interface PeerRequest {
  readonly port: number;
  readonly path: string;
  readonly shown: IssuedCertificate | undefined;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Answer to a peer; `Cut` if the connection was cut before one. */
export type PeerAnswer = { readonly status: number; readonly text: string } | 'Cut';

function identityOf(shown: IssuedCertificate | undefined): { readonly cert?: string; readonly key?: string } {
  return shown === undefined ? {} : { cert: shown.certificate, key: shown.key };
}

/** Posts a body over mutual TLS. */
export async function postAsPeer(asked: PeerRequest, body: Buffer | string): Promise<PeerAnswer> {
  const { headers = {}, path, port, shown } = asked;
  const { promise, resolve } = Promise.withResolvers<PeerAnswer>();
  const options = { host: '127.0.0.1', port, path, method: 'POST', agent: false, rejectUnauthorized: false, headers };
  let isAnswered = false;
  const sent = httpsRequest({ ...options, ...identityOf(shown) }, (answer) => {
    isAnswered = true;
    const chunks: Buffer[] = [];
    answer.on('data', (chunk: Buffer) => chunks.push(chunk));
    answer.on('error', () => undefined);
    answer.on('close', () => resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
  });
  sent.on('error', () => {
    if (!isAnswered) {
      resolve('Cut');
    }
  });
  sent.end(body);
  return await promise;
}

/** Sends bytes to an agent as the message of an Invoke. Returns the bytes of its answer: none if it cut the connection. */
export async function invokeAsPeer(
  port: number,
  shown: IssuedCertificate | undefined,
  message: Buffer,
): Promise<Buffer> {
  const session = connect(`https://127.0.0.1:${port}`, { ...identityOf(shown), rejectUnauthorized: false });
  onTestFinished(() => session.destroy());
  session.on('error', () => undefined);
  const headers = { 'content-type': 'application/grpc', te: 'trailers' };
  const stream = session.request({ ':method': 'POST', ':path': loadAgentProto().agent.Invoke.path, ...headers });
  const parts: Buffer[] = [];
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  stream.on('data', (part: Buffer) => parts.push(part));
  stream.on('error', () => undefined);
  stream.on('close', () => resolve(Buffer.concat(parts)));
  stream.end(grpcFrame(message));
  return await promise;
}
