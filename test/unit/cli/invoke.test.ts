import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { timingsOf, timingTable } from '../../../src/cli/invoke-timings.ts';
import { type CommandResult, run } from '../../support/command.ts';
import { gatewayLab } from '../../support/gateway-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const timing = 'queue;dur=0.012, wake;dur=10.25, run;dur=1.5, start;desc="paused"';

describe('the timings of a call', () => {
  it('are read from the headers of its answer', () => {
    expect(timingsOf(timing, 'resumed')).toEqual({ queue: 0.012, wake: 10.25, run: 1.5, start: 'resumed' });
  });

  it('are none where the gateway tells none', () => {
    expect(timingsOf(undefined, undefined)).toBeUndefined();
    expect(timingsOf('total;dur=3', 'warm')).toBeUndefined();
  });

  it('are shown in a table, with what is left as the way there and back', () => {
    expect(timingTable({ queue: 0.012, wake: 110.25, run: 1.5, start: 'cold' }, 113)).toBe(
      [
        '  queue      0.0 ms',
        '  wake     110.3 ms  cold',
        '  run        1.5 ms',
        '  network    1.2 ms  with gateway and agent',
        '',
      ].join('\n'),
    );
  });
});

describe('esb invoke', { timeout: 60_000 }, () => {
  async function lab() {
    const gateway = await gatewayLab();
    await gateway.addWorker('hello');
    return {
      ...gateway,
      esb: (...args: readonly string[]): Promise<CommandResult> =>
        run(
          process.execPath,
          [resolve(import.meta.dirname, '../../../src/main.ts'), 'invoke', ...args, '--gateway', gateway.url],
          { mayFail: true },
        ),
    };
  }

  it('writes the answer to standard output, and to standard error what the call took where', async () => {
    const { agent, esb } = await lab();
    agent.onInvoke((call) =>
      call.answer('{"a":1}', {
        logTail: 'a line\n',
        timings: { queued: 12, wake: 10_250, run: 1_500, start: 'paused' },
      }),
    );
    const { code, stderr, stdout } = await esb('hello', '{"b":2}', '--tail');
    expect(code).toBe(0);
    expect(stdout).toBe('{"a":1}\n');
    const [call] = agent.calls;
    expect(call).toMatchObject({ payload: Buffer.from('{"b":2}'), tailLog: true });
    expect(stderr.split('\n')).toEqual([
      'a line',
      expect.stringMatching(new RegExp(`^200 in \\d+\\.\\d ms \\(request ${call?.requestId}\\)$`)),
      expect.stringMatching(/^ {2}queue +0\.0 ms$/),
      expect.stringMatching(/^ {2}wake +10\.3 ms {2}resumed$/),
      expect.stringMatching(/^ {2}run +1\.5 ms$/),
      expect.stringMatching(/^ {2}network +\d+\.\d ms {2}with gateway and agent$/),
      '',
    ]);
  });

  it('writes the answer as an event stream brings it, and its error to standard error', async () => {
    const { agent, esb } = await lab();
    agent.onInvoke((call) => call.answer('{"a":1}', { logTail: 'a line\n' }));
    const answered = await esb('hello', '--stream', '--tail');
    expect(answered).toMatchObject({ code: 0, stdout: '{"a":1}\n' });
    expect(answered.stderr).toMatch(/^a line\n200 in \d+\.\d ms \(request /);
    agent.onInvoke((call) => call.answer('{"errorType":"E","errorMessage":"m"}'));
    const failed = await esb('hello', '--stream');
    expect(failed).toMatchObject({ code: 1, stdout: '' });
    expect(failed.stderr).toMatch(/^\{"errorType":"E","errorMessage":"m"\}\n200 Unhandled in /);
    expect(await esb('nobody', '--stream')).toMatchObject({ code: 1, stdout: expect.stringContaining('not found') });
  });

  it('gives the function its client context, from a file as well', async () => {
    const { agent, esb } = await lab();
    const folder = await mkdtemp(join(tmpdir(), 'esb-invoke-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const file = join(folder, 'context.json');
    await writeFile(file, '{"custom":{"a":1}}');
    for (const given of ['{"custom":{"a":1}}', `@${file}`]) {
      expect((await esb('hello', '--client-context', given)).code).toBe(0);
      expect(Buffer.from(agent.calls.at(-1)?.clientContext ?? '', 'base64').toString()).toBe('{"custom":{"a":1}}');
    }
    const { code, stderr } = await esb('hello', '--client-context', 'none');
    expect(code).toBe(1);
    expect(stderr).toContain('the client context is not JSON');
  });

  it('leaves an event with the gateway', async () => {
    const { agent, esb } = await lab();
    const { code, stderr, stdout } = await esb('hello', '{"b":2}', '--event');
    expect(code).toBe(0);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^202 in \d+\.\d ms \(request [-0-9a-f]{36}\)\n$/);
    await waitFor('the event to run', () => agent.calls.length === 1, { everyMs: 5 });
  });

  it('fails where the function did, and where it was not called', async () => {
    const { agent, esb } = await lab();
    agent.onInvoke((call) => call.answer('{"errorType":"E","errorMessage":"it broke"}'));
    const failed = await esb('hello');
    expect(failed.code).toBe(1);
    expect(failed.stderr).toContain('200 Unhandled in ');
    const missing = await esb('nobody');
    expect(missing.code).toBe(1);
    expect(missing.stderr).toContain('404 in ');
    expect(missing.stdout).toContain('Function not found');
  });
});
