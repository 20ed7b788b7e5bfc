import { X509Certificate } from 'node:crypto';
import { type Client, credentials, makeGenericClientConstructor, type ServiceError, status } from '@grpc/grpc-js';
import type { LambdaNode } from '../api/lambda-node.ts';
import { EsbError } from '../common/errors.ts';
import { formatHostPort, parseHostPort } from '../common/host-port.ts';
import type { CertifiedKey } from '../common/x509.ts';
import { loadAgentProto } from '../protocol/agent-proto.ts';
import { type Cluster, kubectlObject } from './kubectl-command.ts';

/** A connection to the agent of a node. */
export interface AgentClient {
  readonly endpoint: string;
  /** Methods of the protocol by their names in lower camel case. */
  readonly methods: Readonly<Record<string, ((...args: never[]) => unknown) | undefined>>;
  close(): void;
}

/**
 * Opens a connection to the agent of a node, from any machine that reaches the node.
 *
 * @param own certificate that the agent accepts, as of `requestClientCertificate`
 * @throws {EsbError} `NotFound` when there is no such node
 */
export async function openAgent(
  nodeName: string,
  own: CertifiedKey | Promise<CertifiedKey>,
  cluster: Cluster,
  signal: AbortSignal,
): Promise<AgentClient> {
  const [node, { certificate, privateKey }] = await Promise.all([readNode(nodeName, cluster, signal), own]);
  const AgentService = makeGenericClientConstructor(loadAgentProto().agent, 'Agent');
  const client: Client = new AgentService(
    node.endpoint,
    credentials.createSsl(Buffer.from(node.certificate), Buffer.from(privateKey), Buffer.from(certificate), {
      // The certificate itself is compared, which proves more than a name in it.
      checkServerIdentity: (_, shown) =>
        node.trusted.some((raw) => raw.equals(shown.raw))
          ? undefined
          : new Error('the agent shows another certificate than its LambdaNode has'),
    }),
    // TLS does not ask for addresses as names.
    { 'grpc.ssl_target_name_override': nodeName, 'grpc.default_authority': nodeName },
  );
  return {
    endpoint: node.endpoint,
    methods: client as unknown as AgentClient['methods'],
    close: () => client.close(),
  };
}

/** Where the agent of a node is, and the certificates that it may show. */
async function readNode(
  name: string,
  cluster: Cluster,
  signal: AbortSignal,
): Promise<{ readonly endpoint: string; readonly certificate: string; readonly trusted: readonly Buffer[] }> {
  const node = await kubectlObject<LambdaNode>(['lambdanode', name], cluster, { signal });
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

/** An error of a call to an agent. */
export function agentFault(error: unknown, endpoint: string): EsbError {
  const { code, details, message } = error as ServiceError;
  if (code === status.NOT_FOUND) {
    return new EsbError(details, { code: 'NotFound', cause: error });
  }
  return code === status.UNAVAILABLE
    ? new EsbError(`the agent at ${endpoint} cannot be called from here`, { code: 'AgentUnreachable', cause: error })
    : new EsbError(`the agent at ${endpoint} failed: ${details ?? message}`, { code: 'AgentFailed', cause: error });
}
