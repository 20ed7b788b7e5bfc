import type { Socket } from 'node:net';
import ipaddr from 'ipaddr.js';
import { Tally } from '../tally.ts';

/**
 * The group that an address counts in: an IPv4 address itself, also where written in IPv6, and the first 64 bits of any
 * other IPv6 address, since their holder has all addresses below.
 */
export function addressGroup(address: string): string {
  if (!ipaddr.isValid(address)) {
    return address;
  }
  const parsed = ipaddr.process(address);
  return parsed instanceof ipaddr.IPv6
    ? `${parsed.parts
        .slice(0, 4)
        .map((part) => part.toString(16))
        .join(':')}::/64`
    : parsed.toString();
}

/** Bounds the connections that each address has to a server. */
export class AddressConnections {
  readonly #most: number;
  readonly #counts = new Tally();

  /** @param most connections of one IPv4 address, or of the first 64 bits of one of IPv6 */
  constructor(most: number) {
    this.#most = most;
  }

  /** Counts a connection until its end, and closes one above the bound. Returns whether it may stay. */
  admit(socket: Socket): boolean {
    const address = addressGroup(socket.remoteAddress ?? '');
    if (this.#counts.get(address) >= this.#most) {
      socket.destroy();
      return false;
    }
    this.#counts.add(address, 1);
    socket.once('close', () => this.#counts.add(address, -1));
    return true;
  }
}
