import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './command.ts';

/**
 * Things on this machine of the kinds that ESB makes: kind → names. Things that come and go by themselves (connections,
 * other people's processes) are left out.
 */
export interface HostInventory {
  readonly [kind: string]: readonly string[];
}

export interface InventoryOptions {
  /**
   * The control group of one instance, where others come and go on the same machine. Default: those of all.
   */
  readonly cgroup?: string;
}

/** Takes stock of the machine. Needs root to see everything. */
export async function takeHostInventory({ cgroup = '/esb' }: InventoryOptions = {}): Promise<HostInventory> {
  return {
    'network interface': await interfaces(),
    'network namespace': (await entries('/run/netns')).filter((name) => name.startsWith('esb-')),
    'nftables table': await tables(),
    mount: await mounts(),
    'control group': await cgroups(cgroup),
    process: await processes(),
    setting: [`net.ipv4.ip_forward = ${(await read('/proc/sys/net/ipv4/ip_forward')).trim()}`],
    'volatile folder': (await entries('/run')).filter((name) => name.startsWith('esb-')),
    'shim socket': await entries('/run/containerd/s'),
    'state of runc': await entries('/run/containerd/runc/esb'),
  };
}

/**
 * Kinds of which a loss counts too: what the system and other programs rely on. Things of our name may go with the
 * next run: one that was killed may have left it.
 */
const belongingToOthers: ReadonlySet<string> = new Set(['network interface', 'nftables table', 'setting']);
const ourName = /\besb/;

/** Things that came or went since: one readable line each. */
export function compareHostInventory(before: HostInventory, after: HostInventory): string[] {
  const differences: string[] = [];
  for (const kind of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const earlier = new Set(before[kind]);
    const later = new Set(after[kind]);
    for (const name of [...later].filter((one) => !earlier.has(one))) {
      differences.push(`left behind: ${kind} ${name}`);
    }
    if (belongingToOthers.has(kind)) {
      for (const name of [...earlier].filter((one) => !later.has(one) && !ourName.test(one))) {
        differences.push(`gone: ${kind} ${name}`);
      }
    }
  }
  return differences;
}

async function interfaces(): Promise<string[]> {
  const { stdout } = await run('ip', ['-j', 'link', 'show']);
  return (JSON.parse(stdout) as readonly { readonly ifname: string }[]).map(({ ifname }) => ifname).sort();
}

async function tables(): Promise<string[]> {
  try {
    const { stdout } = await run('nft', ['-j', 'list', 'tables']);
    const { nftables } = JSON.parse(stdout) as {
      readonly nftables: readonly { readonly table?: { readonly family: string; readonly name: string } }[];
    };
    return nftables.flatMap(({ table }) => (table === undefined ? [] : [`${table.family} ${table.name}`])).sort();
  } catch {
    // Not installed yet: then there are none.
    return [];
  }
}

/** Mount points that bear our name; iproute2's own, of its folder for everybody, is none of them. */
async function mounts(): Promise<string[]> {
  const text = await read('/proc/self/mountinfo');
  return [...new Set(text.split('\n').map((line) => line.split(' ')[4] ?? ''))]
    .filter((point) => point.includes('esb'))
    .sort();
}

/** Groups of workers; everything else in the hierarchy belongs to the system. */
async function cgroups(group: string): Promise<string[]> {
  const root = '/sys/fs/cgroup';
  const found: string[] = [];
  const hierarchies = ['', ...(await entries(root))];
  for (const hierarchy of hierarchies) {
    await collect(join(root, hierarchy, group), found);
  }
  return [...new Set(found)].sort();
}

async function collect(folder: string, found: string[]): Promise<void> {
  let children: readonly { readonly name: string; isDirectory(): boolean }[];
  try {
    children = await readdir(folder, { withFileTypes: true });
  } catch {
    return;
  }
  found.push(folder);
  for (const child of children.filter((one) => one.isDirectory())) {
    await collect(join(folder, child.name), found);
  }
}

/** Programs that a local instance runs, by pid and first words; tests apart from the machine (`apart.sh`) run theirs. */
async function processes(): Promise<string[]> {
  const ours =
    /(^|\/)(containerd|containerd-shim-runc-v2|kube-apiserver|etcd|crane registry|aws-lambda-rie|runc)( |$)|\/(src\/main\.ts (agent|controller|gateway)|local\/.*-process\.ts)/;
  const found: string[] = [];
  const table = await readlink('/proc/self/ns/pid');
  for (const pid of (await entries('/proc')).filter((name) => /^\d+$/.test(name))) {
    if ((await readlink(`/proc/${pid}/ns/pid`).catch(() => '')) !== table) {
      continue;
    }
    const command = (await read(`/proc/${pid}/cmdline`)).replaceAll('\0', ' ').trim();
    if (ours.test(command)) {
      found.push(`${pid} ${command.slice(0, 120)}`);
    }
  }
  return found.sort();
}

async function entries(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch {
    return [];
  }
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch {
    return '';
  }
}
