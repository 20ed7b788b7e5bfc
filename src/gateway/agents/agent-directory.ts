import type { LambdaNode } from '../../api/lambda-node.ts';
import { certificatesIn } from '../../common/certificates.ts';
import type { Clock } from '../../common/clock.ts';
import { EsbError, unreachable } from '../../common/errors.ts';
import { type HostPort, parseHostPort } from '../../common/host-port.ts';
import type { Logger } from '../../common/logger.ts';
import type { CacheEvent } from '../../kube/api/types.ts';
import { type AgentAddress, AgentConnection } from './agent-connection.ts';
import type { AgentProtocol } from './agent-protocol.ts';
import type { AgentSession, ClientCertificate } from './agent-session.ts';
import type { FleetView } from './fleet-view.ts';

/** The one that an agent has, and its successor. */
const MAX_CERTIFICATES = 2;

export interface AgentDirectoryOptions {
  readonly protocol: AgentProtocol;
  readonly view: FleetView;
  readonly identity: () => ClientCertificate | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random?: () => number;
  readonly onOpened?: () => void;
  readonly onFailure?: (reason: EsbError) => void;
}

/** The connections to all agents that there are, one for each LambdaNode. */
export class AgentDirectory {
  readonly #options: AgentDirectoryOptions;
  readonly #connections = new Map<string, AgentConnection>();

  constructor(options: AgentDirectoryOptions) {
    this.#options = options;
  }

  /** Nodes that are connected or being connected to. */
  get size(): number {
    return this.#connections.size;
  }

  /** The session to the agent of a node, while there is one. */
  session(nodeName: string): AgentSession | undefined {
    return this.#connections.get(nodeName)?.session;
  }

  /** Takes in what becomes of LambdaNodes. */
  apply(event: CacheEvent<LambdaNode>): void {
    switch (event.kind) {
      case 'added':
      case 'updated':
        this.#applyNode(event.object);
        break;
      case 'deleted':
        this.#connections.get(event.object.metadata.name)?.stop();
        this.#connections.delete(event.object.metadata.name);
        break;
      default:
        unreachable(event);
    }
  }

  /** Connects anew to all agents, with the identity of now. */
  renew(): void {
    for (const connection of this.#connections.values()) {
      connection.renew();
    }
  }

  /** Cuts every connection. */
  close(): void {
    for (const connection of this.#connections.values()) {
      connection.destroy();
    }
    this.#connections.clear();
  }

  #applyNode(node: LambdaNode): void {
    const { name } = node.metadata;
    const address = addressOf(node, this.#options.logger);
    if (address === undefined) {
      return;
    }
    const known = this.#connections.get(name);
    if (known !== undefined) {
      known.update(address);
      return;
    }
    this.#connections.set(
      name,
      new AgentConnection({
        nodeName: name,
        address,
        identity: this.#options.identity,
        protocol: this.#options.protocol,
        view: this.#options.view,
        clock: this.#options.clock,
        logger: this.#options.logger,
        random: this.#options.random ?? Math.random,
        onOpened: () => this.#options.onOpened?.(),
        onFailure: (reason) => this.#options.onFailure?.(reason),
      }),
    );
  }
}

/**
 * Where the agent of a node is; undefined until it has said so in a form that can be read. What cannot be read changes
 * nothing: the agent may still be where it was.
 */
function addressOf(node: LambdaNode, logger: Logger): AgentAddress | undefined {
  const { endpoint, certificate } = node.status ?? {};
  if (endpoint === undefined || endpoint === '' || certificate === undefined || certificate === '') {
    return undefined;
  }
  try {
    return { endpoint: readEndpoint(endpoint), certificate: readCertificates(certificate) };
  } catch (error) {
    logger.warn(
      { err: error, node: node.metadata.name },
      'LambdaNode has an endpoint or a certificate that cannot be read; what it said before is kept',
    );
    return undefined;
  }
}

function readEndpoint(text: string): HostPort {
  const endpoint = parseHostPort(text);
  if (endpoint.host === '' || endpoint.port === 0) {
    throw new EsbError(`'${text}' names no host or no port`, { code: 'InvalidArgument' });
  }
  return endpoint;
}

/** The same certificates, without whatever stands around them. */
function readCertificates(pem: string): string {
  const certificates = certificatesIn(pem);
  if (certificates.length > MAX_CERTIFICATES) {
    throw new EsbError(
      `there are ${certificates.length} certificates, and an agent has ${MAX_CERTIFICATES}`,
      {
        code: 'InvalidCertificate',
      },
    );
  }
  return certificates.map((certificate) => certificate.toString()).join('');
}
