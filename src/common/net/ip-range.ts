import { isIP, isIPv4 } from 'node:net';
import ipaddr from 'ipaddr.js';
import { EsbError } from '../errors.ts';

export type IpFamily = 4 | 6;

/** A block of addresses; addresses are unsigned numbers of 32 or 128 bits. */
export interface IpRange {
  readonly family: IpFamily;
  readonly first: bigint;
  readonly last: bigint;
  readonly prefixLength: number;
}

/** A range of addresses in other use. */
export interface NamedRange {
  readonly cidr: string;
  /** The use, for the message: `pod CIDR of node-a`. */
  readonly what: string;
}

/**
 * Reads `10.234.0.0/16` or `fd00:234::/64`; bits beyond the prefix are ignored.
 *
 * @throws {EsbError} `InvalidArgument`
 */
export function parseIpRange(cidr: string): IpRange {
  const [address = '', length = '', ...more] = cidr.split('/');
  const family = familyOf(address);
  const prefixLength = Number(length);
  if (
    family === undefined ||
    !/^\d{1,3}$/.test(length) ||
    prefixLength > bitsOf(family) ||
    more.length > 0 ||
    address.includes('%')
  ) {
    throw new EsbError(`'${cidr}' is not a range of addresses such as 10.234.0.0/16`, { code: 'InvalidArgument' });
  }
  return rangeOf(family, addressToNumber(address), prefixLength);
}

/**
 * As {@link parseIpRange}, for IPv4 alone.
 *
 * @throws {EsbError} `InvalidArgument`
 */
export function parseIpv4Range(cidr: string): IpRange {
  if (!isIPv4(cidr.split('/')[0] ?? '')) {
    throw new EsbError(`'${cidr}' is not an IPv4 range such as 10.234.0.0/16`, { code: 'InvalidArgument' });
  }
  return parseIpRange(cidr);
}

/** An address as a range of its own, such as `10.0.0.1/32`. */
export function singleAddress(address: string): string {
  return address.includes(':') ? `${address}/128` : `${address}/32`;
}

/** The range of `prefixLength` leading bits around an address. */
export function rangeOf(family: IpFamily, address: bigint, prefixLength: number): IpRange {
  const size = 1n << BigInt(bitsOf(family) - prefixLength);
  const first = (address / size) * size;
  return { family, first, last: first + size - 1n, prefixLength };
}

/** Number of addresses in a range. */
export function sizeOf(range: IpRange): bigint {
  return range.last - range.first + 1n;
}

export function overlaps(a: IpRange, b: IpRange): boolean {
  return a.family === b.family && a.first <= b.last && b.first <= a.last;
}

export function contains(range: IpRange, address: string): boolean {
  if (familyOf(address) !== range.family) {
    return false;
  }
  const number = addressToNumber(address);
  return range.first <= number && number <= range.last;
}

export function formatRange(range: IpRange): string {
  return `${numberToAddress(range.family, range.first)}/${range.prefixLength}`;
}

/** Undefined for a text that is no address. */
export function familyOf(address: string): IpFamily | undefined {
  const family = isIP(address);
  return family === 0 ? undefined : (family as IpFamily);
}

export function addressToNumber(address: string): bigint {
  return BigInt(`0x${Buffer.from(ipaddr.parse(address).toByteArray()).toString('hex')}`);
}

/** The usual form of an address: IPv6 with the longest run of zeros left out (RFC 5952). */
export function numberToAddress(family: IpFamily, address: bigint): string {
  const hex = address.toString(16).padStart(bitsOf(family) / 4, '0');
  return ipaddr.fromByteArray([...Buffer.from(hex, 'hex')]).toString();
}

function bitsOf(family: IpFamily): number {
  return family === 4 ? 32 : 128;
}
