import { randomBytes } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/common/clock.ts';
import { sleep } from '../../../src/common/deadline.ts';
import { systemCommandRunner } from '../../../src/common/exec/command-runner.ts';
import type { WorkerLogReader } from '../../../src/runtime/contract/logs.ts';
import type { ContainerRuntime, WorkerAddress } from '../../../src/runtime/contract/runtime.ts';
import { LogFolder } from '../../../src/runtime/logs/log-folder.ts';
import { logFolderReader } from '../../../src/runtime/logs/log-reader.ts';
import { WorkerLogs } from '../../../src/runtime/logs/worker-logs.ts';
import { destroyAll, ensureRequest, type Lab, type LabRuntimeOptions, startLab } from '../../support/lab.ts';
import { type OwnedProcess, startOwnedProcess } from '../../support/owned-process.ts';
import { waitFor } from '../../support/wait-for.ts';

const nowhere: WorkerAddress = { ip: '', port: 0 };
const MIB = 1024 * 1024;
const FIRST_LINE = 'listening on 0.0.0.0:8080\n';

/** Reads numbered lines and says what is wrong with them. */
class LineCounter {
  next = 0;
  missed = 0;
  #offset = 0;
  #rest = '';
  #begun = false;
  readonly #perRound: number;

  /** Number of lines after which the numbers begin again. */
  constructor(perRound = Number.MAX_SAFE_INTEGER) {
    this.#perRound = perRound;
  }

  /** Takes in all that there is from where it is. Returns whether there was something. */
  async read(logs: WorkerLogReader, containerId: string): Promise<boolean> {
    const { offset, data } = await logs.readFrom(containerId, this.#offset, 256 * 1024);
    if (data.length === 0) {
      return false;
    }
    this.missed += offset - this.#offset;
    let text = this.#rest + data.toString('latin1');
    if (offset !== this.#offset) {
      expect(this.#rest).toBe('');
      this.#begun = false;
    }
    if (offset === 0) {
      expect(text.slice(0, FIRST_LINE.length)).toBe(FIRST_LINE);
      text = text.slice(FIRST_LINE.length);
      this.#begun = true;
    }
    this.#offset = offset + data.length;
    const lines = text.split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      const number = Number(line.slice(0, 8));
      if (!this.#begun) {
        this.#begun = true;
        this.next = number;
      }
      const expected = this.next % this.#perRound;
      if (line !== `${String(expected).padStart(8, '0')} ${'x'.repeat(expected % 64)}`) {
        throw new Error(`line ${this.next} is ${JSON.stringify(line.slice(0, 100))}`);
      }
      this.next += 1;
    }
    return true;
  }
}

describe('the log of a worker that writes as fast as it can', () => {
  let lab: Lab;
  const running: ContainerRuntime[] = [];

  beforeAll(async () => {
    lab = await startLab();
  });
  afterAll(async () => {
    await lab?.close();
  });
  afterEach(async () => {
    // Of two that look after one log, one would go on with files that the other has removed.
    await stopRuntimes();
    const runtime = await startRuntime();
    await destroyAll(runtime);
    await waitFor('the folder to be empty', async () => (await readdir(lab.logFolder)).length === 0);
    await stopRuntimes();
    expect(await lab.leftovers()).toEqual([]);
  });

  async function startRuntime(options?: LabRuntimeOptions): Promise<ContainerRuntime> {
    const runtime = await lab.runtime(options);
    running.push(runtime);
    return runtime;
  }

  async function stopRuntimes(): Promise<void> {
    await Promise.all(running.splice(0).map((runtime) => runtime.stop()));
  }

  /** Bytes on the disk of all files in the folder of the logs. */
  async function diskUse(): Promise<number> {
    let sum = 0;
    for (const name of await readdir(lab.logFolder)) {
      sum += ((await stat(join(lab.logFolder, name)).catch(() => undefined))?.blocks ?? 0) * 512;
    }
    return sum;
  }

  /** Bytes that the file takes which the shim writes. */
  async function liveUse(containerId: string): Promise<number> {
    return (await stat(join(lab.logFolder, `${containerId}.log`))).blocks * 512;
  }

  /** As somebody sees the logs who does not look after them. */
  function folder(): WorkerLogReader {
    return logFolderReader(new LogFolder(lab.logFolder, systemCommandRunner));
  }

  /** Has a worker write, calls `meanwhile` again and again until it has, and waits until all of it is in the log. */
  async function write(
    runtime: ContainerRuntime,
    containerId: string,
    address: WorkerAddress | undefined,
    lines: number,
    meanwhile: () => Promise<void>,
  ): Promise<void> {
    let isDone = false;
    const call = lab.caller.call(address ?? nowhere, { lines }, 100_000).finally(() => {
      isDone = true;
    });
    while (!isDone) {
      await meanwhile();
    }
    await call;
    const size = FIRST_LINE.length + sizeOf(lines);
    await waitFor('the last line', async () => (await runtime.logOffset(containerId)) === size);
  }

  it('loses no line, doubles none and tears none over rotations, for who follows and for who comes later', async () => {
    const lines = 1_500_000;
    const runtime = await startRuntime({ logLimits: { maxBytes: MIB, maxFiles: 200 } });
    const request = ensureRequest(lab, 'chatty');
    const { containerId } = request;
    const { address } = await runtime.ensure(request);
    const follower = new LineCounter();
    await write(runtime, containerId, address, lines, async () => {
      await follower.read(runtime.workerLogs, containerId);
    });
    while (await follower.read(runtime.workerLogs, containerId)) {
      // Goes on.
    }
    expect(follower.next).toBe(lines);
    expect(follower.missed).toBe(0);
    const late = new LineCounter();
    while (await late.read(folder(), containerId)) {
      // Goes on.
    }
    expect(late.next).toBe(lines);
    expect(late.missed).toBe(0);
    await waitFor('the last rotation', async () => (await liveUse(containerId)) < 1.6 * MIB);
    const parts = (await readdir(lab.logFolder)).filter((name) => /\.log\.\d+$/.test(name));
    expect(parts.length).toBeGreaterThan(30);
    expect(await runtime.logOffset(containerId)).toBe(FIRST_LINE.length + sizeOf(lines));
  });

  it('gives the disk back while it is written to, and takes no more than its limits in the end', async () => {
    const lines = 8_000_000;
    const runtime = await startRuntime({ logLimits: { maxBytes: MIB, maxFiles: 3 } });
    const request = ensureRequest(lab, 'bounded');
    const { containerId } = request;
    const { address } = await runtime.ensure(request);
    const file = join(lab.logFolder, `${containerId}.log`);
    // Before the kernel gives space back it writes what is there to the disk: how much there is at most depends on how
    // fast the disk is, and is no more than a figure here.
    let before = 0;
    let most = 0;
    let timesGivenBack = 0;
    await write(runtime, containerId, address, lines, async () => {
      const use = (await stat(file)).blocks * 512;
      if (use < before - MIB / 2) {
        timesGivenBack += 1;
      }
      before = use;
      most = Math.max(most, use);
    });
    console.info(
      `${(sizeOf(lines) / MIB).toFixed(0)} MiB: at most ${(most / MIB).toFixed(1)} MiB on the disk, given back ${timesGivenBack} times`,
    );
    expect(timesGivenBack).toBeGreaterThan(0);
    await waitFor('the last rotation', async () => (await diskUse()) < 3.3 * MIB);
    const live = await stat(file);
    expect(live.size).toBe(FIRST_LINE.length + sizeOf(lines));
    expect(live.blocks * 512).toBeLessThan(1.3 * MIB);
    const late = new LineCounter();
    while (await late.read(runtime.workerLogs, containerId)) {
      // Goes on.
    }
    expect(late.next).toBe(lines);
    expect(live.size - late.missed).toBeGreaterThan(2 * MIB - 200);
  });

  it('is whole whenever the agent is killed', async () => {
    const rounds = 8;
    const lines = 300_000;
    // The process that makes the worker leaves its log alone. Other processes rotate it, and each is killed in the
    // midst of that.
    const runtime = await startRuntime({ logLimits: { maxBytes: Number.MAX_SAFE_INTEGER, maxFiles: 2 } });
    const request = ensureRequest(lab, 'survivor');
    const { containerId } = request;
    const { address } = await runtime.ensure(request);
    for (let round = 0; round < rounds; round += 1) {
      const rotator = await startRotator();
      await waitFor('the rotator', () => rotator.output().includes('watching'), { everyMs: 5 });
      const written = lab.caller.call(address ?? nowhere, { lines }, 100_000);
      // Faults and calls come at any moment.
      await sleep(systemClock, 100 + ((round * 37) % 150));
      await rotator.kill();
      await written;
    }
    const size = FIRST_LINE.length + sizeOf(lines) * rounds;
    await waitFor('the last line', async () => (await runtime.logOffset(containerId)) === size);
    const rotator = await startRotator();
    await waitFor('the last rotation', async () => (await liveUse(containerId)) < 1.6 * MIB);
    await rotator.kill();
    const late = new LineCounter(lines);
    while (await late.read(folder(), containerId)) {
      // Goes on.
    }
    expect(late.next).toBe(lines * rounds);
    expect(late.missed).toBe(0);
    await new WorkerLogs(lab.logFolder).remove(containerId);
  });

  async function startRotator(): Promise<OwnedProcess> {
    return await startOwnedProcess({
      program: process.execPath,
      args: ['test/support/log-rotator.ts', lab.logFolder, String(MIB), '200'],
      logFile: join(lab.folder, `rotator-${randomBytes(4).toString('hex')}.log`),
    });
  }
});

/** Bytes of so many numbered lines. */
function sizeOf(lines: number): number {
  let size = lines * 10;
  for (let index = 0; index < lines; index += 1) {
    size += index % 64;
  }
  return size;
}
