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

/** A worker whose log is read, and its present container. */
export interface FoundWorker {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly nodeName: string;
  readonly containerId?: string | undefined;
}

/**
 * Reads the log of a worker from the agent of its node, from any machine that reaches the node.
 *
 * @throws {EsbError} `NotFound` when there is no such node, worker or log, `AgentUnreachable` when the agent cannot be
 *   called from here
 */
export async function readAgentLogs(
  { namespace, name, uid, nodeName }: FoundWorker,
  wanted: { readonly query: LogQuery; readonly follow: boolean },
  cluster: Cluster,
  sink: (data: Buffer, missed: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const [node, own] = await Promise.all([
    readNode(nodeName, cluster, signal),
    requestClientCertificate(namespace, cluster, { signal }),
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
    { 'grpc.ssl_target_name_override': nodeName, 'grpc.default_authority': nodeName },
  );
  try {
    const methods = client as unknown as Record<string, (message: object) => ClientReadableStream<LogChunk>>;
    const stream = methods.getLogs?.({
      worker: { namespace, name, uid },
      ...wanted.query,
      follow: wanted.follow,
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

/** Where the agent of a node is, and the certificates that it may show. */
async function readNode(
  name: string,
  cluster: Cluster,
  signal: AbortSignal,
): Promise<{ readonly endpoint: string; readonly certificate: string; readonly trusted: readonly Buffer[] }> {
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
    ? new EsbError(`the agent at ${endpoint} cannot be called from here`, { code: 'AgentUnreachable', cause: error })
    : new EsbError(`the agent at ${endpoint} failed: ${details ?? message}`, { code: 'AgentFailed', cause: error });
}
