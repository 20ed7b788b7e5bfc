import { readdir, readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { basename, join } from 'node:path';
import { namespacePrefix } from '../../src/cni/attachments/attachment-store.ts';
import type { NetworkLab } from './network-lab.ts';

/** Names in a folder; none where there is no folder. */
export async function entries(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch {
    return [];
  }
}

/** Addresses that host-local has given out, on one bridge. */
export async function reservations(lab: NetworkLab, network = 'esb'): Promise<string[]> {
  return (await entries(join(lab.stateDir, 'cni/ipam', network))).filter((name) => isIP(name) !== 0);
}

/** Network namespaces of the lab's agent. */
export async function namespaces(lab: NetworkLab): Promise<string[]> {
  return (await entries('/run/netns')).filter((name) => name.startsWith(namespacePrefix(lab.stateDir)));
}

/** Interfaces on a bridge. */
export async function ports(lab: NetworkLab, bridge = 'esb0'): Promise<string[]> {
  const { stdout } = await lab.onNode('ip', ['-j', 'link', 'show', 'master', bridge], true);
  return (JSON.parse(stdout || '[]') as { ifname?: string }[]).flatMap(({ ifname }) =>
    ifname === undefined ? [] : [ifname],
  );
}

/** Names of the bridges on the node. */
export async function bridges(lab: NetworkLab): Promise<string[]> {
  const { stdout } = await lab.onNode('ip', ['-j', 'link', 'show', 'type', 'bridge'], true);
  return (JSON.parse(stdout || '[]') as { ifname?: string }[])
    .flatMap(({ ifname }) => (ifname === undefined ? [] : [ifname]))
    .toSorted();
}

/** Namespaces of every slot that is ready, as the records on disk below the state folder of an agent tell. */
export async function readySlots(stateDir: string): Promise<string[]> {
  const folder = join(stateDir, 'cni/attachments');
  const ready: string[] = [];
  for (const name of await entries(folder)) {
    const text = await readFile(join(folder, name), 'utf8').catch(() => '');
    if (text.includes('"Ready"')) {
      ready.push(basename(name, '.json'));
    }
  }
  return ready;
}
