import { describe, expect, it } from 'vitest';
import { interfacesIn, portsOf } from '../../../../src/cni/gc/orphan-veths.ts';

describe('interfaces of the node in a result of CNI', () => {
  it('are the bridge and the end of the cable, not what is inside', () => {
    const text = JSON.stringify({
      kind: 'cniCacheV1',
      result: {
        interfaces: [
          { name: 'esb0', mac: '02:00:00:00:00:01' },
          { name: 'vetha1b2c3d4', mac: '02:00:00:00:00:02' },
          { name: 'eth0', sandbox: '/run/netns/esb-slot-1' },
        ],
      },
    });
    expect(interfacesIn(text)).toEqual({ bridges: ['esb0'], ports: ['vetha1b2c3d4'] });
  });

  it.each(['', '{', '[]', '{"result":{}}', '{"result":{"interfaces":[1,{"name":2}]}}'])('of %j are none', (text) => {
    expect(interfacesIn(text)).toEqual({ bridges: [], ports: [] });
  });
});

describe('ports of bridges', () => {
  it('are the links that have one of them as master', () => {
    const text = JSON.stringify([
      { ifname: 'veth1', master: 'esb0' },
      { ifname: 'veth2', master: 'docker0' },
      { ifname: 'veth3' },
      { ifname: 'veth4', master: 'esb1' },
    ]);
    expect(portsOf(text, new Set(['esb0', 'esb1']))).toEqual(['veth1', 'veth4']);
    expect(portsOf('', new Set(['esb0']))).toEqual([]);
  });
});
