import { describe, expect, it } from 'vitest';
import { inNetworkNamespace, systemCommandRunner } from '../../../src/cni/command-runner.ts';

const shell = (script: string) => ({ program: '/bin/sh', args: ['-c', script] });

describe('a program that is run', () => {
  it('gets its input and gives its output and exit code', async () => {
    const request = { ...shell('cat; echo err >&2; exit 3'), input: 'hello' };
    expect(await systemCommandRunner.run(request)).toEqual({ code: 3, stdout: 'hello', stderr: 'err\n' });
  });

  it('may ignore its input', async () => {
    const request = { ...shell('exit 0'), input: 'x'.repeat(200_000) };
    expect((await systemCommandRunner.run(request)).code).toBe(0);
  });

  it('has no code when a signal ended it', async () => {
    expect((await systemCommandRunner.run(shell('kill -9 $$'))).code).toBeUndefined();
  });

  it('that does not exist is told by the system error', async () => {
    const running = systemCommandRunner.run({ program: '/nowhere/x', args: [] });
    await expect(running).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('is killed with its children when the signal fires', async () => {
    const caller = new AbortController();
    const running = systemCommandRunner.run({ ...shell('sleep 600 & sleep 600'), signal: caller.signal });
    setTimeout(() => caller.abort(), 20);
    await expect(running).rejects.toMatchObject({ code: 'Aborted' });
    await expect(systemCommandRunner.run({ ...shell('true'), signal: caller.signal })).rejects.toMatchObject({
      code: 'Aborted',
    });
  });

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
    expect(seen).toEqual([
      { program: 'nsenter', args: ['--net=/run/netns/node-2', '--', 'ip', 'link'], input: 'x' },
    ]);
  });
});
