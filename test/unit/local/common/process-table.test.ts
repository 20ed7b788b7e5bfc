import { spawn } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import {
  INSTANCE_VARIABLE,
  identify,
  instanceProcesses,
  isRunning,
  signalProcess,
  waitForEnd,
} from '../../../../local/common/process-table.ts';

describe('the process table', () => {
  it('tells a process from another one with the same pid', async () => {
    const self = await identify(process.pid);
    expect(self?.pid).toBe(process.pid);
    expect(await isRunning({ pid: process.pid, startTicks: self?.startTicks ?? 0 })).toBe(true);
    expect(await isRunning({ pid: process.pid, startTicks: 1 })).toBe(false);
    await expect(signalProcess({ pid: process.pid, startTicks: 1 }, 'SIGKILL')).resolves.toBeUndefined();
  });

  it('finds the processes of an instance by their environment, and no others', async () => {
    const home = `/nowhere/${process.pid}`;
    const child = spawn('sleep', ['60'], { env: { ...process.env, [INSTANCE_VARIABLE]: home } });
    try {
      const found = await instanceProcesses(home);
      expect(found).toMatchObject([{ pid: child.pid, argv: ['sleep', '60'] }]);
      expect(await instanceProcesses(`${home}0`)).toEqual([]);
      const [one] = found;
      if (one !== undefined) {
        await signalProcess(one, 'SIGKILL');
        expect(await waitForEnd(one, 5_000)).toBe(true);
      }
    } finally {
      child.kill('SIGKILL');
    }
  });
});
