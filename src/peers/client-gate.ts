import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { certificatesIn } from '../common/x509.ts';
import { gatewayRefusal } from './peer-names.ts';

/** Options of a TLS server whose clients are gateways. Until it has a certificate, every handshake fails. */
export const gatewaysAlone = { requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3' } as const;

/** Authorities that sign the certificates of gateways, as they are now: a handshake may be older than they are. */
export class ClientGate {
  #authorities: readonly X509Certificate[] = [];

  /** @param authority in PEM; undefined for none, so that no client is let in */
  trust(authority: string | undefined): void {
    this.#authorities = authority === undefined ? [] : certificatesIn(authority);
  }

  /**
   * Reason why a client is no gateway; undefined when it is one.
   *
   * @param now milliseconds since the epoch
   * @param namespace that the gateway is to serve; undefined for any
   */
  refusal(
    connection: Pick<TLSSocket, 'authorized' | 'getPeerX509Certificate'>,
    now: number,
    namespace?: string,
  ): string | undefined {
    const certificate = connection.getPeerX509Certificate();
    if (certificate === undefined || !connection.authorized) {
      return 'it shows no certificate of the client authority';
    }
    if (!this.#hasSigned(certificate)) {
      return 'the client authority has not signed its certificate';
    }
    if (now >= certificate.validToDate.getTime()) {
      return 'its certificate is expired';
    }
    return gatewayRefusal(certificate.toLegacyObject(), namespace);
  }

  #hasSigned(certificate: X509Certificate): boolean {
    return this.#authorities.some(
      (authority) => certificate.checkIssued(authority) && certificate.verify(authority.publicKey),
    );
  }
}
