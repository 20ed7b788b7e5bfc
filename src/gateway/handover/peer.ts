import type { X509Certificate } from 'node:crypto';
import type { PeerCertificate, TLSSocket } from 'node:tls';
import { namespacesOfNames } from '../../api/gateway-name.ts';
import { GATEWAY_COMMON_NAME } from '../../api/name.ts';
import { EsbError } from '../../common/errors.ts';

/**
 * Gateways and the role that keeps their events prove to each other by the same kind of certificate that each may serve
 * the namespace: one that the controller signed for an account with the verb `serve` there.
 */

/** Why a server is not the role that keeps the events of `namespace`; undefined when it is. For `tls.connect`. */
export function serverRefusal(namespace: string, certificate: PeerCertificate): Error | undefined {
  const reason = nameRefusal(namespace, certificate.subject?.CN, certificate.subjectaltname);
  return reason === undefined
    ? undefined
    : new EsbError(`the server at the address of the events role is another: ${reason}`, {
        code: 'InvalidCertificate',
      });
}

/**
 * Why a client is no gateway of `namespace`; undefined when it is.
 *
 * @param authorities those that are trusted now: the handshake may be older
 * @param now milliseconds since the epoch
 */
export function clientRefusal(
  namespace: string,
  authorities: readonly X509Certificate[],
  connection: Pick<TLSSocket, 'authorized' | 'getPeerX509Certificate'>,
  now: number,
): string | undefined {
  const certificate = connection.getPeerX509Certificate();
  if (certificate === undefined || !connection.authorized) {
    return 'it shows no certificate of the client authority';
  }
  if (!authorities.some((each) => certificate.checkIssued(each) && certificate.verify(each.publicKey))) {
    return 'the client authority has not signed its certificate';
  }
  if (now >= certificate.validToDate.getTime()) {
    return 'its certificate is expired';
  }
  const { CN } = certificate.toLegacyObject().subject as unknown as { readonly CN?: string };
  return nameRefusal(namespace, CN, certificate.subjectAltName);
}

function nameRefusal(namespace: string, commonName: unknown, names: string | undefined): string | undefined {
  if (commonName !== GATEWAY_COMMON_NAME) {
    return `its certificate is for ${String(commonName)}, not ${GATEWAY_COMMON_NAME}`;
  }
  return namespacesOfNames(names)?.has(namespace) === true
    ? undefined
    : `its certificate is not for the namespace ${namespace}`;
}
