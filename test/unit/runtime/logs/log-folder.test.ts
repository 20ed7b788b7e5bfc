import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { type CommandRunner, systemCommandRunner } from '../../../../src/common/exec/command-runner.ts';
import { LogFolder } from '../../../../src/runtime/logs/log-folder.ts';
import { formatLogFileName, parseLogFileName } from '../../../../src/runtime/logs/log-layout.ts';
import { logFolderReader } from '../../../../src/runtime/logs/log-reader.ts';
import { WorkerLogs } from '../../../../src/runtime/logs/worker-logs.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait-for.ts';

const MIB = 1024 * 1024;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'esb-logs-'));
  onTestFinished(() => rm(folder, { recursive: true }));
});

const noHoles: CommandRunner = {
  run: () => Promise.resolve({ code: 1, stdout: '', stderr: 'fallocate: Operation not supported\n' }),
};

describe('a folder of logs', () => {
  it('gives back what is in front of a file, while others append to it', async () => {
    const files = new LogFolder(folder, systemCommandRunner);
    expect(await files.probe()).toEqual({ mode: 'PunchHole' });
    expect(await readdir(folder)).toEqual([]);
    await writeFile(join(folder, 'w.log'), Buffer.alloc(4 * MIB, 'x'));
    const before = await files.state('w.log');
    await files.free('w.log', 3 * MIB + 5);
    await files.append('w.log', 'end');
    const after = await files.state('w.log');
    expect(after?.size).toBe(4 * MIB + 3);
    expect(after?.id).toBe(before?.id);
    expect(after?.allocated).toBeLessThan(1.1 * MIB);
    expect((await files.read('w.log', 3 * MIB, 8))?.toString()).toBe('\0\0\0\0\0xxx');
    expect((await files.read('w.log', 4 * MIB, 8))?.toString()).toBe('end');
  });

  it('cuts the file off and writes its end anew where holes cannot be punched, and says so', async () => {
    const files = new LogFolder(folder, noHoles);
    expect(await files.probe()).toEqual({
      mode: 'Truncate',
      why: 'fallocate: fallocate: Operation not supported',
    });
    await writeFile(join(folder, 'w.log'), `${'x'.repeat(2 * MIB)}kept`);
    await files.free('w.log', 2 * MIB);
    await files.append('w.log', ' and more');
    const after = await files.state('w.log');
    expect(after?.size).toBe(2 * MIB + 13);
    expect(after?.allocated).toBeLessThan(0.1 * MIB);
    expect((await files.read('w.log', 2 * MIB, 20))?.toString()).toBe('kept and more');
  });

  it('does the same where there is no such program', async () => {
    const files = new LogFolder(folder, { run: () => Promise.reject(new Error('spawn fallocate ENOENT')) });
    expect(await files.probe()).toMatchObject({ mode: 'Truncate', why: expect.stringContaining('ENOENT') });
  });

  it('says of what is missing that it is missing', async () => {
    const files = new LogFolder(join(folder, 'none'), systemCommandRunner);
    expect(await files.list()).toEqual([]);
    expect(await files.state('w.log')).toBeUndefined();
    expect(await files.read('w.log', 0, 1)).toBeUndefined();
    await files.remove('w.log');
  });

  it('knows its files by their names', () => {
    for (const name of [
      { kind: 'Live', containerId: 'a.log.b-12345678' },
      { kind: 'Part', containerId: 'w', start: 10_485_760 },
      { kind: 'Times', containerId: 'w' },
      { kind: 'Unfinished', containerId: 'w' },
    ] as const) {
      expect(parseLogFileName(formatLogFileName(name))).toEqual(name);
    }
    expect(parseLogFileName('other')).toBeUndefined();
    expect(parseLogFileName('.probe')).toBeUndefined();
    expect(parseLogFileName('w.log.123')?.kind).toBe('Unfinished');
  });
});

describe('the logs of workers', () => {
  const limits = { maxBytes: 64 * 1024, maxFiles: 3 };

  async function started(): Promise<WorkerLogs> {
    const logs = new WorkerLogs(folder, { limits });
    await logs.prepare();
    logs.watch();
    onTestFinished(() => logs.stop());
    return logs;
  }

  async function write(containerId: string, bytes: number): Promise<void> {
    await writeFile(join(folder, `${containerId}.log`), `${'x'.repeat(99)}\n`.repeat(bytes / 100), {
      flag: 'a',
    });
  }

  it('of removed containers are kept, and tell what was written before', async () => {
    const logs = await started();
    await logs.begin('old', 'uid');
    await write('old', 1_000);
    await logs.keep('old');
    // Files of one millisecond have no order.
    await delay(2);
    await logs.begin('new', 'uid');
    await logs.begin('stranger', 'other');
    expect(await logs.reader.newest('uid')).toBe('new');
    expect(await logs.reader.before('new')).toBe('old');
    expect(await logs.reader.before('old')).toBeUndefined();
    expect(await logs.reader.after('old')).toBe('new');
    expect(await logs.reader.after('new')).toBeUndefined();
    const reader = logFolderReader(new LogFolder(folder, systemCommandRunner));
    expect(await reader.before('new')).toBe('old');
    expect((await logs.read('old', 0, 2_000)).length).toBe(1_000);
    await logs.stop();
    const next = await started();
    await next.removeOf('uid');
    expect((await readdir(folder)).toSorted()).toEqual(['stranger.log', 'stranger.log.times']);
  });

  it('tell which workers they are of, also to a later run', async () => {
    const logs = await started();
    await logs.begin('a', 'one');
    await logs.begin('b', 'two');
    // The owner of the file is unknown.
    await writeFile(join(folder, 'c.log'), 'x');
    await logs.stop();
    const next = await started();
    expect((await next.writers()).toSorted()).toEqual(['one', 'two']);
    await next.removeOf('one');
    expect(await next.writers()).toEqual(['two']);
    await next.stop();
  });

  it('of a worker that is gone are removed whatever the wall clock does, but not those that it writes anew', async () => {
    const clock = manualClock();
    const logs = new WorkerLogs(folder, { limits, clock });
    await logs.prepare();
    clock.step(7_200_000);
    await logs.begin('a', 'uid');
    await logs.begin('b', 'uid');
    clock.step(-7_200_000);
    const removal = logs.removeOf('uid');
    await logs.begin('b', 'uid');
    await removal;
    expect((await readdir(folder)).toSorted()).toEqual(['b.log', 'b.log.times']);
    await logs.stop();
  });

  it('of removed containers are kept as far as they have room, the latest of them', async () => {
    const logs = new WorkerLogs(folder, { limits, maxKeptBytes: 3 * 64 * 1024 });
    onTestFinished(() => logs.stop());
    await logs.prepare();
    for (const containerId of ['one', 'two', 'three']) {
      await logs.begin(containerId, 'uid');
      await write(containerId, 64_000);
      await logs.keep(containerId);
    }
    await logs.begin('one', 'uid');
    await logs.begin('four', 'uid');
    await write('four', 128_000);
    await logs.keep('four');
    const left = (await readdir(folder)).filter((file) => file.endsWith('.log')).toSorted();
    expect(left, 'one has a container again, two was removed first').toEqual(['four.log', 'one.log', 'three.log']);
  });

  it('are rotated as they grow, and told apart from those that a later container begins', async () => {
    const logs = await started();
    await logs.begin('w', 'uid');
    await write('w', 400_000);
    await waitFor('the rotation', async () => (await readdir(folder)).length === 4);
    await waitFor('the end of it', async () => (await stat(join(folder, 'w.log'))).blocks * 512 < 100_000);
    const extent = await logs.reader.extent('w');
    expect(extent?.end).toBe(400_000);
    expect(extent?.first).toBeGreaterThan(150_000);
    expect(await logs.size('w')).toBe(400_000);
    expect((await logs.read('w', 0, 150)).toString()).toBe(`${'x'.repeat(49)}\n${'x'.repeat(99)}\n`);
    expect((await logs.read('w', 0, 120_000)).length).toBe(120_000);
    expect(await logs.reader.newest('uid')).toBe('w');
    await logs.begin('w', 'uid');
    expect(await logs.reader.begins('w')).toEqual([0, 400_000]);
    const reader = logFolderReader(new LogFolder(folder, systemCommandRunner));
    expect(await reader.extent('w')).toEqual(extent);
    expect(await reader.begins('w')).toEqual([0, 400_000]);
    expect(await reader.newest('uid')).toBe('w');
    expect(await reader.newest('other')).toBeUndefined();
    expect(await reader.readFrom('w', 399_900, 1_000)).toEqual(await logs.reader.readFrom('w', 399_900, 1_000));
    await logs.remove('w');
    expect(await readdir(folder)).toEqual([]);
    await logs.begin('w', 'uid');
    expect((await logs.reader.extent('w'))?.id).not.toBe(extent?.id);
    expect(await logs.reader.begins('w')).toEqual([0]);
  });

  it('are looked after again by whoever comes after a crash, without what it left half-made', async () => {
    await write('w', 200_000);
    await writeFile(join(folder, 'w.log.unfinished'), 'half');
    await started();
    await waitFor('the rotation', async () => (await readdir(folder)).length === 4);
    expect((await readdir(folder)).toSorted()[0]).toBe('w.log');
    expect(await readdir(folder)).not.toContain('w.log.unfinished');
  });

  it('are removed with all their parts once their container is gone, but not one that has just begun', async () => {
    const logs = await started();
    await write('gone', 200_000);
    await logs.begin('gone', 'uid');
    await waitFor('the rotation', async () => (await readdir(folder)).length > 3);
    await logs.prune(new Set(), Date.now() - 60_000);
    expect((await readdir(folder)).length).toBeGreaterThan(3);
    await logs.prune(new Set(['gone']), Date.now() + 60_000);
    expect((await readdir(folder)).length).toBeGreaterThan(3);
    await logs.prune(new Set(), Date.now() + 60_000);
    expect(await readdir(folder)).toEqual([]);
  });

  it('keep their points in a file that does not grow for ever', async () => {
    let now = 1_700_000_000_000;
    const clock = {
      now: () => now,
      monotonic: () => performance.now(),
      setTimer: () => ({ cancel: () => undefined }),
    };
    const logs = new WorkerLogs(folder, { limits, clock });
    await logs.prepare();
    for (let round = 0; round < 1_200; round += 1) {
      now += 1_000;
      await logs.begin('w', 'uid');
    }
    const lines = (await readFile(join(folder, 'w.log.times'), 'utf8')).trimEnd().split('\n');
    expect(lines.length).toBeLessThan(600);
    expect(await logs.reader.begins('w')).toHaveLength(lines.length);
  });
});
