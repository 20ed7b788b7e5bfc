import { randomUUID } from 'node:crypto';
import type { LambdaNode } from '../../api/lambda-node.ts';
import { Backoff } from '../../common/backoff.ts';
import type { Clock, Timer } from '../../common/clock.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import { type HostPort, parseHostPort } from '../../common/host-port.ts';
import type { Logger } from '../../common/logger.ts';
import { type CertifiedKey, certificatesIn } from '../../common/x509.ts';
import type { CacheEvent } from '../../kube/api/types.ts';
import type { WatchEvent } from '../../protocol/generated/agent.ts';
import type { AgentProtocol } from './agent-protocol.ts';
import { AgentSession } from './agent-session.ts';
import type { FleetView } from './fleet-view.ts';

/** Certificates of one agent: the present one and its successor. */
const MAX_CERTIFICATES = 2;
/** Waits before the next attempt to connect. */
const BACKOFF = { firstMs: 50, maxMs: 2_000, jitter: 0.5 } as const;

export interface AgentConnectionsOptions {
  readonly protocol: AgentProtocol;
  readonly view: FleetView;
  /** The certificate to show to agents; undefined while there is none. */
  readonly identity: () => CertifiedKey | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onOpened?: () => void;
  readonly onFailure?: (reason: EsbError) => void;
}

/** Endpoint and certificates of an agent, as its LambdaNode has them. */
interface AgentAddress {
  readonly endpoint: HostPort;
  /** PEM of the certificates to trust, and nothing else. */
  readonly certificate: string;
}

/** The connections of a gateway to the agents, one for each LambdaNode. */
export class AgentConnections {
  readonly #options: AgentConnectionsOptions;
  readonly #caller = randomUUID();
  readonly #connections = new Map<string, AgentConnection>();

  constructor(options: AgentConnectionsOptions) {
    this.#options = options;
  }

  /** Nodes that are connected or being connected to. */
  get size(): number {
    return this.#connections.size;
  }

  /** The open session to the agent of a node; undefined while there is none. */
  session(nodeName: string): AgentSession | undefined {
    return this.#connections.get(nodeName)?.current;
  }

  apply({ kind, object }: CacheEvent<LambdaNode>): void {
    const { name } = object.metadata;
    const known = this.#connections.get(name);
    if (kind === 'deleted') {
      known?.stop();
      this.#connections.delete(name);
      return;
    }
    const address = addressOf(object, this.#options.logger);
    if (address !== undefined && known !== undefined) {
      known.update(address);
    } else if (address !== undefined) {
      this.#connections.set(name, new AgentConnection(name, address, this.#options, this.#caller));
    }
  }

  /** Opens new sessions to all agents, with the present identity. */
  renew(): void {
    for (const connection of this.#connections.values()) {
      connection.renew();
    }
  }

  close(): void {
    for (const connection of this.#connections.values()) {
      connection.destroy();
    }
    this.#connections.clear();
  }
}

/** The session after the present one. */
type NextSession =
  | { readonly kind: 'None' }
  | { readonly kind: 'Opening'; readonly session: AgentSession }
  | { readonly kind: 'Waiting'; readonly timer: Timer }
  /** No further session is opened. */
  | { readonly kind: 'Stopped' };

/** Keeps one open session to the agent of a node, and the fleet view up to date with the reports of the agent. */
class AgentConnection {
  readonly #options: AgentConnectionsOptions;
  readonly #nodeName: string;
  readonly #logger: Logger;
  readonly #backoff = new Backoff(BACKOFF);
  readonly #caller: string;
  /** Retired sessions with calls under way. */
  readonly #draining = new Set<AgentSession>();
  #address: AgentAddress;
  #next: NextSession = { kind: 'None' };
  /** Whether a failure was logged since a session opened. */
  #complained = false;
  /** The session for calls. */
  current: AgentSession | undefined;

  constructor(nodeName: string, address: AgentAddress, options: AgentConnectionsOptions, caller: string) {
    this.#options = options;
    this.#caller = caller;
    this.#nodeName = nodeName;
    this.#address = address;
    this.#logger = options.logger.child({ node: nodeName });
    this.#open();
  }

  update(address: AgentAddress): void {
    const { endpoint, certificate } = this.#address;
    const sameEndpoint = endpoint.host === address.endpoint.host && endpoint.port === address.endpoint.port;
    if (sameEndpoint && certificate === address.certificate) {
      return;
    }
    this.#address = address;
    // A successor that is announced beside the present certificate changes nothing for an open connection.
    if (!sameEndpoint || !address.certificate.includes(certificate) || this.current === undefined) {
      this.renew();
    }
  }

  /** Opens another session with the present identity and address, and changes over once it is open. */
  renew(): void {
    this.#backoff.reset();
    this.#cancelNext();
    this.#open();
  }

  /** Takes no more calls; those under way go on, until {@link AgentConnection.destroy}. */
  stop(): void {
    this.#cancelNext();
    this.#next = { kind: 'Stopped' };
    this.current?.retire();
  }

  destroy(): void {
    this.stop();
    for (const session of this.#draining) {
      session.destroy();
    }
  }

  #cancelNext(): void {
    const next = this.#next;
    if (next.kind === 'Opening') {
      // First, so that its end is not taken for a failure.
      this.#next = { kind: 'None' };
      next.session.destroy();
    } else if (next.kind === 'Waiting') {
      this.#next = { kind: 'None' };
      next.timer.cancel();
    }
  }

  #open(): void {
    const { protocol, clock } = this.#options;
    const identity = this.#options.identity();
    if (this.#next.kind !== 'None' || identity === undefined) {
      return;
    }
    try {
      const session: AgentSession = new AgentSession({
        endpoint: this.#address.endpoint,
        trusted: this.#address.certificate,
        identity,
        protocol,
        caller: this.#caller,
        clock,
        onWatch: (event) => this.#watched(session, event),
        onRetired: (reason) => this.#retired(session, reason),
      });
      this.#next = { kind: 'Opening', session };
    } catch (error) {
      this.#failed(
        new EsbError(`the address or a certificate cannot be used: ${messageOf(error)}`, {
          code: 'InvalidAddress',
          cause: error,
        }),
      );
    }
  }

  #watched(session: AgentSession, { snapshot, changed, removed }: WatchEvent): void {
    if (this.#next.kind === 'Opening' && this.#next.session === session) {
      this.#changeOver(session);
    }
    if (this.current !== session) {
      return;
    }
    const { view } = this.#options;
    if (snapshot !== undefined) {
      view.replaceHoldings(this.#nodeName, snapshot.workers);
    } else if (changed !== undefined) {
      view.changeHolding(this.#nodeName, changed);
    } else if (removed !== undefined) {
      view.removeHolding(this.#nodeName, removed.uid);
    }
  }

  #changeOver(session: AgentSession): void {
    const former = this.current;
    this.#next = { kind: 'None' };
    this.current = session;
    this.#backoff.reset();
    this.#complained = false;
    this.#logger.info('connected to agent');
    this.#options.onOpened?.();
    former?.retire();
  }

  #retired(session: AgentSession, reason: EsbError): void {
    if (session.calls > 0) {
      this.#draining.add(session);
      session.onIdle(() => this.#draining.delete(session));
    }
    if (this.#next.kind === 'Opening' && this.#next.session === session) {
      this.#next = { kind: 'None' };
      this.#failed(reason);
    } else if (this.current === session) {
      this.current = undefined;
      this.#options.view.dropNode(this.#nodeName);
      if (this.#next.kind !== 'Stopped') {
        this.#logger.warn({ err: reason }, 'connection to agent is over');
      }
      this.#retryLater();
    }
  }

  #failed(reason: EsbError): void {
    this.#options.onFailure?.(reason);
    if (!this.#complained) {
      this.#complained = true;
      this.#logger.warn({ err: reason }, 'cannot connect to agent');
    }
    this.#retryLater();
  }

  #retryLater(): void {
    if (this.#next.kind === 'None') {
      const timer = this.#options.clock.setTimer(() => {
        this.#next = { kind: 'None' };
        this.#open();
      }, this.#backoff.next());
      this.#next = { kind: 'Waiting', timer };
    }
  }
}

/**
 * The address of an agent. Undefined when its LambdaNode has none, or one that cannot be read: the agent may still be
 * at its earlier address.
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
      'LambdaNode has an endpoint or a certificate that cannot be read; the earlier one is kept',
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

/** The certificates in a PEM text, without any text around them. */
function readCertificates(pem: string): string {
  const certificates = certificatesIn(pem);
  if (certificates.length > MAX_CERTIFICATES) {
    throw new EsbError(`there are ${certificates.length} certificates, and an agent has ${MAX_CERTIFICATES}`, {
      code: 'InvalidCertificate',
    });
  }
  return certificates.map((certificate) => certificate.toString()).join('');
}
