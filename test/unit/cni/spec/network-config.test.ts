import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { segmentAt } from '../../../../src/cni/host/network-plan.ts';
import {
  bridgeNetwork,
  type NetworkConfig,
  parseNetworkConfig,
  segmentConfig,
} from '../../../../src/cni/spec/network-config.ts';
import { parseIpRange } from '../../../../src/common/net/ip-range.ts';

const shipped = resolve(import.meta.dirname, '../../../../cni/10-esb.conflist');

function list(overrides: object = {}, bridge: object = {}): string {
  return JSON.stringify({
    cniVersion: '1.1.0',
    name: 'esb',
    plugins: [
      { type: 'loopback' },
      {
        type: 'bridge',
        bridge: 'esb0',
        isDefaultGateway: true,
        portIsolation: true,
        ipam: { type: 'host-local', subnet: '192.0.2.0/24', routes: [{ dst: '0.0.0.0/0' }] },
        ...bridge,
      },
    ],
    ...overrides,
  });
}

/** The configuration of the bridge with a number, on a node with these subnets. */
function configOf(text: string, index = 0, subnets = ['10.1.0.0/16']): NetworkConfig {
  const network = bridgeNetwork(parseNetworkConfig(text, 'x'), 'x');
  const plan = { bridge: network.bridge, network: 'esb', subnets: subnets.map(parseIpRange) };
  return segmentConfig(network, segmentAt(plan, index), '/state/ipam');
}

describe('a network configuration list', () => {
  it('that is shipped is valid, and gets the addresses and the folder of the node', async () => {
    const text = await readFile(shipped, 'utf8');
    const network = bridgeNetwork(parseNetworkConfig(text, shipped), shipped);
    expect(network).toMatchObject({ bridge: 'esb0', ipv4: true, ipv6: undefined });
    expect(network.programs).toEqual(['bridge', 'host-local']);
    expect(configOf(text).plugins.at(-1)).toMatchObject({
      bridge: 'esb0',
      portIsolation: true,
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/21' }]], dataDir: '/state/ipam' },
    });
  });

  it('loses a subnet of its own, and keeps the rest', () => {
    expect(configOf(list()).plugins[1]?.ipam).toEqual({
      type: 'host-local',
      routes: [{ dst: '0.0.0.0/0' }],
      ranges: [[{ subnet: '10.1.0.0/21' }]],
      dataDir: '/state/ipam',
    });
  });

  it('gives each further bridge a name, a network and addresses of its own', () => {
    const config = configOf(list(), 2, ['10.1.0.0/16', 'fd00:1::/64']);
    expect(config.name).toBe('esb.2');
    expect(config.plugins[1]).toMatchObject({
      bridge: 'esb2',
      ipam: { ranges: [[{ subnet: '10.1.16.0/21' }], [{ subnet: 'fd00:1::2:0/112' }]] },
    });
  });

  it.each([
    [[[{ subnet: '10.0.0.0/8' }], [{ subnet: 'fd00:1::/64' }]], true, 'fd00:1::'],
    [[[{ subnet: 'fd00:1::/64' }]], false, 'fd00:1::'],
    [[], true, undefined],
  ])('with the ranges %j asks for IPv4: %s, and for IPv6: %s', (ranges, ipv4, ipv6) => {
    const text = list({}, { ipam: { type: 'host-local', ranges } });
    const network = bridgeNetwork(parseNetworkConfig(text, 'x'), 'x');
    expect(network.ipv4).toBe(ipv4);
    expect(network.ipv6).toEqual(ipv6 === undefined ? undefined : parseIpRange(`${ipv6}/64`));
  });

  it('is read at the newest version that both sides know', () => {
    const version = (overrides: object): string => parseNetworkConfig(list(overrides), 'x').cniVersion;
    expect(version({ cniVersion: '1.0.0' })).toBe('1.0.0');
    expect(version({ cniVersion: '0.4.0', cniVersions: ['1.0.0', '9.0.0'] })).toBe('1.0.0');
  });

  it.each([
    ['{', /x is not valid: it is not JSON/],
    ['[]', /not an object/],
    [list({ name: '../up' }), /'name' must start/],
    [list({ plugins: [] }), /at least one plugin/],
    [list({ plugins: [{}] }), /plugin 1 must have a 'type'/],
    [list({ plugins: [{ type: '../sh' }] }), /plugin 1 must have a 'type'/],
    [list({ cniVersion: '2.0.0' }), /'cniVersion' must be one of 1\.1\.0.*2\.0\.0/],
  ])('%s is refused with what is wrong', (text, message) => {
    expect(() => parseNetworkConfig(text, 'x')).toThrow(message);
  });

  it.each([
    [list({ plugins: [{ type: 'loopback' }] }), /exactly one plugin of type 'bridge', not 0/],
    [list({}, { bridge: 'a-name-too-long-for-linux' }), /1 to 15 characters/],
    [list({}, { isDefaultGateway: false }), /isDefaultGateway/],
    [list({}, { portIsolation: false }), /portIsolation/],
    [list({}, { ipMasq: true }), /ipMasq/],
    [list({}, { ipam: { type: 'dhcp' } }), /host-local/],
    [list({}, { ipam: { type: 'host-local', ranges: [[{}]] } }), /must have a 'subnet'/],
    [list({}, { ipam: { type: 'host-local', subnet: 'here' } }), /is not a range of addresses/],
    [
      list({}, { ipam: { type: 'host-local', ranges: [[{ subnet: 'fd00:1::/64' }, { subnet: 'fd00:2::/64' }]] } }),
      /one IPv6 range at most/,
    ],
  ])('%s is refused by the node', (text, message) => {
    const config = parseNetworkConfig(text, 'x');
    expect(() => bridgeNetwork(config, 'x')).toThrow(message);
  });
});
