import { describe, expect, it } from 'vitest';
import { parseHostRoutes, parseHostRoutesV6, parseInterfaces } from '../../../../src/cni/host/host-routes.ts';
import {
  addressToNumber,
  contains,
  formatRange,
  numberToAddress,
  overlaps,
  parseIpRange,
  parseIpv4Range,
} from '../../../../src/common/net/ip-range.ts';

describe('a range of addresses', () => {
  it.each([
    ['10.234.7.9/16', '10.234.0.0/16'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['fd00:234::5:6/64', 'fd00:234::/64'],
    ['::/0', '::/0'],
    ['fe80::1/128', 'fe80::1/128'],
    ['2001:db8:0:0:1:0:0:1/128', '2001:db8::1:0:0:1/128'],
    ['::ffff:192.0.2.1/128', '::ffff:c000:201/128'],
    ['1:0:3:0:5:0:7:0/128', '1:0:3:0:5:0:7:0/128'],
  ])('%s is read as %s', (text, written) => {
    expect(formatRange(parseIpRange(text))).toBe(written);
  });

  it.each(['255.254.253.252', '0.0.0.1', '::', '::1', 'fd00::', 'fd00::1:2:3', '1::8'])(
    '%s is the same address after being counted with',
    (address) => {
      expect(numberToAddress(address.includes(':') ? 6 : 4, addressToNumber(address))).toBe(address);
    },
  );

  it.each(['', '10.0.0.0', '10.0.0/8', '10.0.0.0/33', 'fd00::/129', '10.0.0.0/x', '10.0.0.0/8/8', 'fe80::1%a/64'])(
    '%j is none',
    (text) => {
      expect(() => parseIpRange(text)).toThrow(/is not a range of addresses/);
    },
  );

  it('of IPv6 is refused where only IPv4 will do', () => {
    expect(() => parseIpv4Range('fd00::/8')).toThrow(/is not an IPv4 range/);
  });

  it.each([
    ['10.234.0.0/16', '10.0.0.0/8', true],
    ['10.234.0.0/16', '10.234.255.0/24', true],
    ['10.234.0.0/16', '10.235.0.0/16', false],
    ['10.234.0.0/16', '10.233.255.255/32', false],
    ['192.168.0.0/16', '192.168.0.0/16', true],
    ['fd00::/64', 'fd00::1:0:0:0:0/80', false],
    ['fd00::/48', 'fd00:0:0:1::/64', true],
    ['0.0.0.0/0', '::/0', false],
  ])('%s and %s overlap: %s', (a, b, expected) => {
    expect(overlaps(parseIpRange(a), parseIpRange(b))).toBe(expected);
    expect(overlaps(parseIpRange(b), parseIpRange(a))).toBe(expected);
  });

  it.each([
    ['10.234.0.0/21', '10.234.7.255', true],
    ['10.234.0.0/21', '10.234.8.0', false],
    ['::/0', '10.234.8.0', false],
    ['fd00::/112', 'fd00::ffff', true],
    ['fd00::/112', 'fd00::1:0', false],
  ])('%s contains %s: %s', (range, address, expected) => {
    expect(contains(parseIpRange(range), address)).toBe(expected);
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

  it('gives its routes of IPv6 without those that every interface has', () => {
    const nothing = '00000000000000000000000000000000';
    const rest = `00 ${nothing} 00000100 00000001 00000000 00000001`;
    const text = `fd000235000000000000000000000000 40 ${nothing} ${rest} eth0
fd000235000000000000000000000001 80 ${nothing} ${rest} eth0
fe800000000000000000000000000000 40 ${nothing} ${rest} eth0
${nothing} 00 ${nothing} ${rest} eth0
ff000000000000000000000000000000 08 ${nothing} ${rest} eth0
`;
    expect(parseHostRoutesV6(text).map((route) => `${route.interface} ${formatRange(route.range)}`)).toEqual([
      'eth0 fd00:235::/64',
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
