import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CommandOptions, type CommandResult, run } from '../support/command.ts';
import { compareHostInventory, type HostInventory, takeHostInventory } from '../support/host-audit.ts';
import { waitFor } from '../support/wait-for.ts';

const repository = join(import.meta.dirname, '../..');

/** As a person gets it. Where there is no history, as in an unpacked archive, what there is without what was made. */
async function cloneRepository(folder: string, clone: string): Promise<void> {
  const hasHistory = await access(join(repository, '.git')).then(
    () => true,
    () => false,
  );
  if (!hasHistory) {
    await run('cp', ['-r', '--', repository, clone]);
    await run('rm', ['-rf', join(clone, 'node_modules'), join(clone, '.esb')]);
    return;
  }
  // The checkout may belong to another user than the one who runs the tests.
  const config = join(folder, 'gitconfig');
  await writeFile(config, '[safe]\n\tdirectory = *\n');
  await run('git', ['clone', '--quiet', repository, clone], { env: { GIT_CONFIG_GLOBAL: config } });
}

describe('from a clone', () => {
  let folder: string;
  let clone: string;
  let before: HostInventory;

  const npm = (args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> =>
    run('npm', args, {
      cwd: clone,
      // Environment of a person: nothing of this run's own settings.
      env: { ESB_HOME: undefined, NODE_OPTIONS: undefined, VITEST: undefined, NODE_ENV: undefined },
      timeoutMs: 540_000,
      ...options,
    });

  beforeAll(async () => {
    before = await takeHostInventory();
    folder = await mkdtemp(join(tmpdir(), 'esb-up-'));
    clone = join(folder, 'esb');
    await cloneRepository(folder, clone);
  });

  afterAll(async () => {
    await npm(['run', 'down'], { mayFail: true });
    await rm(folder, { recursive: true, force: true });
  });

  it('npm run up brings up everything and ends with its calls answered', async () => {
    const { stdout } = await npm(['run', 'up']);
    expect(stdout).toMatch(/cold/i);
    expect(stdout).toMatch(/running/i);
    expect(stdout).toMatch(/paused/i);
    expect(stdout).toContain(join(clone, '.esb/kubeconfig'));
    expect(stdout).toContain('http://127.0.0.1:');
    const shell =
      'set -e; . .esb/env; .esb/bin/kubectl get lw hello -o jsonpath={.status.phase}; echo; curl -s "$ESB_GATEWAY/2015-03-31/functions/hello/invocations" -d "{}"';
    const used = await run('bash', ['-c', shell], { cwd: clone });
    const [phase, answer] = used.stdout.split('\n');
    expect(['Running', 'Paused']).toContain(phase);
    expect(JSON.parse(answer ?? '')).toMatchObject({ message: 'hello from hello' });
    await access(join(clone, '.esb/nodes/node-1/containerd.sock'));
  }, 600_000);

  it('npm run up again takes seconds and restarts nothing', async () => {
    const pids = async (): Promise<string> => (await npm(['run', '--silent', 'status', '--', '--json'])).stdout;
    const processes = (text: string): unknown =>
      (JSON.parse(text) as { parts: { name: string; pid: number }[] }).parts.map(({ name, pid }) => [name, pid]);
    const earlier = processes(await pids());
    const start = performance.now();
    await npm(['run', 'up']);
    expect(performance.now() - start).toBeLessThan(30_000);
    expect(processes(await pids())).toEqual(earlier);
  });

  it('npx esb status shows every part as healthy', async () => {
    const { stdout } = await run('npx', ['esb', 'status'], { cwd: clone });
    for (const part of ['etcd', 'apiserver', 'registry', 'containerd', 'agent', 'controller', 'gateway']) {
      expect(stdout).toMatch(new RegExp(`${part}.*(healthy|ready|running)`, 'i'));
    }
  });

  it('parts that crash are started again', async () => {
    const parts = async (): Promise<{ name: string; pid: number }[]> =>
      (
        JSON.parse((await npm(['run', '--silent', 'status', '--', '--json'])).stdout) as {
          parts: { name: string; pid: number }[];
        }
      ).parts;
    const agent = (await parts()).find(({ name }) => name.startsWith('agent'));
    process.kill(agent?.pid ?? 0, 'SIGKILL');
    await waitFor(
      'the agent to be started again',
      async () => {
        const now = (await parts()).find(({ name }) => name.startsWith('agent'));
        return now !== undefined && now.pid !== agent?.pid && now.pid > 0;
      },
      { everyMs: 500 },
    );
  });

  it('gateways ask callers who they are once they are told to, and no longer when they are told so', async () => {
    const statuses = async (): Promise<string> => {
      const call = '-s -o /dev/null -w "%{http_code} " -d "{}" "$ESB_GATEWAY/2015-03-31/functions/hello/invocations"';
      const signed = `--user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" --aws-sigv4 aws:amz:us-east-1:lambda`;
      const script = `set -e; unset \${!AWS_*}; . .esb/env; curl ${call}; curl ${signed} ${call}`;
      return (await run('bash', ['-c', script], { cwd: clone })).stdout.trim();
    };
    const invoke = (): Promise<{ readonly stdout: string }> =>
      run('npx', ['esb', 'invoke', 'hello', '{"echo":1}'], { cwd: clone });
    await npm(['run', 'up', '--', '--authentication', 'on']);
    expect(await statuses()).toBe('403 200');
    expect(JSON.parse((await invoke()).stdout)).toMatchObject({ echo: 1 });
    // Chosen values stay.
    await npm(['run', 'up']);
    expect(await statuses()).toBe('403 200');
    await npm(['run', 'up', '--', '--authentication', 'off']);
    // Any key will do then, such as the one that AWS's tools are given.
    expect(await statuses()).toBe('200 200');
    expect(JSON.parse((await invoke()).stdout)).toMatchObject({ echo: 1 });
  }, 300_000);

  it('npm run down leaves nothing behind and puts back what it changed, even after a crash', async () => {
    const status = JSON.parse((await npm(['run', '--silent', 'status', '--', '--json'])).stdout) as {
      supervisor: { pid: number };
      parts: { name: string; pid: number }[];
    };
    const containerd = status.parts.find(({ name }) => name.startsWith('containerd'));
    process.kill(status.supervisor.pid, 'SIGKILL');
    process.kill(containerd?.pid ?? 0, 'SIGKILL');
    await npm(['run', 'down']);
    // As a text: a failure shows the first lines of one, and of a list its length.
    expect(compareHostInventory(before, await takeHostInventory()).join('; ')).toBe('');
    await expect(readFile(join(clone, '.esb/env'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
