import { X509Certificate } from 'node:crypto';
import {
  type ClientReadableStream,
  credentials,
  makeGenericClientConstructor,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import type { LogQuery } from '../agent/logs/log-query.ts';
import type { LambdaNode } from '../api/lambda-node.ts';
import { EsbError } from '../common/errors.ts';
import { formatHostPort, parseHostPort } from '../common/host-port.ts';
import { loadAgentProto } from '../protocol/agent-proto.ts';
import type { LogChunk } from '../protocol/generated/agent.ts';
import { requestClientCertificate } from './client-certificate.ts';
import { type Cluster, kubectlText } from './kubectl-command.ts';

/** A worker, and the part of its log to read. */
export interface AgentLogsRequest {
  readonly nodeName: string;
  readonly worker: { readonly namespace: string; readonly name: string; readonly uid: string };
  readonly query: LogQuery;
  readonly follow: boolean;
}

/**
 * Reads the log of a worker from the agent of its node, from any machine that reaches the node.
 *
 * @throws {EsbError} `NotFound` when there is no such node, worker or log, `AgentUnreachable` when the agent cannot be
 *   called from here
 */
export async function readAgentLogs(
  request: AgentLogsRequest,
  cluster: Cluster,
  sink: (data: Buffer, missed: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const [node, own] = await Promise.all([
    readNode(request.nodeName, cluster, signal),
    requestClientCertificate(request.worker.namespace, cluster, { signal }),
  ]);
  const Client = makeGenericClientConstructor(loadAgentProto().agent, 'Agent');
  const client = new Client(
    node.endpoint,
    credentials.createSsl(Buffer.from(node.certificate), Buffer.from(own.privateKey), Buffer.from(own.certificate), {
      // The certificate itself is compared, which proves more than a name in it.
      checkServerIdentity: (_, shown) =>
        node.trusted.some((raw) => raw.equals(shown.raw))
          ? undefined
          : new Error('the agent shows another certificate than its LambdaNode has'),
    }),
    // TLS does not ask for addresses as names.
    { 'grpc.ssl_target_name_override': request.nodeName, 'grpc.default_authority': request.nodeName },
  );
  try {
    const methods = client as unknown as Record<string, (message: object) => ClientReadableStream<LogChunk>>;
    const stream = methods.getLogs?.({
      worker: request.worker,
      tailLines: request.query.tailLines,
      sinceMs: request.query.sinceMs,
      requestId: request.query.requestId,
      previous: request.query.previous,
      follow: request.follow,
    });
    if (stream === undefined) {
      throw new EsbError('the protocol of the agent has no method GetLogs', { code: 'Internal' });
    }
    const cancel = (): void => stream.cancel();
    signal.addEventListener('abort', cancel, { once: true });
    try {
      for await (const chunk of stream as AsyncIterable<LogChunk>) {
        sink(chunk.data, chunk.missed);
      }
    } catch (error) {
      throw signal.aborted
        ? new EsbError('interrupted', { code: 'Aborted', cause: error })
        : faultOf(error, node.endpoint);
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  } finally {
    client.close();
  }
}

interface NodeAddress {
  readonly endpoint: string;
  readonly certificate: string;
  readonly trusted: readonly Buffer[];
}

async function readNode(name: string, cluster: Cluster, signal: AbortSignal): Promise<NodeAddress> {
  const node = JSON.parse(
    await kubectlText(['get', 'lambdanode', name, '-o', 'json'], cluster, { signal }),
  ) as LambdaNode;
  const { endpoint, certificate } = node.status ?? {};
  if (endpoint === undefined || endpoint === '' || certificate === undefined || certificate === '') {
    throw new EsbError(`LambdaNode ${name} does not say where its agent is`, { code: 'NotFound' });
  }
  const blocks = certificate.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  return {
    endpoint: formatHostPort(parseHostPort(endpoint)),
    certificate,
    trusted: blocks.map((block) => new X509Certificate(block).raw),
  };
}

function faultOf(error: unknown, endpoint: string): EsbError {
  const { code, details, message } = error as ServiceError;
  if (code === status.NOT_FOUND) {
    return new EsbError(details, { code: 'NotFound', cause: error });
  }
  return code === status.UNAVAILABLE
    ? new EsbError(`the agent at ${endpoint} cannot be called from here`, {
        code: 'AgentUnreachable',
        cause: error,
      })
    : new EsbError(`the agent at ${endpoint} failed: ${details ?? message}`, {
        code: 'AgentFailed',
        cause: error,
      });
}
