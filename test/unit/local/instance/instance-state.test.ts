import { describe, expect, it } from 'vitest';
import { choosePorts, movedPorts, nodeNames, wantedPorts } from '../../../../local/instance/instance-state.ts';

const size = { nodes: 1, gateways: 2, controllers: 1, audit: false };

describe('ports of an instance', () => {
  const nobodyListens = async (): Promise<boolean> => true;
  const neverAsked = (): Promise<number> => Promise.reject(new Error('a free port was asked for'));

  it('are the well-known ones while nobody has them', async () => {
    const ports = await choosePorts(wantedPorts(size), {}, nobodyListens, neverAsked);
    expect(ports).toMatchObject({ registry: 5000, 'gateway-1': 9080, 'gateway-2': 9081, apiserver: 6443 });
  });

  it('are other ones where somebody listens', async () => {
    const free = [40_001, 5000, 40_002];
    const ports = await choosePorts(
      wantedPorts(size),
      {},
      async (port) => port !== 5000 && port !== 40_001,
      async () => free.shift() ?? 0,
    );
    expect(ports.registry).toBe(40_002);
    expect(ports['gateway-1']).toBe(9080);
  });

  it('stay what they were, whoever listens now: it is the instance itself', async () => {
    const known = { registry: 41_000 };
    const ports = await choosePorts([{ name: 'registry', preferred: 5000 }], known, async () => false, neverAsked);
    expect(ports).toEqual(known);
  });

  it('are never given twice', async () => {
    const ports = await choosePorts(
      [
        { name: 'a', preferred: 9080 },
        { name: 'b', preferred: 9080 },
      ],
      {},
      nobodyListens,
      async () => 9085,
    );
    expect(ports).toEqual({ a: 9080, b: 9085 });
  });
});

it('tells which ports are others than wanted, and why', () => {
  const wanted = [
    { name: 'registry', preferred: 5000 },
    { name: 'gateway-1', preferred: 9080 },
  ];
  expect(movedPorts(wanted, { registry: 41_000, 'gateway-1': 9080 })).toEqual([
    '  · registry listens on port 41000: 5000 was taken when the instance was first brought up',
  ]);
});

it('nodes are counted from one', () => {
  expect(nodeNames(3)).toEqual(['node-1', 'node-2', 'node-3']);
});
