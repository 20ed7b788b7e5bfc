import { describe, expect, it } from 'vitest';
import { parseHostRoutes, parseInterfaces } from '../../../src/cni/host-routes.ts';
import {
  formatRange,
  ipv4ToNumber,
  numberToIpv4,
  overlaps,
  parseIpv4Range,
} from '../../../src/cni/ipv4-range.ts';

describe('a range of addresses', () => {
  it('is read and written', () => {
    expect(formatRange(parseIpv4Range('10.234.7.9/16'))).toBe('10.234.0.0/16');
    expect(formatRange(parseIpv4Range('0.0.0.0/0'))).toBe('0.0.0.0/0');
    expect(numberToIpv4(ipv4ToNumber('255.254.253.252'))).toBe('255.254.253.252');
  });

  it.each(['', '10.0.0.0', '10.0.0/8', '10.0.0.0/33', 'fd00::/8', '10.0.0.0/x'])('%j is none', (text) => {
    expect(() => parseIpv4Range(text)).toThrow(/is not an IPv4 range/);
  });

  it.each([
    ['10.234.0.0/16', '10.0.0.0/8', true],
    ['10.234.0.0/16', '10.234.255.0/24', true],
    ['10.234.0.0/16', '10.235.0.0/16', false],
    ['10.234.0.0/16', '10.233.255.255/32', false],
    ['192.168.0.0/16', '192.168.0.0/16', true],
  ])('%s and %s overlap: %s', (a, b, expected) => {
    expect(overlaps(parseIpv4Range(a), parseIpv4Range(b))).toBe(expected);
    expect(overlaps(parseIpv4Range(b), parseIpv4Range(a))).toBe(expected);
  });
});

describe('what the kernel tells of the node', () => {
  it('gives its routes without the default one', () => {
    const text = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
esb0	0000EA0A	00000000	0001	0	0	0	0000FFFF	0	0	0
`;
    expect(parseHostRoutes(text).map((route) => `${route.interface} ${formatRange(route.range)}`)).toEqual([
      'esb0 10.234.0.0/16',
    ]);
  });

  it('gives its interfaces', () => {
    const text = `Inter-|   Receive  |  Transmit
 face |bytes    packets|bytes    packets
    lo:     100       1      100   1
veth12ab:       0       0        0   0
`;
    expect(parseInterfaces(text)).toEqual(['lo', 'veth12ab']);
  });
});
