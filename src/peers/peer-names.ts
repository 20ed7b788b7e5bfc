import type { PeerCertificate } from 'node:tls';
import { namespacesOfNames } from '../api/gateway-name.ts';
import { CONTROLLER_COMMON_NAME, GATEWAY_COMMON_NAME } from '../api/name.ts';
import { EsbError } from '../common/errors.ts';

/** Names in the certificate of a peer, in the form of Node.js. */
type Names = Pick<PeerCertificate, 'subject' | 'subjectaltname'>;

/**
 * Reason why a certificate is for no gateway; undefined when it is for one. A gateway proves the namespaces that it may
 * serve by a certificate that the controller signed for an account with the verb `serve` there.
 *
 * @param namespace to serve; undefined for any
 */
export function gatewayRefusal({ subject, subjectaltname }: Names, namespace?: string): string | undefined {
  const name: unknown = subject?.CN;
  if (name !== GATEWAY_COMMON_NAME) {
    return `its certificate is for ${String(name)}, not ${GATEWAY_COMMON_NAME}`;
  }
  const serves = namespace === undefined || namespacesOfNames(subjectaltname).has(namespace);
  return serves ? undefined : `its certificate is not for the namespace ${namespace}`;
}

/**
 * Error for a server that is not the role that keeps the events of a namespace; undefined when it is. The role has the
 * same kind of certificate as its gateways. For `tls.connect`.
 */
export function eventsRoleRefusal(namespace: string, names: Names): Error | undefined {
  const reason = gatewayRefusal(names, namespace);
  return reason === undefined ? undefined : otherServer('the events role', reason);
}

/** Error for a server that is not the leading controller; undefined when it is. For `tls.connect`. */
export function controllerRefusal({ subject }: Pick<Names, 'subject'>): Error | undefined {
  const name: unknown = subject?.CN;
  return name === CONTROLLER_COMMON_NAME ? undefined : otherServer('the controller', String(name));
}

function otherServer(role: string, reason: string): Error {
  return new EsbError(`the server at the address of ${role} is another: ${reason}`, { code: 'InvalidCertificate' });
}
