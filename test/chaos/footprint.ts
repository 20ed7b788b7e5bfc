import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Home } from '../../local/common/home.ts';
import { instanceProcesses } from '../../local/common/process-table.ts';
import { cgroupParent, instanceCgroup } from '../../local/instance/parts.ts';
import { nodeAddress } from '../../local/network/node-address.ts';
import { namespacePrefix } from '../../src/cni/attachments/attachment-store.ts';
import { run } from '../support/command.ts';

/** Everything that workers leave on a node and its machine: kind → what there is of it. */
export type Footprint = Readonly<Record<string, readonly string[]>>;

/** Resources that a process of ours holds. */
export interface Holdings {
  readonly pid: number;
  readonly descriptors: number;
  readonly residentMiB: number;
}

const lines = (text: string): string[] => text.split('\n').filter((line) => line.trim() !== '');

async function entries(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}

/** Takes stock of one node of the instance. */
export async function footprintOf(home: Home, node: string): Promise<Footprint> {
  const place = home.node(node);
  const { namespace } = nodeAddress(node);
  const ctr = async (...args: string[]): Promise<string[]> => {
    const answer = await run(join(home.bin, 'ctr'), [
      '--address',
      place.containerdSocket,
      '--namespace',
      'esb',
      ...args,
    ]);
    return lines(answer.stdout);
  };
  const inside = async (program: string, ...args: string[]): Promise<string[]> => {
    const command = [program, ...args];
    const entered = namespace === undefined ? command : ['nsenter', `--net=/run/netns/${namespace}`, ...command];
    return lines((await run(entered[0] ?? '', entered.slice(1))).stdout);
  };
  const found = async (...args: string[]): Promise<string[]> =>
    lines((await run('find', args, { mayFail: true })).stdout);
  const prefix = namespacePrefix(place.agent);
  const mounts = lines(await readFile('/proc/self/mountinfo', 'utf8'));
  return {
    task: await ctr('tasks', 'ls', '-q'),
    container: await ctr('containers', 'ls', '-q'),
    snapshot: (await ctr('snapshots', 'ls')).slice(1).map((line) => line.replaceAll(/\s+/g, ' ')),
    lease: await ctr('leases', 'ls', '-q'),
    content: await ctr('content', 'ls', '-q'),
    image: await ctr('images', 'ls', '-q'),
    'network namespace': (await entries('/run/netns')).filter((name) => name.startsWith(prefix)),
    veth: (await inside('ip', '-o', 'link', 'show', 'type', 'veth'))
      .map((line) => line.split(':')[1]?.trim() ?? '')
      .filter((name) => !name.startsWith('esb-node-') && !name.startsWith('eth0')),
    reservation: await found(`${place.agent}/`, '-type', 'f', '-regex', '.*/10\\.234\\.[0-9.]*'),
    'line of the nftables rules': await inside('nft', 'list', 'ruleset'),
    mount: mounts
      .map((line) => line.split(' ')[4] ?? '')
      .filter((point) => point.startsWith(`${place.root}/`) || point.startsWith(`/run/netns/${prefix}`)),
    'control group': await found(
      '/sys/fs/cgroup',
      '-mindepth',
      '2',
      '-type',
      'd',
      '-path',
      `*${cgroupParent(home, node)}/*`,
    ),
    log: await found(join(place.agent, 'logs'), '-type', 'f'),
    record: await entries(join(place.agent, 'workers')),
    'mark of a call': (await entries(place.agentRun)).filter((name) => name.endsWith('.mark')),
    'folder of an init': await entries(join(place.agentRun, 'inits')),
    'state of runc': await found(join(place.agentRun, 'runc'), '-mindepth', '2', '-type', 'd'),
    'temporary file': (await found(`${place.agent}/`, '-type', 'f')).filter((name) => /\.(tmp|new|part)/.test(name)),
  };
}

/** Processes of the instance that are neither parts nor their supervisor: shims, plugins, workers. */
export async function looseProcesses(home: Home, parts: ReadonlySet<number>): Promise<string[]> {
  const all = await instanceProcesses(home.root);
  const loose = all.filter(
    ({ pid, argv }) => !parts.has(pid) && !argv.some((word) => word.endsWith('supervisor-process.ts')),
  );
  const children = loose.filter(({ argv }) => !argv.some((word) => word.endsWith('-process.ts')));
  const cgroup = instanceCgroup(home);
  const members = lines(
    (await run('find', ['/sys/fs/cgroup', '-path', `*${cgroup}*`, '-name', 'cgroup.procs'])).stdout,
  );
  const inGroups = new Set<string>();
  for (const file of members) {
    for (const pid of lines(await readFile(file, 'utf8').catch(() => ''))) {
      inGroups.add(pid);
    }
  }
  return [
    ...children.map(({ pid, argv }) => `${pid} ${argv.join(' ').slice(0, 120)}`),
    ...[...inGroups].map((pid) => `${pid} in a control group of workers`),
  ];
}

/** Growth since before, kind by kind. */
export function growth(before: Footprint, after: Footprint): string[] {
  return Object.entries(after).flatMap(([kind, now]) => {
    const then = before[kind] ?? [];
    if (now.length <= then.length) {
      return [];
    }
    const fresh = now.filter((name) => !then.includes(name));
    return [`${now.length - then.length} more of ${kind}: ${fresh.slice(0, 8).join(', ')}`];
  });
}

/** Kinds of things of which every running or paused worker has one at least, for as long as it is. */
const ofEachWorker = [
  'task',
  'container',
  'snapshot',
  'network namespace',
  'veth',
  'reservation',
  'mount',
  'control group',
  'log',
  'record',
  'state of runc',
] as const;

/**
 * Kinds of which stock is taken in the wrong place: less is found than there are workers. Nothing of such a kind would
 * be missed.
 */
export function unseen(node: string, workers: number, now: Footprint): string[] {
  return ofEachWorker
    .filter((kind) => (now[kind] ?? []).length < workers)
    .map((kind) => `${node}: ${(now[kind] ?? []).length} of ${kind} are found, with ${workers} workers`);
}

export async function holdingsOf(pid: number): Promise<Holdings | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => undefined);
  if (status === undefined) {
    return undefined;
  }
  const kilobytes = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0);
  return {
    pid,
    descriptors: (await entries(`/proc/${pid}/fd`)).length,
    residentMiB: Math.round(kilobytes / 1024),
  };
}

/** Descriptors of a process, to find out why there are so many. */
export async function descriptorsOf(pid: number): Promise<string[]> {
  const kinds = new Map<string, number>();
  for (const fd of await entries(`/proc/${pid}/fd`)) {
    const target = (await readlink(`/proc/${pid}/fd/${fd}`).catch(() => 'gone')).replace(/\d+/g, 'N');
    kinds.set(target, (kinds.get(target) ?? 0) + 1);
  }
  return [...kinds].toSorted(([, a], [, b]) => b - a).map(([kind, count]) => `${count} ${kind}`);
}
