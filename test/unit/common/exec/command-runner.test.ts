import { afterAll, describe, expect, it } from 'vitest';
import {
  inNetworkNamespace,
  LONG_OUTPUT_BYTES,
  systemCommandRunner,
} from '../../../../src/common/exec/command-runner.ts';
import { Spawner } from '../../../../src/common/exec/spawner.ts';
import { silentLogger } from '../../../../src/common/logger.ts';

const shell = (script: string) => ({ program: '/bin/sh', args: ['-c', script] });
const spawner = new Spawner({ logger: silentLogger() });

afterAll(() => spawner.stop());

describe.each([
  ['this process', systemCommandRunner],
  ['a spawner', spawner],
])('a program that is run by %s', (_, runner) => {
  it('gets its input and gives its output and exit code', async () => {
    const request = { ...shell('cat; echo err >&2; exit 3'), input: 'hello' };
    expect(await runner.run(request)).toEqual({ code: 3, stdout: 'hello', stderr: 'err\n' });
  });

  it('may ignore its input', async () => {
    const request = { ...shell('exit 0'), input: 'x'.repeat(200_000) };
    expect((await runner.run(request)).code).toBe(0);
  });

  it('has no code when a signal ended it', async () => {
    expect((await runner.run(shell('kill -9 $$'))).code).toBeUndefined();
  });

  it('that does not exist is told by the system error', async () => {
    const running = runner.run({ program: '/nowhere/x', args: [] });
    await expect(running).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('is killed with its children when the signal fires', async () => {
    const caller = new AbortController();
    const running = runner.run({ ...shell('sleep 600 & sleep 600'), signal: caller.signal });
    setTimeout(() => caller.abort(), 20);
    await expect(running).rejects.toMatchObject({ code: 'Aborted' });
    await expect(runner.run({ ...shell('true'), signal: caller.signal })).rejects.toMatchObject({
      code: 'Aborted',
    });
  });

  it('has what it writes cut off', async () => {
    const { stdout } = await runner.run(shell('head -c 3000000 /dev/zero'));
    expect(stdout).toHaveLength(1024 * 1024);
    const longer = await runner.run({ ...shell('head -c 3000000 /dev/zero'), maxOutputBytes: LONG_OUTPUT_BYTES });
    expect(longer.stdout).toHaveLength(3_000_000);
  });

  it('gets the environment that it is given, and no other', async () => {
    const { stdout } = await runner.run({ program: '/usr/bin/env', args: [], env: { ONLY: 'this' } });
    expect(stdout).toBe('ONLY=this\n');
  });
});

describe('a program that is run', () => {
  it('is entered into a network namespace by nsenter', async () => {
    const seen: unknown[] = [];
    const runner = inNetworkNamespace(
      {
        run(request) {
          seen.push(request);
          return Promise.resolve({ code: 0, stdout: '', stderr: '' });
        },
      },
      '/run/netns/node-2',
    );
    await runner.run({ program: 'ip', args: ['link'], input: 'x' });
    expect(seen).toEqual([{ program: 'nsenter', args: ['--net=/run/netns/node-2', '--', 'ip', 'link'], input: 'x' }]);
  });
});
