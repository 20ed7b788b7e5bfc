import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import { errnoOf } from '../../common/errors.ts';

/** Limits of all workers of a node together. */
export interface ParentLimits {
  readonly memoryBytes: number;
  /** Processes and threads. */
  readonly processes: number;
  /** Weight in units of version 1, where 1,024 is the default. */
  readonly cpuShares: number;
}

export interface MachineSize {
  readonly memoryBytes: number;
  readonly processors: number;
  /** The kernel's limit of processes and threads. */
  readonly processes: number;
}

export type LimitOutcome =
  | { readonly kind: 'Limited' }
  /** The parent does not exist yet: systemd makes a slice with its first scope. */
  | { readonly kind: 'Missing' }
  /** The workers hold more than the limit: the kernel would end some at once. */
  | { readonly kind: 'InUse' };

const MEBIBYTE = 2 ** 20;
/** Largest share of the machine for workers; the rest stays for the node. */
const MAX_SHARE = 0.9;
/** Processes on the smallest share: enough for 256 small workers. */
const MIN_PROCESSES = 4_096;
const SHARES_PER_PROCESSOR = 1_024;
/** The part of the processors that workers weigh at least: calls come at once, and what is reserved follows. */
const LEAST_SHARE = 0.1;
/** Bounds of `cpu.shares`; `cpu.weight` goes from 1 to 10,000. */
const SHARES = { least: 2, most: 262_144 } as const;
const MAX_WEIGHT = 10_000;

/**
 * The limits for a promise of memory: the memory itself, and the same share of the machine's processes. The weight for
 * processors counts only while others want them too. All Pods together have 1,024 for each processor, by the kubelet,
 * the reservation of ours included, which uses none: workers get what is reserved, and Pods all else, where workers
 * weigh as much beside the Pods as what is reserved beside what is not. Without a word of what is reserved, the share of
 * the memory counts.
 *
 * @param reservedMilliCPU thousandths of a core
 */
export function parentLimits(promisedMiB: number, machine: MachineSize, reservedMilliCPU?: number): ParentLimits {
  const memoryBytes = promisedMiB * MEBIBYTE;
  const share = Math.min(memoryBytes / machine.memoryBytes, MAX_SHARE);
  const most = Math.floor(machine.processes * MAX_SHARE);
  const all = machine.processors * SHARES_PER_PROCESSOR;
  const told = (reservedMilliCPU ?? 0) / 1_000 / machine.processors;
  const reserved = Math.min(Math.max(told, LEAST_SHARE), MAX_SHARE);
  const shares = Math.round(all * (reservedMilliCPU === undefined ? share : reserved / (1 - reserved)));
  return {
    memoryBytes,
    processes: Math.min(most, Math.max(MIN_PROCESSES, Math.floor(machine.processes * share))),
    cpuShares: Math.min(SHARES.most, Math.max(SHARES.least, shares)),
  };
}

/** Weight of version 2 for shares of version 1, as runc and the kubelet convert them. */
export function cpuWeightOf(shares: number): number {
  return 1 + Math.floor(((shares - SHARES.least) * (MAX_WEIGHT - 1)) / (SHARES.most - SHARES.least));
}

export async function machineSize(): Promise<MachineSize> {
  const [pids, threads] = await Promise.all(
    ['pid_max', 'threads-max'].map(async (name) => Number(await readFile(join('/proc/sys/kernel', name), 'utf8'))),
  );
  return {
    memoryBytes: totalmem(),
    processors: availableParallelism(),
    processes: Math.min(pids ?? 0, threads ?? 0),
  };
}

/**
 * Writes the limits of the parent. Has to be repeated: systemd resets them when it reloads its units.
 *
 * @param place mount folder of the hierarchies (`root`), and the parent's `folder` below the root of each
 */
export async function limitParent(
  limits: ParentLimits,
  place: { readonly root: string; readonly folder: string; readonly isVersion2: boolean },
): Promise<LimitOutcome> {
  try {
    return await (place.isVersion2 ? limitVersion2 : limitVersion1)(limits, place);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      return { kind: 'Missing' };
    }
    throw error;
  }
}

type Place = Parameters<typeof limitParent>[1];

async function limitVersion2(limits: ParentLimits, place: Place): Promise<LimitOutcome> {
  const at = (file: string): string => join(place.root, place.folder, file);
  await write(at('cpu.weight'), cpuWeightOf(limits.cpuShares));
  await write(at('pids.max'), limits.processes);
  const stat = await readFile(at('memory.stat'), 'utf8');
  const held = (name: string): number => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(stat)?.[1] ?? 0);
  // Unlike in version 1 the kernel takes a limit below the present use, and ends processes until the use fits.
  if (held('anon') + held('shmem') >= limits.memoryBytes) {
    return { kind: 'InUse' };
  }
  await write(at('memory.max'), limits.memoryBytes);
  return { kind: 'Limited' };
}

async function limitVersion1(limits: ParentLimits, place: Place): Promise<LimitOutcome> {
  const at = (hierarchy: string, file: string): string => join(place.root, hierarchy, place.folder, file);
  await write(at('cpu', 'cpu.shares'), limits.cpuShares);
  await write(at('pids', 'pids.max'), limits.processes);
  const swap = at('memory', 'memory.memsw.limit_in_bytes');
  const countsSwap = existsSync(swap);
  try {
    // The limit of memory and swap together may never be below that of memory.
    if (countsSwap) {
      await write(swap, -1);
    }
    await write(at('memory', 'memory.limit_in_bytes'), limits.memoryBytes);
    if (countsSwap) {
      await write(swap, limits.memoryBytes);
    }
  } catch (error) {
    if (errnoOf(error) === 'EBUSY') {
      return { kind: 'InUse' };
    }
    throw error;
  }
  return { kind: 'Limited' };
}

/** Writes a file that exists; a missing one belongs to a missing cgroup. */
async function write(path: string, value: number): Promise<void> {
  await writeFile(path, String(value), { flag: 'r+' });
}
