import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { OrphanVeths, portsOf } from '../../../../src/cni/gc/orphan-veths.ts';

/** Ports of a node whose `ip` lists these links, with these files of results. */
async function portsWith(files: Readonly<Record<string, string>>, links: readonly object[]): Promise<OrphanVeths> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-veths-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await mkdir(join(folder, 'results'));
  for (const [name, text] of Object.entries(files)) {
    await writeFile(join(folder, 'results', name), text);
  }
  const result = { code: 0, stdout: JSON.stringify(links), stderr: '' };
  return new OrphanVeths(folder, { run: () => Promise.resolve(result) });
}

const interfaces = [
  { name: 'esb0', mac: '02:00:00:00:00:01' },
  { name: 'vetha1b2c3d4', mac: '02:00:00:00:00:02' },
  { name: 'eth0', sandbox: '/run/netns/esb-slot-1' },
];
const links = [
  { ifname: 'vetha1b2c3d4', master: 'esb0' },
  { ifname: 'vethother', master: 'esb0' },
];

describe('ports of the bridges in the results of CNI', () => {
  it('are claimed by the end of the cable on the node, not by what is inside', async () => {
    const ports = await portsWith({ one: JSON.stringify({ kind: 'cniCacheV1', result: { interfaces } }) }, links);
    expect(await ports.read()).toEqual({ ports: ['vetha1b2c3d4', 'vethother'], claimed: new Set(['vetha1b2c3d4']) });
  });

  it.each(['', '{', '[]', '{"result":{}}', '{"result":{"interfaces":[1,{"name":2}]}}'])(
    'are none in %j, which hides no other result',
    async (text) => {
      const alone = await portsWith({ bad: text }, links);
      expect(await alone.read()).toEqual({ ports: [], claimed: new Set() });
      const beside = await portsWith({ bad: text, good: JSON.stringify({ result: { interfaces } }) }, links);
      expect((await beside.read()).claimed).toEqual(new Set(['vetha1b2c3d4']));
    },
  );
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
