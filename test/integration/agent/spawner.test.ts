import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { run } from '../../support/command.ts';
import { toolsFolder } from '../../support/tools.ts';
import { waitFor } from '../../support/wait-for.ts';

describe('the programs that an agent runs', () => {
  let lab: AgentLab;
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'esb-programs-'));
    const tools = toolsFolder();
    for (const program of ['ip', 'nft', 'fallocate', 'unshare']) {
      await noteParent((await run('which', [program])).stdout.trim());
    }
    await noteParent(join(tools, 'bridge'));
    // This one is started by `bridge`.
    await symlink(join(tools, 'host-local'), join(folder, 'host-local'));
    vi.stubEnv('PATH', `${folder}:${process.env.PATH ?? ''}`);
    lab = await startAgentLab();
    await lab.startAgent(['--cni-bin-dir', folder]);
    await lab.untilServing();
  });
  afterAll(async () => {
    await lab?.close();
    vi.unstubAllEnvs();
    await rm(folder, { recursive: true });
  });

  /** Puts a program in the way of another one that writes down who started it. */
  async function noteParent(program: string): Promise<void> {
    const file = join(folder, basename(program));
    const note = `echo "$PPID ${basename(program)}" >>${join(folder, 'parents')}`;
    await writeFile(file, `#!/bin/sh\n${note}\nexec ${program} "$@"\n`);
    await chmod(file, 0o755);
  }

  /** Processes that started programs, those of the test left out, and the programs. */
  async function started(): Promise<{ readonly by: number[]; readonly programs: string[] }> {
    const lines = (await readFile(join(folder, 'parents'), 'utf8')).trim().split('\n');
    const all = lines.map((line) => line.split(' ')).filter(([pid]) => Number(pid) !== process.pid);
    return {
      by: [...new Set(all.map(([pid]) => Number(pid)))],
      programs: [...new Set(all.map(([, program]) => program ?? ''))].toSorted(),
    };
  }

  it('are children of one other process, of another one when that is killed, and of none after the agent', async () => {
    await lab.apply('first');
    await lab.waitForPhase('first', 'Running');
    const { by, programs } = await started();
    expect(programs).toEqual(['bridge', 'fallocate', 'ip', 'nft', 'unshare']);
    expect(by).toHaveLength(1);
    const [spawner = 0] = by;
    expect(spawner).not.toBe(lab.agent.pid);

    process.kill(spawner, 'SIGKILL');
    await lab.apply('second');
    await lab.waitForPhase('second', 'Running');
    await lab.remove('first');
    const [, next = 0, ...others] = (await started()).by;
    expect(others).toEqual([]);
    expect(next).not.toBe(lab.agent.pid);
    expect(existsSync(`/proc/${next}`)).toBe(true);

    await lab.killAgent();
    await waitFor('the process to end', () => !existsSync(`/proc/${next}`));
    await lab.startAgent(['--cni-bin-dir', folder]);
    await lab.untilServing();
    await lab.remove('second');
  });
});
