import { describe, expect, it } from 'vitest';
import { parseIpRange } from '../../../../src/common/net/ip-range.ts';
import { clientOf } from '../../../../src/gateway/url/client-address.ts';

const proxies = ['10.0.0.0/8', 'fd00::/8'].map(parseIpRange);

describe('the client of a request', () => {
  it.each([
    ['the peer, whatever its headers say', '192.0.2.7', '203.0.113.9', '192.0.2.7', false],
    ['an IPv4 peer of a socket for both families', '::ffff:192.0.2.7', '', '192.0.2.7', false],
    ['the one that the proxy has added', '10.0.0.1', '198.51.100.1, 203.0.113.9', '203.0.113.9', true],
    ['the one before all proxies', '10.0.0.1', '6.6.6.6, 203.0.113.9, 10.2.3.4', '203.0.113.9', true],
    ['the proxy, where its header names nobody', '::ffff:10.0.0.1', '', '10.0.0.1', true],
    ['the last that is an address', '10.0.0.1', 'unknown, 10.2.3.4', '10.2.3.4', true],
    ['of IPv6', 'fd00::1', '2001:db8::7', '2001:db8::7', true],
    ['a peer of the same link, without its zone', 'fe80::1%br-lan', '', 'fe80::1', false],
    ['the one of a header without its zone', 'fd00::1', '2001:db8::7%a-b', '2001:db8::7', true],
    ['the one of a header without a long zone', '10.0.0.1', `2001:db8::7%${'a'.repeat(9_000)}`, '2001:db8::7', true],
  ])('is %s', (_what, peer, forwarded, address, byProxy) => {
    expect(clientOf(peer, forwarded, proxies)).toEqual({ address, byProxy });
  });
});
