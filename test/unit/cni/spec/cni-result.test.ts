import { describe, expect, it } from 'vitest';
import { addressesOf, hostInterfaceOf, readFailure, readResult } from '../../../../src/cni/spec/cni-result.ts';

const result = {
  cniVersion: '1.1.0',
  interfaces: [
    { name: 'esb0', mac: '0a:58:0a:ea:00:01' },
    { name: 'veth1', mac: '02:00:00:00:00:01' },
    { name: 'eth0', mac: '02:00:00:00:00:02', sandbox: '/run/netns/x' },
  ],
  ips: [{ address: 'fd00::2/64' }, { address: '10.234.0.2/16', gateway: '10.234.0.1', interface: 2 }],
};

describe('the answer of a plugin', () => {
  it('gives the addresses, IPv4 first, and the interface on the node', () => {
    expect(addressesOf(result)).toEqual(['10.234.0.2', 'fd00::2']);
    expect(hostInterfaceOf(result, 'esb0')).toBe('veth1');
  });

  it('may give neither', () => {
    expect(addressesOf({})).toEqual([]);
    expect(addressesOf({ ips: [{ address: 'nonsense' }, 5] })).toEqual([]);
    expect(hostInterfaceOf({ interfaces: [{ name: 'lo' }] }, 'esb0')).toBeUndefined();
  });

  it('is a result or an error, never both', () => {
    const failure = '{"code":7,"msg":"bad","details":"because"}';
    expect(readResult(failure)).toBeUndefined();
    expect(readFailure(failure)).toEqual({ code: 7, message: 'bad; because' });
    expect(readResult(JSON.stringify(result))).toEqual(result);
    expect(readFailure(JSON.stringify(result))).toBeUndefined();
    expect([readResult('x'), readFailure('x'), readResult('[]')]).toEqual([undefined, undefined, undefined]);
  });
});
