import { isIPv4, isIPv6 } from 'node:net';
import { EsbError } from '../errors.ts';

export type IpFamily = 4 | 6;

/** A block of addresses; addresses are unsigned numbers of 32 or 128 bits. */
export interface IpRange {
  readonly family: IpFamily;
  readonly first: bigint;
  readonly last: bigint;
  readonly prefixLength: number;
}

/** A range of addresses that somebody else uses. */
export interface NamedRange {
  readonly cidr: string;
  /** Whose it is, for the message: `pod CIDR of node-a`. */
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
    throw new EsbError(`'${cidr}' is not a range of addresses such as 10.234.0.0/16`, {
      code: 'InvalidArgument',
    });
  }
  return rangeOf(family, addressToNumber(address), prefixLength);
}

/**
 * As {@link parseIpRange}, for what has to be IPv4.
 *
 * @throws {EsbError} `InvalidArgument`
 */
export function parseIpv4Range(cidr: string): IpRange {
  if (!isIPv4(cidr.split('/')[0] ?? '')) {
    throw new EsbError(`'${cidr}' is not an IPv4 range such as 10.234.0.0/16`, { code: 'InvalidArgument' });
  }
  return parseIpRange(cidr);
}

/** The range of `prefixLength` leading bits around an address. */
export function rangeOf(family: IpFamily, address: bigint, prefixLength: number): IpRange {
  const size = 1n << BigInt(bitsOf(family) - prefixLength);
  const first = (address / size) * size;
  return { family, first, last: first + size - 1n, prefixLength };
}

/** How many addresses there are in it. */
export function sizeOf(range: IpRange): bigint {
  return range.last - range.first + 1n;
}

export function overlaps(a: IpRange, b: IpRange): boolean {
  return a.family === b.family && a.first <= b.last && b.first <= a.last;
}

export function contains(range: IpRange, address: string): boolean {
  const number = addressToNumber(address);
  return familyOf(address) === range.family && range.first <= number && number <= range.last;
}

export function formatRange(range: IpRange): string {
  return `${numberToAddress(range.family, range.first)}/${range.prefixLength}`;
}

/** Undefined for what is no address. */
export function familyOf(address: string): IpFamily | undefined {
  if (isIPv4(address)) {
    return 4;
  }
  return isIPv6(address) ? 6 : undefined;
}

export function addressToNumber(address: string): bigint {
  return address.includes(':') ? ipv6ToNumber(address) : ipv4ToNumber(address);
}

/** In the form that everybody writes: IPv6 with the longest run of zeros left out (RFC 5952). */
export function numberToAddress(family: IpFamily, address: bigint): string {
  if (family === 4) {
    return [24n, 16n, 8n, 0n].map((shift) => String((address >> shift) & 0xffn)).join('.');
  }
  const groups = Array.from({ length: 8 }, (_, index) =>
    ((address >> BigInt(112 - index * 16)) & 0xffffn).toString(16),
  );
  const { start, length } = longestZeros(groups);
  return length < 2
    ? groups.join(':')
    : `${groups.slice(0, start).join(':')}::${groups.slice(start + length).join(':')}`;
}

function bitsOf(family: IpFamily): number {
  return family === 4 ? 32 : 128;
}

function ipv4ToNumber(address: string): bigint {
  return address.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n);
}

function ipv6ToNumber(address: string): bigint {
  // The last 32 bits may be written as IPv4.
  const plain = address.replace(/\d+\.\d+\.\d+\.\d+$/, (ipv4) => {
    const number = ipv4ToNumber(ipv4);
    return `${(number >> 16n).toString(16)}:${(number & 0xffffn).toString(16)}`;
  });
  const [head = '', tail] = plain.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0');
  return [...left, ...zeros, ...right].reduce((sum, group) => sum * 65_536n + BigInt(`0x${group}`), 0n);
}

function longestZeros(groups: readonly string[]): { readonly start: number; readonly length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  for (const [index, group] of groups.entries()) {
    if (group !== '0') {
      start = index + 1;
    } else if (index + 1 - start > best.length) {
      best = { start, length: index + 1 - start };
    }
  }
  return best;
}
