import { isIPv6, type Socket } from 'node:net';

/**
 * What an address counts as: an IPv4 address written in IPv6 as itself, and of other IPv6 addresses the first 64 bits, since whoever has one
 * has all of these.
 */
export function addressGroup(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped?.[1] !== undefined) {
    return mapped[1];
  }
  const bare = address.split('%', 1)[0] ?? address;
  if (!isIPv6(bare)) {
    return address;
  }
  const [head = '', tail] = bare.split('::');
  const first = head === '' ? [] : head.split(':');
  const last = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : 8 - first.length - last.length;
  const groups = [...first, ...Array.from({ length: Math.max(0, zeros) }, () => '0'), ...last];
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`;
}

/** Counts the connections of each address that a server has. */
export class AddressConnections {
  readonly #most: number;
  readonly #counts = new Map<string, number>();

  /** @param most connections of one IPv4 address, or of the first 64 bits of one of IPv6 */
  constructor(most: number) {
    this.#most = most;
  }

  /** Counts a connection until its end, and closes one that is too many; whether it may stay. */
  admit(socket: Socket): boolean {
    const address = addressGroup(socket.remoteAddress ?? '');
    const count = (this.#counts.get(address) ?? 0) + 1;
    if (count > this.#most) {
      socket.destroy();
      return false;
    }
    this.#counts.set(address, count);
    socket.once('close', () => {
      const left = (this.#counts.get(address) ?? 0) - 1;
      if (left > 0) {
        this.#counts.set(address, left);
      } else {
        this.#counts.delete(address);
      }
    });
    return true;
  }
}
