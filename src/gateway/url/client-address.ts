import { contains, familyOf, type IpRange } from '../../common/net/ip-range.ts';

/** An IPv4 address as a socket for both families shows it. */
const MAPPED = /^::ffff:(?=\d+\.)/i;
/** The zone behind an address of IPv6, a name of any length which means something to one machine alone. */
const ZONE = /%.*$/;

/** The client of a request, and whether its headers about the way that it came are believed. */
export interface Client {
  readonly address: string;
  /** Whether the connection is that of a proxy that the operator has named. */
  readonly byProxy: boolean;
}

/**
 * The client of a request. Of the addresses in X-Forwarded-For, which any client may send, each was added by the one
 * behind it: the last that is no proxy of the operator's is the client.
 *
 * @param peer address of the connection
 * @param forwarded values of X-Forwarded-For, in the order in which they came
 */
export function clientOf(peer: string, forwarded: string, proxies: readonly IpRange[]): Client {
  const isProxy = (address: string): boolean => proxies.some((range) => contains(range, address));
  const near = plain(peer);
  if (!isProxy(near)) {
    return { address: near, byProxy: false };
  }
  let address = near;
  for (const hop of forwarded.split(',').reverse()) {
    const named = plain(hop.trim());
    if (familyOf(named) === undefined) {
      break;
    }
    address = named;
    if (!isProxy(named)) {
      break;
    }
  }
  return { address, byProxy: true };
}

function plain(address: string): string {
  return address.replace(MAPPED, '').replace(ZONE, '');
}
