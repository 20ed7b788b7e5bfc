import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type CommandResult, run } from '../support/command.ts';

/** The commands of the image, as its help lists them. */
const clusterCommands = [
  'controller',
  'gateway',
  'events',
  'top',
  'agent',
  'init',
  'deploy',
  'invoke',
  'ps',
  'logs',
  'retire',
  'rollout',
  'doctor',
];
const instanceCommands = ['up', 'down', 'status'];

describe.each([
  { program: 'src/main.ts', commands: clusterCommands },
  { program: 'local/main.ts', commands: [...clusterCommands, ...instanceCommands] },
])('the command line of $program', { timeout: 60_000 }, ({ program, commands }) => {
  const esb = (...args: readonly string[]): Promise<CommandResult> =>
    run(process.execPath, [resolve(import.meta.dirname, '../..', program), ...args], { mayFail: true });

  it('tells its version', async () => {
    const { code, stdout } = await esb('--version');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it('lists every command and ends as for wrong use when none is given', async () => {
    const { code, stderr } = await esb();
    expect(code).toBe(2);
    const listed = [...stderr.matchAll(/^ {2}([a-z]+) .*$/gm)].map(([, name]) => name);
    expect(new Set(listed)).toEqual(new Set(commands));
  });

  it.each([
    [['nonsense'], "esb: unknown command 'nonsense'"],
    [['agent'], "esb: required option '--node-name <name>' not specified"],
    [['gateway', '--max-requests', 'many'], 'It must be a whole number of at least 1.'],
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

describe('the program of the image', { timeout: 60_000 }, () => {
  const esb = (...args: readonly string[]): Promise<CommandResult> =>
    run(process.execPath, [resolve(import.meta.dirname, '../../src/main.ts'), ...args], { mayFail: true });

  it('asks for a gateway, since no local instance is behind it', async () => {
    const { code, stderr } = await esb('invoke', 'hello');
    expect(code).toBe(1);
    expect(stderr).toBe('esb: there is no local instance here: name a gateway with --gateway\n');
  });

  it('shows what doctor has to offer when asked for no part of it', async () => {
    const { code, stderr } = await esb('doctor');
    expect(code).toBe(2);
    expect(stderr).toContain('node [options]');
  });
});

describe('the program of a clone', { timeout: 60_000 }, () => {
  const esb = (args: readonly string[], home: string): Promise<CommandResult> =>
    run(process.execPath, [resolve(import.meta.dirname, '../../local/main.ts'), ...args], {
      env: { ...process.env, ESB_HOME: home },
      mayFail: true,
    });

  it('says what is wrong with the size of an instance', async () => {
    const { code, stderr } = await esb(['up', '--nodes', 'many'], '/nowhere');
    expect(code).toBe(2);
    expect(stderr).toContain('It must be a whole number of at least 1.');
  });

  it.each([
    [['invoke', 'hello'], 1, 'there is no local instance in /nowhere; bring one up with: npm run up'],
    [['status'], 3, 'There is no local instance in /nowhere; bring one up with: npm run up'],
  ])('looks for the instance that ESB_HOME names, as with %j', async (args, expected, message) => {
    const { code, stdout, stderr } = await esb(args, '/nowhere');
    expect(code).toBe(expected);
    expect(stdout + stderr).toContain(message);
  });
});
