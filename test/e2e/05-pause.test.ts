import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { run } from '../support/command.ts';
import { waitFor } from '../support/wait-for.ts';
import { instance } from './support/instance.ts';

const program = resolve(import.meta.dirname, '../../local/main.ts');

/** An entry of `esb top --json`. */
interface Top {
  readonly name: string;
  readonly nodeName: string;
  readonly cpuMilli?: number;
  readonly memoryBytes?: number;
}

/** Processor time of a process so far, in clock ticks. */
async function cpuTicks(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

describe('a paused worker', () => {
  const esb = instance();

  it('uses no processor, wakes for a call with its memory kept, and is paused again when idle', async () => {
    await esb.apply('frozen', { nodeName: 'node-1', idlePolicy: { pauseAfterSeconds: 2 } });
    await esb.ready('frozen');
    const before = await esb.invoke('frozen');
    await esb.patch('frozen', { desiredState: 'Paused' });
    const paused = await esb.waitUntilPaused('frozen');
    const containerId = paused.status?.containerID ?? '';
    expect(await esb.taskState(containerId)).toBe('PAUSED');
    expect(paused.status?.conditions?.find((condition) => condition.type === 'Ready')?.status).toBe('True');

    const pid = await esb.taskPid(containerId);
    const used = await cpuTicks(pid);
    // Nothing may happen meanwhile.
    await delay(1_500);
    expect(await cpuTicks(pid)).toBe(used);

    const told = JSON.parse(
      (await run(process.execPath, [program, 'top', '--json'], { env: { ESB_HOME: esb.home } })).stdout,
    ) as readonly Top[];
    expect(told.find(({ name }) => name === 'frozen')).toMatchObject({ nodeName: 'node-1', cpuMilli: 0 });
    expect(told.find(({ name }) => name === 'frozen')?.memoryBytes).toBeGreaterThan(2 ** 20);
    expect(await cpuTicks(pid)).toBe(used);

    const woken = await esb.invoke('frozen');
    expect(woken.payload).toMatchObject({
      counter: before.payload.counter + 1,
      bootId: before.payload.bootId,
    });
    await waitFor('the worker to be PAUSED again', async () => (await esb.taskState(containerId)) === 'PAUSED');
    expect(await esb.taskPid(containerId)).toBe(pid);
    expect((await esb.waitUntilPaused('frozen')).status?.containerID).toBe(containerId);
  });

  it('can be made paused from the start, ready and warmed up', { tags: ['P12', 'P15'] }, async () => {
    await esb.apply('born-frozen', {
      nodeName: 'node-1',
      desiredState: 'Paused',
      warmUp: { payload: { echo: 'warm' } },
    });
    const worker = await esb.waitUntilPaused('born-frozen');
    expect(await esb.taskState(worker.status?.containerID ?? '')).toBe('PAUSED');
    // The warm-up was the first call.
    expect((await esb.invoke('born-frozen')).payload.counter).toBe(2);
  });
});
