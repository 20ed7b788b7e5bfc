import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { BenchInstance } from './bench-instance.ts';

/** A process as /proc has it. */
export interface Process {
  readonly pid: number;
  readonly commandLine: string;
}

/** All processes that run, but those of the kernel. */
export async function processes(): Promise<Process[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => ({
      pid,
      commandLine: (await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')).replaceAll('\0', ' ').trim(),
    })),
  );
  return found.filter(({ commandLine }) => commandLine !== '');
}

/** The process of the gateway of an instance. */
export function gatewayProcess(instance: BenchInstance): Promise<Process> {
  return roleProcess(instance, / gateway --kubeconfig /);
}

/** The process of the agent of an instance. */
export function agentProcess(instance: BenchInstance): Promise<Process> {
  return roleProcess(instance, / agent --node-name /);
}

async function roleProcess(instance: BenchInstance, role: RegExp): Promise<Process> {
  const found = (await processes()).find(
    ({ commandLine }) => commandLine.includes(instance.home) && role.test(commandLine),
  );
  if (found === undefined) {
    throw new Error(`no process of the instance is like ${role.source}`);
  }
  return found;
}

/** Processes of a container. */
export async function containerProcesses(containerId: string): Promise<Process[]> {
  const all = await processes();
  const groups = await Promise.all(all.map(({ pid }) => readFile(`/proc/${pid}/cgroup`, 'latin1').catch(() => '')));
  return all.filter((_, index) => groups[index]?.includes(containerId));
}

/** Processes whose parent is one of the others. */
export async function childrenOf(those: readonly Process[], parents: readonly Process[]): Promise<Process[]> {
  const pids = new Set(parents.map(({ pid }) => pid));
  const stats = await Promise.all(those.map(({ pid }) => readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '')));
  return those.filter((_, index) => pids.has(Number(stats[index]?.split(') ')[1]?.split(' ')[1])));
}

/** Proportional set size in MiB; 0 for a process that has ended. */
export async function proportionalMiB(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'latin1').catch(() => '');
  return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) / 1024;
}

/** Resident set size in MiB. Rejects for a process that has ended. */
export async function residentMiB(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, 'latin1');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(text)?.[1]) / 1024;
}

/** The most that the resident set of a process has been, in MiB. Rejects for a process that has ended. */
export async function peakResidentMiB(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, 'latin1');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(text)?.[1]) / 1024;
}

/** Reads the resident set of a process twice a second, in MiB, until it is stopped or the process ends. */
export function sampleMemory({ pid }: { readonly pid: number }): {
  readonly samples: readonly number[];
  stop(): Promise<void>;
} {
  const samples: number[] = [];
  const ending = new AbortController();
  const running = (async () => {
    while (!ending.signal.aborted) {
      const now = await residentMiB(pid).catch(() => undefined);
      if (now === undefined) {
        return;
      }
      samples.push(now);
      await delay(500, undefined, { signal: ending.signal }).catch(() => undefined);
    }
  })();
  return {
    samples,
    async stop() {
      ending.abort();
      await running;
    },
  };
}

/** Clock ticks of the kernel in a second, in which it tells processor time (USER_HZ). */
const TICKS = 100;

/** Seconds of processor that processes have taken, user and system. Rejects for one that has ended. */
export async function processorSeconds(pids: readonly number[]): Promise<number> {
  const stats = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/stat`, 'latin1')));
  const ticks = stats.map((stat) => {
    const fields = stat.slice(stat.lastIndexOf(') ') + 2).split(' ');
    return Number(fields[11]) + Number(fields[12]);
  });
  return ticks.reduce((sum, each) => sum + each, 0) / TICKS;
}

/** Resident set of a Node.js process that does nothing, in MiB. */
export async function bareNodeMiB(): Promise<number> {
  const child = execFile(process.execPath, ['--eval', 'setInterval(() => undefined, 1000); console.log()']);
  try {
    await once(child.stdout ?? child, 'data');
    return await residentMiB(child.pid ?? 0);
  } finally {
    child.kill('SIGKILL');
  }
}
