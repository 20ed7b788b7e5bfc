import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bridgeNetwork, parseNetworkConfig } from '../../../src/cni/network-config.ts';

const shipped = resolve(import.meta.dirname, '../../../cni/10-esb.conflist');

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

describe('a network configuration list', () => {
  it('that is shipped is valid, and gets the subnet and folder of the node', async () => {
    const config = parseNetworkConfig(await readFile(shipped, 'utf8'), shipped);
    const network = bridgeNetwork(config, '10.1.0.0/16', '/state/ipam', shipped);
    expect(network.bridge).toBe('esb0');
    expect(network.programs).toEqual(['loopback', 'bridge', 'host-local']);
    expect(network.config.plugins.at(-1)).toMatchObject({
      portIsolation: true,
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/16' }]], dataDir: '/state/ipam' },
    });
  });

  it('loses a subnet of its own, and keeps the rest', () => {
    const network = bridgeNetwork(parseNetworkConfig(list(), 'x'), '10.1.0.0/16', '/ipam', 'x');
    expect(network.config.plugins[1]?.ipam).toEqual({
      type: 'host-local',
      routes: [{ dst: '0.0.0.0/0' }],
      ranges: [[{ subnet: '10.1.0.0/16' }]],
      dataDir: '/ipam',
    });
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
  ])('%s is refused by the node', (text, message) => {
    const config = parseNetworkConfig(text, 'x');
    expect(() => bridgeNetwork(config, '10.1.0.0/16', '/ipam', 'x')).toThrow(message);
  });
});
