import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { homeAt } from '../../../local/common/home.ts';
import { cgroupParent } from '../../../local/instance/parts.ts';
import { namespacePrefix } from '../../../src/cni/attachments/attachment-store.ts';
import { run } from '../../support/command.ts';
import { readySlots } from '../../support/network-footprint.ts';
import { waitFor } from '../../support/wait-for.ts';
import type { Instance } from './instance.ts';

/**
 * How much of each kind of thing a node holds: what has to be the same again once a worker is gone. Prepared slots are
 * left out: some of them may be missing at the moment.
 */
export interface NodeFootprint {
  readonly containers: number;
  readonly tasks: number;
  readonly snapshots: number;
  readonly leases: number;
  readonly shims: number;
  readonly namespaces: number;
  readonly interfaces: number;
  readonly reservations: number;
  readonly mounts: number;
  readonly cgroups: number;
  readonly logs: number;
  readonly records: number;
  readonly inits: number;
}

const lines = (text: string): readonly string[] => text.split('\n').filter((line) => line.trim() !== '');

async function entries(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch {
    return [];
  }
}

/** Counts what node-1 of the instance, which lives in the host's own network namespace, holds. */
export async function nodeFootprint(esb: Instance): Promise<NodeFootprint> {
  const ctr = async (...args: string[]): Promise<number> => lines((await esb.ctr(args)).stdout).length;
  const node = join(esb.home, 'nodes', 'node-1');
  const reserved = await run('find', [join(node, 'agent'), '-type', 'f', '-regex', '.*/10\\.234\\.[0-9.]*'], {});
  const shims = await run('pgrep', ['-fc', `containerd-shim-runc-v2.*${node}/`], { mayFail: true });
  const links = JSON.parse(
    (await run('ip', ['-j', 'link', 'show', 'master', 'esb0'], { mayFail: true })).stdout || '[]',
  ) as unknown[];
  const mounts = await readFile('/proc/self/mountinfo', 'utf8');
  const group = cgroupParent(homeAt(esb.home), 'node-1');
  const cgroups = await run('find', ['/sys/fs/cgroup', '-type', 'd', '-path', `*${group}/*`], {
    mayFail: true,
  });
  const prefix = namespacePrefix(join(node, 'agent'));
  const slots = await readySlots(join(node, 'agent'));
  const isSlot = (name: string): boolean => slots.some((slot) => name.includes(slot));
  return {
    containers: await ctr('containers', 'ls', '-q'),
    tasks: await ctr('tasks', 'ls', '-q'),
    snapshots: lines((await esb.ctr(['snapshots', 'ls'])).stdout).filter((line) => / Active/.test(line)).length,
    leases: await ctr('leases', 'ls', '-q'),
    shims: Number(shims.stdout.trim()),
    namespaces: (await entries('/run/netns')).filter((name) => name.startsWith(prefix) && !isSlot(name)).length,
    interfaces: links.length - slots.length,
    reservations: lines(reserved.stdout).length - slots.length,
    mounts: lines(mounts).filter((line) => (line.includes(node) || line.includes(`/netns/${prefix}`)) && !isSlot(line))
      .length,
    cgroups: lines(cgroups.stdout).length,
    logs: (await entries(join(node, 'agent', 'logs'))).length,
    records: (await entries(join(node, 'agent', 'workers'))).length,
    inits: (await entries(join(homeAt(esb.home).node('node-1').agentRun, 'inits'))).length,
  };
}

/** Resources of node-1 between two tests: slots that an earlier one used up are refilled while the next one begins. */
export function footprintAtRest(esb: Instance): Promise<NodeFootprint> {
  // Two equal looks a second apart are a beginning.
  return waitFor('the node to be at rest', async () => {
    const first = await nodeFootprint(esb);
    await delay(1_000);
    return JSON.stringify(first) === JSON.stringify(await nodeFootprint(esb)) ? first : undefined;
  });
}
