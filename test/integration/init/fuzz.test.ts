import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { InitAgent } from '../../support/init-agent.ts';
import { checkedInitProgram } from '../../support/init-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const fuzz = fileURLToPath(new URL('./fixtures/fuzz.py', import.meta.url));
const seconds = Number(process.env.ESB_INIT_FUZZ_SECONDS ?? 3);

/** Seeds that are even try several calls at once. */
const seeds = (process.env.ESB_INIT_FUZZ_SEEDS ?? '1 2').split(' ').map(Number);

it.each(seeds)(
  'requests and frames that make no sense corrupt no memory of the init (seed %i)',
  async (seed) => {
    const folder = await mkdtemp(join(tmpdir(), 'esb-init-fuzz-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const agent = new InitAgent(join(folder, 'agent.sock'));
    await agent.listen();
    const init = [await checkedInitProgram(), '--socket', join(folder, 'agent.sock'), '--init-timeout-ms', '600000'];
    // The program that sends is apart from the processes that the init may kill.
    const script = `
    ip link set lo up
    AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001 python3 ${fuzz} ${seed} ${seconds} &
    exec unshare --pid --fork --kill-child --mount-proc "$@"`;
    const child = spawn(
      'unshare',
      [
        '--net',
        'sh',
        '-c',
        script,
        'sh',
        ...init,
        ...['--concurrency', seed % 2 === 0 ? '4' : '1', '--grace-ms', '50'],
        '--keep-answers-ms',
        '500',
        '--',
        'sleep',
        '1000',
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    onTestFinished(() => void child.kill('SIGKILL'));
    let said = '';
    child.stdout.on('data', (data: Buffer) => {
      said += data.toString();
    });
    child.stderr.on('data', (data: Buffer) => {
      said += data.toString();
    });
    await agent.until('the init', () => agent.phase);
    let calls = 0;
    const chance = pseudoRandom(seed);
    let returns: Promise<void> = Promise.resolve();
    const timer = setInterval(() => {
      // An agent that is replaced, one that reads slowly, and one that asks again.
      if (chance(60) === 0) {
        returns = agent.die().then(() => agent.listen());
      }
      agent.acknowledges = chance(20) !== 0;
      agent.send(
        { number: calls, filler: 'y'.repeat(chance(30) === 0 ? 1_000_000 : 0) },
        { id: `fuzz-${calls++ % 400}`, timeoutMs: 200 + chance(1_000) },
      );
      if (chance(10) === 0) {
        agent.raw(Buffer.from(Array.from({ length: chance(200) }, () => chance(256))));
      }
      if (chance(20) === 0) {
        agent.forget(`fuzz-${chance(400)}`);
      }
    }, 10);
    onTestFinished(() => clearInterval(timer));
    await waitFor('the end of the requests', () => /requests \d+/.exec(said) ?? child.exitCode !== null, {
      timeoutMs: seconds * 1_000 + 30_000,
    });
    clearInterval(timer);
    expect(said).not.toMatch(/Sanitizer|runtime error/);
    expect(Number(/requests (\d+)/.exec(said)?.[1])).toBeGreaterThan(100);
    await returns;
    // Bytes without sense may be the beginning of a frame.
    await agent.die();
    await agent.listen();
    await agent.until('the init to be back', () => agent.phase);
    agent.stop(200);
    await once(child, 'exit');
    await agent.die();
    expect(said).not.toMatch(/Sanitizer|runtime error/);
  },
  120_000 + seconds * 1_000,
);

/** Numbers from 0 up to a bound, by a seed (a linear congruential generator). */
function pseudoRandom(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((state / 2_147_483_648) * bound);
  };
}
