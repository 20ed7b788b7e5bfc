import { type IpRange, rangeOf } from '../../common/net/ip-range.ts';

/** A route of the node's main table. */
export interface HostRoute {
  readonly interface: string;
  readonly range: IpRange;
}

/**
 * Reads `/proc/net/route`: IPv4 routes with addresses as little-endian hexadecimal numbers. Default routes are left
 * out.
 */
export function parseHostRoutes(text: string): readonly HostRoute[] {
  return rowsOf(text, 1).flatMap(([name, destination, , , , , , mask]) => {
    if (name === undefined || destination === undefined || mask === undefined) {
      return [];
    }
    const prefixLength = countBits(littleEndian(mask));
    return prefixLength === 0
      ? []
      : [{ interface: name, range: rangeOf(4, BigInt(littleEndian(destination)), prefixLength) }];
  });
}

/**
 * Reads `/proc/net/ipv6_route`: destination and prefix length as hexadecimal numbers, the interface last. Left out are
 * default routes, those that every interface has (link-local, multicast) and those to single addresses of the node.
 */
export function parseHostRoutesV6(text: string): readonly HostRoute[] {
  return rowsOf(text, 0).flatMap(([destination, length, , , , , , , , name]) => {
    if (destination === undefined || length === undefined || name === undefined) {
      return [];
    }
    const prefixLength = Number.parseInt(length, 16);
    const everywhere = /^(fe80|ff)/.test(destination);
    return prefixLength === 0 || prefixLength === 128 || everywhere
      ? []
      : [{ interface: name, range: rangeOf(6, BigInt(`0x${destination}`), prefixLength) }];
  });
}

/** Names of the interfaces in `/proc/net/dev`. */
export function parseInterfaces(text: string): readonly string[] {
  return [...text.matchAll(/^\s*(\S+?):/gm)].map(([, name = '']) => name);
}

/** The fields of each line after the headings. */
function rowsOf(text: string, headings: number): readonly (readonly string[])[] {
  return text
    .split('\n')
    .slice(headings)
    .map((line) => line.trim().split(/\s+/));
}

function littleEndian(hex: string): number {
  return Buffer.from(hex, 'hex').readUInt32LE();
}

function countBits(value: number): number {
  return value.toString(2).replaceAll('0', '').length;
}
