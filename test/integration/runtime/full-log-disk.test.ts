import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ContainerRuntime, WorkerInfo } from '../../../src/runtime/contract/runtime.ts';
import { run } from '../../support/command.ts';
import { ensureRequest, type Lab, startLab } from '../../support/lab.ts';

/** Milliseconds that a shim gets to copy what was written. */
const copyMs = 500;

describe('workers whose logs were on a full disk', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;
  const workers = new Map<string, WorkerInfo>();

  const worker = (name: string): WorkerInfo => {
    const found = workers.get(name);
    if (found === undefined) {
      throw new Error(`no worker ${name}`);
    }
    return found;
  };
  const call = async (name: string, payload: object): Promise<unknown> => {
    const { address } = worker(name);
    return address === undefined ? undefined : await lab.caller.call(address, payload, 5_000);
  };
  const full = { from: 0, until: 0 };
  const isLost = async (name: string): Promise<boolean> => await runtime.isOutputLost(worker(name).containerId, full);

  beforeAll(async () => {
    lab = await startLab();
    await mkdir(lab.logFolder, { recursive: true });
    // Taken away with the lab, as all mounts below its folder are.
    await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', lab.logFolder]);
    runtime = await lab.runtime({ workersPerShim: 4 });
    for (const name of ['written', 'quiet', 'frozen']) {
      workers.set(name, await runtime.ensure(ensureRequest(lab, name)));
    }
    await call('written', { print: 'before' });
    await call('frozen', { print: 'before' });
    // No word tells when the other side has come so far.
    await delay(copyMs);
    // The kernel's times of files are up to ten milliseconds behind.
    full.from = Date.now() - 100;
    const filler = join(lab.logFolder, 'filler');
    await writeFile(filler, Buffer.alloc(2_000_000)).catch(() => undefined);
    await call('written', { print: 'x'.repeat(6_000) });
    await call('frozen', { print: 'x'.repeat(6_000) });
    await runtime.pause(worker('frozen').containerId);
    // No word tells when the other side has come so far.
    await delay(copyMs);
    await rm(filler);
    full.until = Date.now();
  }, 120_000);
  afterAll(() => lab?.close());

  it('are told apart by the time of their last write, refused writes included', async () => {
    expect(await isLost('quiet')).toBe(false);
    expect(await isLost('written')).toBe(true);
  });

  it('are told apart while they are frozen, too, and stay frozen', async () => {
    expect(await isLost('frozen')).toBe(true);
    expect((await runtime.inspect(worker('frozen').containerId))?.task.kind).toBe('Paused');
  });

  it('are lost for good: with the pipe full, nothing is written and nobody waits', async () => {
    let answered = 0;
    for (; answered < 12; answered += 1) {
      const answer = await call('written', { print: 'y'.repeat(8_000) }).catch(() => undefined);
      if (answer === undefined) {
        break;
      }
    }
    // 64 KiB of a pipe.
    expect(answered).toBeLessThan(9);
    expect(await isLost('written')).toBe(true);
  });

  it('are whole again once they are made anew', async () => {
    const { containerId } = worker('written');
    await runtime.destroy(containerId, { graceSeconds: 0 });
    workers.set('written', await runtime.ensure(ensureRequest(lab, 'written', {}, { containerId })));
    expect(await isLost('written')).toBe(false);
    for (let each = 0; each < 12; each += 1) {
      await call('written', { print: 'z'.repeat(8_000) });
    }
  });

  it('are not lost where they are no more', async () => {
    expect(await runtime.isOutputLost('gone-1', full)).toBe(false);
  });
});
