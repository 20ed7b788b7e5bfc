import type { IncomingMessage } from 'node:http';
import type { FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify';
import { type Access, type AccessAction, accessRequestOf, type Identity } from '../access/access.ts';
import { strangerAt } from '../access/access-cache.ts';
import { overloaded } from '../admission/admission-policy.ts';
import type { RequestRates } from '../admission/request-rates.ts';
import type { Hold } from '../admission/room.ts';
import type { UnverifiedBodies } from '../admission/unverified-bodies.ts';
import type { Caller } from '../lambda/caller.ts';
import { LambdaError } from '../lambda/lambda-error.ts';
import type { CallObservation } from '../telemetry/observed-call.ts';
import { announcedBytes, announcesBody } from './request-body.ts';

export interface EntranceOptions {
  readonly access: Access;
  readonly requestRates: RequestRates;
  readonly unverified: UnverifiedBodies;
  /** Whether a signature for this host, as in the header, is one for this listener. */
  readonly isOwnHost: (host: string) => boolean;
}

export interface Errand {
  readonly action: AccessAction;
  /** The bare name; undefined for an action on all functions. */
  readonly functionName: string | undefined;
  /** The function as the caller has named it, where a right is one to another name. */
  readonly called?: string;
}

/** The sender of a request, and how far it is proved. */
export interface Visitor {
  readonly identity: Identity;
  /** Whether the sender is proved, except for the body's own hash. */
  known: boolean;
  /** Set where a sender who is not proved lacks the right: told once the body has proved the sender. */
  denied?: LambdaError;
  /** Gives back the room of a body whose sender was not proved. */
  leave: (() => void) | undefined;
  /** Hash of the whole body, where one was made while the body arrived. */
  bodyHash: string | undefined;
}

/** A request on its way through the entrance. */
export interface Arrival {
  readonly raw: IncomingMessage;
  readonly caller: Caller;
  readonly hold: Hold;
  /** Set by the entrance. */
  visitor: Visitor | undefined;
  readonly observation: CallObservation | undefined;
  /** The whole body, once there is one. */
  readonly body?: unknown;
}

/** The right that a request needs; undefined for none. Throws for a malformed request. */
type ErrandOf = (request: FastifyRequest) => Errand | undefined;

const NO_BODY = Buffer.alloc(0);
/** Characters of a host that an error repeats: as many as a name has. */
const MAX_SHOWN = 253;

/**
 * Decides about requests by their heads, before a byte of their bodies is read: sender, rate and right. Where only the
 * body can prove the sender, rate and right are checked for the claimed sender, and the body is read within a share of
 * its key. A sender without the right hears so after that proof: who knows the id of a key learns nothing of its rights.
 */
export class Entrance {
  readonly #options: EntranceOptions;

  constructor(options: EntranceOptions) {
    this.#options = options;
  }

  /** A hook for the head of each request of a route. */
  hook(
    errandOf: ErrandOf,
  ): (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction) => Promise<void> | void {
    return (request, _reply, done) => {
      try {
        const entered = this.enter(request, () => errandOf(request));
        if (entered instanceof Promise) {
          // Returned only where there is something to wait for: a promise for every request would cost each a round of
          // the loop.
          return entered;
        }
      } catch (error) {
        done(error as Error);
        return;
      }
      done();
      return;
    };
  }

  /**
   * Lets in a request by its head. Resolves once the request is let in; undefined for at once.
   *
   * @throws {LambdaError} see {@link Access}
   */
  enter(request: Arrival, errandOf: () => Errand | undefined): Promise<void> | void {
    const identified = this.#options.access.identify(accessRequestOf(request.raw));
    return identified instanceof Promise
      ? this.#enterLater(request, identified, errandOf)
      : this.#enter(request, identified, errandOf);
  }

  /**
   * Room for the body of a request that was let in. Resolves when there is; undefined for at once.
   *
   * @param maxBytes of the body
   * @throws {LambdaError} TooManyRequestsException
   */
  awaitBody(request: Arrival, maxBytes?: number): Promise<void> | undefined {
    const { visitor, caller, hold } = request;
    const key = visitor?.identity.claimedKey;
    if (visitor === undefined || visitor.known || key === undefined) {
      return undefined;
    }
    if (!hold.takeStranger(`key ${key}`)) {
      throw overloaded();
    }
    const place = this.#options.unverified.enter(key, announcedBytes(request.raw, maxBytes), caller);
    if (!(place instanceof Promise)) {
      visitor.leave = place;
      return undefined;
    }
    return place.then((leave) => {
      visitor.leave = leave;
      if (caller.gone) {
        this.leave(request);
      }
    });
  }

  /**
   * Proves, with the whole body, whose the request is.
   *
   * @throws {LambdaError} InvalidSignatureException, or TooManyRequestsException
   */
  prove(request: Arrival, observation: CallObservation): Identity {
    const { visitor } = request;
    if (visitor === undefined) {
      throw new Error('the request has not passed the entrance');
    }
    const { identity } = visitor;
    identity.confirm((request.body as Buffer | undefined) ?? NO_BODY, visitor.bodyHash);
    this.leave(request);
    if (!visitor.known) {
      this.#known(request, visitor, observation);
    }
    if (visitor.denied !== undefined) {
      throw visitor.denied;
    }
    return identity;
  }

  /** The body of a request is proved, or will not come. */
  leave({ visitor, hold }: Pick<Arrival, 'visitor' | 'hold'>): void {
    hold.known();
    if (visitor?.leave !== undefined) {
      visitor.leave();
      visitor.leave = undefined;
    }
  }

  async #enterLater(
    request: Arrival,
    identified: Promise<Identity>,
    errandOf: () => Errand | undefined,
  ): Promise<void> {
    if (!request.hold.takeStranger(strangerAt(request.caller.address).name)) {
      identified.catch(() => undefined);
      throw overloaded();
    }
    const identity = await identified;
    request.hold.known();
    await this.#enter(request, identity, errandOf);
  }

  #enter(request: Arrival, identity: Identity, errandOf: () => Errand | undefined): Promise<void> | void {
    const { access, requestRates } = this.#options;
    const { observation } = request;
    if (identity.principal.kind === 'AccessKey') {
      this.#checkHost(request.raw);
    }
    const visitor: Visitor = { identity, known: false, leave: undefined, bodyHash: undefined };
    request.visitor = visitor;
    if (identity.claimedKey === undefined) {
      this.#known(request, visitor, observation);
    } else if (announcesBody(request.raw)) {
      requestRates.check(identity.principal, request.caller);
    } else {
      identity.confirm(NO_BODY);
      this.#known(request, visitor, observation);
    }
    const errand = errandOf();
    if (errand === undefined) {
      return;
    }
    const { action, called, functionName } = errand;
    const { address } = request.caller;
    if (visitor.known) {
      const proved = { principal: identity.principal, claimedKey: undefined };
      return access.authorize(proved, action, functionName, address, called);
    }
    try {
      const asked = access.authorize(identity, action, functionName, address, called);
      return asked instanceof Promise ? asked.catch((error: unknown) => deny(visitor, error)) : undefined;
    } catch (error) {
      deny(visitor, error);
    }
  }

  /**
   * A signature covers the host, so that a request that was signed for another gateway or listener is none for this one.
   *
   * @throws {LambdaError} InvalidSignatureException
   */
  #checkHost({ headersDistinct }: IncomingMessage): void {
    // As the signature covers them: several values are one text.
    const host = (headersDistinct.host ?? []).join(',');
    if (!this.#options.isOwnHost(host)) {
      throw new LambdaError(
        'InvalidSignatureException',
        `The request is signed for ${host.slice(0, MAX_SHOWN)}, which is no name of this gateway: --host names the hosts that signatures may be for.`,
      );
    }
  }

  #known(request: Arrival, visitor: Visitor, observation: CallObservation | undefined): void {
    visitor.known = true;
    const { principal } = visitor.identity;
    observation?.identified(principal);
    this.#options.requestRates.count(principal, request.caller);
  }
}

/** Keeps the refusal of a right until its sender is proved. Throws anything else. */
function deny(visitor: Visitor, error: unknown): void {
  if (!(error instanceof LambdaError) || error.errorName !== 'AccessDeniedException') {
    throw error;
  }
  visitor.denied = error;
}
