import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { errnoOf } from '../../src/common/errors.ts';

/** Variable in the environment of every process of an instance: the path of its home. */
export const INSTANCE_VARIABLE = 'ESB_INSTANCE';

/** One process, named so that another one with its pid is not mistaken for it. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks between boot and its start. */
  readonly startTicks: number;
}

/** A running process that carries an instance's variable. */
export interface InstanceProcess extends ProcessIdentity {
  readonly argv: readonly string[];
}

/** The process with this pid; undefined when there is none, or only one that waits to be reaped. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  const stat = await readProc(pid, 'stat');
  if (stat === undefined) {
    return undefined;
  }
  // The name in parentheses may hold any character, also blanks and parentheses: count from its end.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const state = fields[0];
  return state === 'Z' || state === 'X' ? undefined : { pid, startTicks: Number(fields[19]) };
}

/** Whether that very process still runs. */
export async function isRunning(process: ProcessIdentity): Promise<boolean> {
  const now = await identify(process.pid);
  return now !== undefined && now.startTicks === process.startTicks;
}

/** Every process whose environment names the instance, but for this one: parts, and the processes that they started. */
export async function instanceProcesses(home: string): Promise<InstanceProcess[]> {
  const marker = `\0${INSTANCE_VARIABLE}=${home}\0`;
  const found: InstanceProcess[] = [];
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) {
      continue;
    }
    const environment = await readProc(pid, 'environ');
    if (environment === undefined || !`\0${environment}\0`.includes(marker)) {
      continue;
    }
    const identity = await identify(pid);
    const argv = await readProc(pid, 'cmdline');
    if (identity !== undefined && argv !== undefined) {
      found.push({ ...identity, argv: argv.split('\0').slice(0, -1) });
    }
  }
  return found;
}

/** Sends a signal to that very process; nothing happens when it is gone. */
export async function signalProcess(target: ProcessIdentity, signal: NodeJS.Signals): Promise<void> {
  if (await isRunning(target)) {
    try {
      process.kill(target.pid, signal);
    } catch (error) {
      if (errnoOf(error) !== 'ESRCH') {
        throw error;
      }
    }
  }
}

/** Waits for the end of the process; false when it still runs after `deadlineMs` milliseconds. */
export async function waitForEnd(target: ProcessIdentity, deadlineMs: number): Promise<boolean> {
  const end = performance.now() + deadlineMs;
  while (await isRunning(target)) {
    if (performance.now() >= end) {
      return false;
    }
    await delay(20);
  }
  return true;
}

async function readProc(pid: number, file: string): Promise<string | undefined> {
  try {
    return await readFile(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    // The process has ended, is a kernel thread, or belongs to another user.
    return undefined;
  }
}
