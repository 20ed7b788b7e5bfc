import type { PeerCertificate } from 'node:tls';
import { nameRefusal } from '../../api/gateway-peer.ts';
import { EsbError } from '../../common/errors.ts';

/**
 * Why a server is not the role that keeps the events of `namespace`; undefined when it is: the role has the same kind of
 * certificate as its gateways. For `tls.connect`.
 */
export function serverRefusal(namespace: string, certificate: PeerCertificate): Error | undefined {
  const reason = nameRefusal(namespace, certificate.subject?.CN, certificate.subjectaltname);
  return reason === undefined
    ? undefined
    : new EsbError(`the server at the address of the events role is another: ${reason}`, {
        code: 'InvalidCertificate',
      });
}
