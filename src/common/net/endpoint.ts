import { networkInterfaces } from 'node:os';
import { formatHostPort, type HostPort, parseHostPort } from '../host-port.ts';

/**
 * The address that gateways connect to.
 *
 * @param advertise as the user gave it
 * @param bound where the server listens
 */
export function endpointOf(advertise: string | undefined, bound: HostPort): string {
  if (advertise !== undefined) {
    const { host, port } = parseHostPort(advertise);
    return formatHostPort({ host, port: port === 0 ? bound.port : port });
  }
  const host = ['', '0.0.0.0', '::'].includes(bound.host) ? firstAddress() : bound.host;
  return formatHostPort({ host, port: bound.port });
}

function firstAddress(): string {
  const addresses = Object.entries(networkInterfaces())
    // Bridges of ESB and of container engines do not lead to the node.
    .filter(([name]) => !/^(esb|docker|br-|cni|veth|virbr)/.test(name))
    .flatMap(([, list]) => list ?? [])
    .filter(({ internal }) => !internal);
  const address = addresses.find(({ family }) => family === 'IPv4') ?? addresses[0];
  return address?.address ?? '127.0.0.1';
}
