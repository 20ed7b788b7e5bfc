import { type Ipv4Range, rangeOf } from './ipv4-range.ts';

/** A route of the node's main table. */
export interface HostRoute {
  readonly interface: string;
  readonly range: Ipv4Range;
}

/** Reads `/proc/net/route`: IPv4 routes with addresses as little-endian hexadecimal numbers. Default routes are left out. */
export function parseHostRoutes(text: string): readonly HostRoute[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const fields = line.trim().split(/\s+/);
      const [name, destination] = fields;
      const mask = fields[7];
      if (name === undefined || destination === undefined || mask === undefined) {
        return [];
      }
      const prefixLength = countBits(littleEndian(mask));
      return prefixLength === 0
        ? []
        : [{ interface: name, range: rangeOf(littleEndian(destination), prefixLength) }];
    });
}

/** Names of the interfaces in `/proc/net/dev`. */
export function parseInterfaces(text: string): readonly string[] {
  return text
    .split('\n')
    .slice(2)
    .flatMap((line) => {
      const colon = line.indexOf(':');
      return colon === -1 ? [] : [line.slice(0, colon).trim()];
    });
}

function littleEndian(hex: string): number {
  return Buffer.from(hex, 'hex').readUInt32LE();
}

function countBits(value: number): number {
  return value.toString(2).replaceAll('0', '').length;
}
