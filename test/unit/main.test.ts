import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type CommandResult, run } from '../support/command.ts';

const esb = (...args: readonly string[]): Promise<CommandResult> =>
  run(process.execPath, [resolve(import.meta.dirname, '../../src/main.ts'), ...args], { mayFail: true });

describe('the command line', { timeout: 60_000 }, () => {
  it('tells its version', async () => {
    const { code, stdout } = await esb('--version');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it('lists every command and ends as for wrong use when none is given', async () => {
    const { code, stderr } = await esb();
    expect(code).toBe(2);
    for (const name of [
      'controller',
      'gateway',
      'agent',
      'hold',
      'up',
      'down',
      'status',
      'invoke',
      'ps',
      'logs',
      'retire',
      'doctor',
    ]) {
      expect(stderr).toContain(`  ${name} `);
    }
  });

  it.each([
    [['nonsense'], "esb: unknown command 'nonsense'"],
    [['agent'], "esb: required option '--node-name <name>' not specified"],
    [['up', '--nodes', 'many'], 'It must be a whole number of at least 1.'],
  ])('says what is wrong with %j', async (args, message) => {
    const { code, stderr } = await esb(...args);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });

  it.each([
    [['--listen', 'nowhere'], "esb: 'nowhere' is not HOST:PORT (for example 127.0.0.1:9443)\n"],
    [['--deny-cidr', 'nothing'], "esb: 'nothing' is not a range of addresses such as 10.234.0.0/16\n"],
  ])('ends a role that cannot run with one clear line, as with %j', async (flags, message) => {
    const folder = mkdtempSync(join(tmpdir(), 'esb-main-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const { code, stderr } = await esb(
      ...['agent', '--node-name', 'node-1', ...flags],
      ...['--state-dir', folder, '--run-dir', folder, '--log-level', 'silent'],
    );
    expect(code).toBe(1);
    expect(stderr).toBe(message);
  });
});
