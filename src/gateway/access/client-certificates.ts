import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { LambdaError } from '../lambda/lambda-error.ts';
import { AUTHENTICATED_GROUP } from './access-keys.ts';
import type { Principal } from './principal.ts';

/** The certificate at the other end of a connection, as judged. */
type Shown =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'refused'; readonly reason: string }
  /** @param endsAtMs milliseconds since the epoch */
  | { readonly kind: 'accepted'; readonly principal: Principal; readonly endsAtMs: number };

export type PeerConnection = Pick<TLSSocket, 'authorized' | 'authorizationError' | 'getPeerX509Certificate'>;

/** Most certificates between that of a client and the authority. */
const MAX_CHAIN = 8;

/**
 * The principals of client certificates: the user is the common name and the groups are the organizations, as in the
 * API server. A certificate is judged once for a connection, and again when the authorities have changed.
 */
export class ClientCertificates {
  #authorities: readonly X509Certificate[] = [];
  #shown = new WeakMap<PeerConnection, Shown>();

  /** From now on certificates have to be signed by one of these. */
  trust(authorities: readonly X509Certificate[]): void {
    this.#authorities = authorities;
    this.#shown = new WeakMap();
  }

  /**
   * @param now milliseconds since the epoch
   * @returns undefined when the client has shown no certificate
   * @throws {LambdaError} UnrecognizedClientException or ExpiredTokenException
   */
  identify(connection: PeerConnection, now: number): Principal | undefined {
    let shown = this.#shown.get(connection);
    if (shown === undefined) {
      shown = this.#examine(connection);
      this.#shown.set(connection, shown);
    }
    switch (shown.kind) {
      case 'nothing':
        return undefined;
      case 'refused':
        throw new LambdaError(
          'UnrecognizedClientException',
          `The client certificate of the connection is invalid: ${shown.reason}.`,
        );
      case 'accepted':
        if (now >= shown.endsAtMs) {
          throw new LambdaError('ExpiredTokenException', 'The client certificate of the connection is expired.');
        }
        return shown.principal;
      default:
        return shown satisfies never;
    }
  }

  #examine(connection: PeerConnection): Shown {
    const certificate = connection.getPeerX509Certificate();
    if (certificate === undefined || this.#authorities.length === 0) {
      return { kind: 'nothing' };
    }
    if (!connection.authorized) {
      return { kind: 'refused', reason: String(connection.authorizationError) };
    }
    // The handshake, or a session that it has resumed, may be older than the authorities.
    if (!this.#isSigned(certificate)) {
      return { kind: 'refused', reason: 'no authority that is trusted has signed it' };
    }
    const subject = certificate.toLegacyObject().subject as unknown as Readonly<
      Record<string, string | readonly string[]>
    >;
    const { CN: user, O: organizations = [] } = subject;
    if (typeof user !== 'string' || user === '') {
      return { kind: 'refused', reason: 'its subject does not have one common name' };
    }
    const groups = typeof organizations === 'string' ? [organizations] : organizations;
    return {
      kind: 'accepted',
      principal: { kind: 'Certificate', user, groups: [...new Set([...groups, AUTHENTICATED_GROUP])] },
      endsAtMs: Date.parse(certificate.validTo),
    };
  }

  #isSigned(certificate: X509Certificate): boolean {
    let each: X509Certificate | undefined = certificate;
    for (let depth = 0; each !== undefined && depth < MAX_CHAIN; depth += 1) {
      const child: X509Certificate = each;
      if (this.#authorities.some((authority) => child.checkIssued(authority) && child.verify(authority.publicKey))) {
        return true;
      }
      const parent: X509Certificate | undefined = child.issuerCertificate;
      each = parent !== undefined && child.checkIssued(parent) && child.verify(parent.publicKey) ? parent : undefined;
    }
    return false;
  }
}
