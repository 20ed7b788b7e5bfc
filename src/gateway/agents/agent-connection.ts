import type { Clock, Timer } from '../../common/clock.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { HostPort } from '../../common/host-port.ts';
import type { Logger } from '../../common/logger.ts';
import type { AgentProtocol } from './agent-protocol.ts';
import { AgentSession, type AgentSessionOptions, type ClientCertificate } from './agent-session.ts';
import type { FleetView } from './fleet-view.ts';

/** Milliseconds until the first and, doubling, at most until each further attempt to connect. */
const MIN_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 2_000;

/** Where an agent is and how it is known: what its LambdaNode says. */
export interface AgentAddress {
  readonly endpoint: HostPort;
  /** PEM of the certificates to trust, and nothing else. */
  readonly certificate: string;
}

export interface AgentConnectionOptions {
  readonly nodeName: string;
  readonly address: AgentAddress;
  /** What to show of ourselves; undefined while there is nothing. */
  readonly identity: () => ClientCertificate | undefined;
  readonly protocol: AgentProtocol;
  readonly view: FleetView;
  readonly clock: Clock;
  readonly logger: Logger;
  /** 0 up to 1, for the spread of attempts. */
  readonly random: () => number;
  /** Told of each session that was opened, and of each that could not be, with the reason. */
  readonly onOpened: () => void;
  readonly onFailure: (reason: EsbError) => void;
}

/** Keeps one open session to the agent of a node, and the fleet view up to date with what it says. */
export class AgentConnection {
  readonly #options: AgentConnectionOptions;
  readonly #logger: Logger;
  #address: AgentAddress;
  /** The session that takes calls. */
  #current: AgentSession | undefined;
  /** The session that is being opened. */
  #candidate: AgentSession | undefined;
  readonly #retired = new Set<AgentSession>();
  #timer: Timer | undefined;
  #backoffMs = MIN_BACKOFF_MS;
  #stopped = false;
  #complained = false;

  constructor(options: AgentConnectionOptions) {
    this.#options = options;
    this.#address = options.address;
    this.#logger = options.logger.child({ node: options.nodeName });
    this.#open();
  }

  /** The session for calls; undefined while there is none. */
  get session(): AgentSession | undefined {
    return this.#current?.isOpen === true ? this.#current : undefined;
  }

  /** Takes over what the LambdaNode says now. */
  update(address: AgentAddress): void {
    const { endpoint, certificate } = this.#address;
    const sameEndpoint = endpoint.host === address.endpoint.host && endpoint.port === address.endpoint.port;
    if (sameEndpoint && certificate === address.certificate) {
      return;
    }
    this.#address = address;
    // A certificate that is only announced beside the old one changes nothing for a connection that stands.
    if (!sameEndpoint || !address.certificate.includes(certificate) || this.#current === undefined) {
      this.renew();
    }
  }

  /** Opens another session, with the identity and address of now, and changes over to it once it is open. */
  renew(): void {
    this.#candidate?.destroy();
    this.#candidate = undefined;
    this.#backoffMs = MIN_BACKOFF_MS;
    this.#open();
  }

  /** Takes no more calls; those under way go on, until {@link AgentConnection.destroy}. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#candidate?.destroy();
    this.#current?.retire();
  }

  /** Cuts every connection. */
  destroy(): void {
    this.stop();
    for (const session of this.#retired) {
      session.destroy();
    }
  }

  #open(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const { nodeName, view, protocol, clock } = this.#options;
    const identity = this.#options.identity();
    if (this.#stopped || identity === undefined || this.#candidate !== undefined) {
      return;
    }
    let session: AgentSession;
    const options: AgentSessionOptions = {
      endpoint: this.#address.endpoint,
      trusted: this.#address.certificate,
      identity,
      protocol,
      clock,
      listener: {
        opened: (workers) => {
          if (this.#candidate === session) {
            this.#changeOver(session);
          }
          if (this.#current === session) {
            view.replaceHoldings(nodeName, workers);
          }
        },
        changed: (worker) => {
          if (this.#current === session) {
            view.changeHolding(nodeName, worker);
          }
        },
        removed: (worker) => {
          if (this.#current === session) {
            view.removeHolding(nodeName, worker.uid);
          }
        },
        retired: (reason) => this.#lost(session, reason),
      },
    };
    try {
      session = new AgentSession(options);
    } catch (error) {
      this.#failed(
        new EsbError(`the address or a certificate cannot be used: ${messageOf(error)}`, {
          code: 'InvalidAddress',
          retryable: true,
          cause: error,
        }),
      );
      this.#retryLater();
      return;
    }
    this.#candidate = session;
  }

  #failed(reason: EsbError): void {
    this.#options.onFailure(reason);
    if (!this.#complained) {
      this.#complained = true;
      this.#logger.warn({ err: reason }, 'cannot connect to agent');
    }
  }

  #changeOver(session: AgentSession): void {
    const former = this.#current;
    this.#candidate = undefined;
    this.#current = session;
    this.#backoffMs = MIN_BACKOFF_MS;
    this.#complained = false;
    this.#logger.info('connected to agent');
    this.#options.onOpened();
    former?.retire();
  }

  #lost(session: AgentSession, reason: EsbError): void {
    if (session.calls > 0) {
      this.#retired.add(session);
      session.onIdle(() => this.#retired.delete(session));
    }
    if (this.#candidate === session) {
      this.#candidate = undefined;
      this.#failed(reason);
    } else if (this.#current === session) {
      this.#current = undefined;
      this.#options.view.dropNode(this.#options.nodeName);
      if (!this.#stopped) {
        this.#logger.warn({ err: reason }, 'connection to agent is over');
      }
    } else {
      return;
    }
    if (this.#candidate === undefined) {
      this.#retryLater();
    }
  }

  #retryLater(): void {
    if (this.#stopped) {
      return;
    }
    this.#timer?.cancel();
    const delayMs = this.#backoffMs * (0.5 + this.#options.random() / 2);
    this.#backoffMs = Math.min(MAX_BACKOFF_MS, this.#backoffMs * 2);
    this.#timer = this.#options.clock.setTimer(() => this.#open(), delayMs);
  }
}
