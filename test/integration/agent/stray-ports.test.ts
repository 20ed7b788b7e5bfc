import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { OrphanVeths } from '../../../src/cni/gc/orphan-veths.ts';
import { inNetworkNamespace, systemCommandRunner } from '../../../src/common/exec/command-runner.ts';
import { run } from '../../support/command.ts';

describe('ports of a real bridge', () => {
  it('whose other end is in a namespace that lost its name are found, and nothing else is', async () => {
    const node = `esb-t-${randomBytes(4).toString('hex')}`;
    const folder = mkdtempSync(join(tmpdir(), 'esb-ports-'));
    const names = [node, `${node}-kept`, `${node}-lost`];
    onTestFinished(async () => {
      for (const name of names) {
        await run('ip', ['netns', 'delete', name], { mayFail: true });
      }
      rmSync(folder, { recursive: true, force: true });
    });
    for (const name of names) {
      await run('ip', ['netns', 'add', name]);
    }
    await run('ip', ['-n', node, '-batch', '-'], {
      input: [
        'link add esb0 type bridge',
        'link add other0 type bridge',
        `link add vethkept master esb0 type veth peer name eth0 netns ${node}-kept`,
        `link add vethlost master esb0 type veth peer name eth0 netns ${node}-lost`,
        'link add vethalien master other0 type veth peer name eth9',
      ].join('\n'),
    });
    mkdirSync(join(folder, 'results'));
    const result = { interfaces: [{ name: 'esb0' }, { name: 'vethkept' }, { name: 'eth0', sandbox: '/x' }] };
    writeFileSync(join(folder, 'results', 'esb-kept-eth0'), JSON.stringify({ result }));
    // An unknown process keeps the namespace, which has no name any more.
    const holder = spawn('nsenter', [`--net=/run/netns/${node}-lost`, 'sleep', '600'], { stdio: 'ignore' });
    onTestFinished(() => {
      holder.kill('SIGKILL');
    });
    await new Promise((resolve) => holder.once('spawn', resolve));
    await expect
      .poll(async () => (await run('ip', ['netns', 'pids', `${node}-lost`])).stdout, { timeout: 10_000 })
      .not.toBe('');
    await run('ip', ['netns', 'delete', `${node}-lost`]);

    const ports = new OrphanVeths(folder, inNetworkNamespace(systemCommandRunner, `/run/netns/${node}`));
    const before = await ports.read();
    expect([...before.ports].toSorted()).toEqual(['vethkept', 'vethlost']);
    expect([...before.claimed]).toEqual(['vethkept']);
    expect(await ports.remove('vethkept')).toBe(false);
    expect(await ports.remove('vethalien')).toBe(false);
    expect(await ports.remove('vethlost')).toBe(true);
    expect(await ports.remove('vethlost')).toBe(false);
    expect((await ports.read()).ports).toEqual(['vethkept']);
    expect((await run('ip', ['-n', node, '-br', 'link'])).stdout).toContain('vethalien');
  });

  it('are none where nothing was ever attached', async () => {
    const ports = new OrphanVeths('/nonexistent/cni', systemCommandRunner);
    expect(await ports.read()).toEqual({ ports: [], claimed: new Set() });
  });
});
