import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { type CommandRunner, systemCommandRunner } from '../../../../src/common/exec/command-runner.ts';
import { Spawner } from '../../../../src/common/exec/spawner.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { run } from '../../../support/command.ts';
import { startOwnedProcess } from '../../../support/owned-process.ts';
import { waitFor } from '../../../support/wait-for.ts';

const shell = (script: string) => ({ program: '/bin/sh', args: ['-c', script] });

/** Whether a process runs; one that has ended and was not reaped does not. */
function runs(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

async function processOf(spawner: CommandRunner): Promise<number> {
  return Number((await spawner.run(shell('echo $PPID'))).stdout);
}

describe('Spawner', { timeout: 30_000 }, () => {
  let folder: string;
  let spawner: Spawner;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'esb-spawner-'));
    spawner = new Spawner({ logger: silentLogger(), stopDeadlineMs: 200 });
    const [made, started] = [folder, spawner];
    onTestFinished(async () => {
      await started.stop();
      rmSync(made, { recursive: true });
    });
  });

  /** A program that runs on, with a child, and the numbers of both once they run. */
  const endless = (name: string) => shell(`sleep 600 & echo $$ $! >${join(folder, name)}; sleep 600`);
  const numbers = (name: string): Promise<number[]> =>
    waitFor(name, () => {
      const found = readFileSync(join(folder, name), 'utf8').trim().split(' ').map(Number);
      return found.length === 2 && found;
    });

  it('runs programs as children of one process that is not this one', async () => {
    const pid = await processOf(spawner);
    expect(pid).not.toBe(process.pid);
    const all = await Promise.all(Array.from({ length: 20 }, () => processOf(spawner)));
    expect(new Set(all)).toEqual(new Set([pid]));
  });

  it('holds this process up for less time than starting programs does, when the process is large', async () => {
    const heap = Buffer.alloc(400 * 2 ** 20, 1);
    const held = new Map<CommandRunner, number[]>([
      [systemCommandRunner, []],
      [spawner, []],
    ]);
    await processOf(spawner);
    for (let round = 0; round < 9; round += 1) {
      for (const [runner, times] of held) {
        const begun = performance.now();
        const running = runner.run(shell('true'));
        times.push(performance.now() - begun);
        await running;
      }
    }
    expect(heap.at(-1)).toBe(1);
    const median = (runner: CommandRunner): number => held.get(runner)?.toSorted((a, b) => a - b)[4] ?? 0;
    expect(median(spawner)).toBeLessThan(median(systemCommandRunner));
  });

  it('ends what ran when its process dies, says that it may be tried again, and starts another', async () => {
    const pid = await processOf(spawner);
    const running = spawner.run(endless('a'));
    const programs = await numbers('a');
    process.kill(pid, 'SIGKILL');
    await expect(running).rejects.toMatchObject({ code: 'SpawnerEnded', retryable: true });
    expect(programs.filter(runs)).toEqual([]);
    const next = await processOf(spawner);
    expect([pid, process.pid]).not.toContain(next);
  });

  it('takes a process that ends no program for dead', async () => {
    const pid = await processOf(spawner);
    const caller = new AbortController();
    const running = spawner.run({ ...endless('a'), signal: caller.signal });
    const other = spawner.run(endless('b'));
    other.catch(() => undefined);
    const programs = [...(await numbers('a')), ...(await numbers('b'))];
    process.kill(pid, 'SIGSTOP');
    caller.abort();
    await expect(running).rejects.toMatchObject({ code: 'Aborted' });
    await expect(other).rejects.toMatchObject({ code: 'SpawnerEnded' });
    expect(programs.filter(runs)).toEqual([]);
    expect(await processOf(spawner)).not.toBe(pid);
  });

  it('ends with what it runs when it is stopped', async () => {
    const pid = await processOf(spawner);
    const running = spawner.run(endless('a'));
    running.catch(() => undefined);
    const programs = await numbers('a');
    await spawner.stop();
    await expect(running).rejects.toMatchObject({ code: 'SpawnerEnded' });
    expect([pid, ...programs].filter(runs)).toEqual([]);
  });

  it('ends with what it runs when the process that uses it is killed', async () => {
    const user = await startOwnedProcess({
      program: process.execPath,
      args: ['--input-type=module', '--eval', using(`spawner.run(${JSON.stringify(endless('a'))})`)],
      logFile: join(folder, 'log'),
    });
    const programs = await numbers('a');
    const parent = Number(/^\d+ \(.*\) \S (\d+)/.exec(readFileSync(`/proc/${programs[0]}/stat`, 'utf8'))?.[1]);
    expect(runs(parent)).toBe(true);
    expect(parent).not.toBe(user.pid);
    await user.kill();
    await waitFor('everything to end', () => ![parent, ...programs].some(runs));
  });

  it('fails a program whose process cannot be started for want of files, and starts one for the next', async () => {
    const program = JSON.stringify(shell('echo done'));
    const text = using(`spawner.stop();
const { closeSync, openSync } = await import('node:fs');
const files = [];
try {
  for (;;) {
    files.push(openSync('/dev/null'));
  }
} catch {}
const error = await spawner.run(${program}).catch((reason) => reason);
files.forEach((file) => closeSync(file));
console.log(error.code, error.retryable, error.cause?.code, (await spawner.run(${program})).stdout)`);
    const fewFiles = 'ulimit -n 100; exec "$0" --input-type=module --eval "$1"';
    const { stdout } = await run('/bin/sh', ['-c', fewFiles, process.execPath, text]);
    expect(stdout.trim()).toBe('SpawnerEnded true EMFILE done');
  });

  it('does not keep a process alive that has nothing else to do', async () => {
    const used = using(`console.log((await spawner.run(${JSON.stringify(shell('echo done'))})).stdout)`);
    const { code, stdout } = await run(process.execPath, ['--input-type=module', '--eval', used]);
    expect([code, stdout.trim()]).toEqual([0, 'done']);
  });
});

/** The text of a program that uses a spawner. */
function using(statement: string): string {
  const src = resolve(import.meta.dirname, '../../../../src');
  return `
import { Spawner } from '${src}/common/exec/spawner.ts';
import { silentLogger } from '${src}/common/logger.ts';
const spawner = new Spawner({ logger: silentLogger() });
spawner.start();
await ${statement};
`;
}
