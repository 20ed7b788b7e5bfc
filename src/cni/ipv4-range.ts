import { isIPv4 } from 'node:net';
import { EsbError } from '../common/errors.ts';

/** A block of IPv4 addresses; addresses are unsigned 32-bit numbers. */
export interface Ipv4Range {
  readonly first: number;
  readonly last: number;
  readonly prefixLength: number;
}

/**
 * Reads `10.234.0.0/16`; bits beyond the prefix are ignored.
 *
 * @throws {EsbError} `InvalidArgument`
 */
export function parseIpv4Range(cidr: string): Ipv4Range {
  const [address = '', length = ''] = cidr.split('/');
  const prefixLength = Number(length);
  if (!isIPv4(address) || !/^\d{1,2}$/.test(length) || prefixLength > 32) {
    throw new EsbError(`'${cidr}' is not an IPv4 range such as 10.234.0.0/16`, { code: 'InvalidArgument' });
  }
  return rangeOf(ipv4ToNumber(address), prefixLength);
}

/** The range of `prefixLength` leading bits around an address. */
export function rangeOf(address: number, prefixLength: number): Ipv4Range {
  const size = 2 ** (32 - prefixLength);
  const first = Math.floor(address / size) * size;
  return { first, last: first + size - 1, prefixLength };
}

export function overlaps(a: Ipv4Range, b: Ipv4Range): boolean {
  return a.first <= b.last && b.first <= a.last;
}

export function formatRange(range: Ipv4Range): string {
  return `${numberToIpv4(range.first)}/${range.prefixLength}`;
}

export function ipv4ToNumber(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}

export function numberToIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}
