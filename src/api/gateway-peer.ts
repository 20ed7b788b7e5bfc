import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { namespacesOfNames } from './gateway-name.ts';
import { GATEWAY_COMMON_NAME } from './name.ts';

/**
 * Gateways prove which namespace they may serve by a certificate that the controller signed for an account with the verb
 * `serve` there.
 */

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

/** Why a certificate with these names is for no gateway of `namespace`; undefined when it is. */
export function nameRefusal(namespace: string, commonName: unknown, names: string | undefined): string | undefined {
  if (commonName !== GATEWAY_COMMON_NAME) {
    return `its certificate is for ${String(commonName)}, not ${GATEWAY_COMMON_NAME}`;
  }
  return namespacesOfNames(names).has(namespace) ? undefined : `its certificate is not for the namespace ${namespace}`;
}
