import { readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { namespacePrefix } from '../../src/cni/attachments/attachment-store.ts';
import type { AgentLab } from './agent-lab.ts';
import { run } from './command.ts';
import { cgroupFolders, shimsOf } from './lab.ts';
import { waitFor } from './wait-for.ts';

/**
 * Leaves of a lab's node what a machine has after its power was cut: the disk. Every process ends at once, and gone are
 * mounts, control groups, network namespaces, interfaces, rules, and what lies on tmpfs. Agent and containerd are to be
 * started again.
 */
export async function cutPower(lab: AgentLab): Promise<void> {
  const { folder, socketPath, cgroupParent } = lab.lab;
  await lab.killAgent();
  await lab.lab.killContainerd();
  const name = cgroupParent.replace(/^\//, '');
  const cgroups = await cgroupFolders(name);
  const processes = await Promise.all(
    cgroups.map(async (cgroup) => {
      await writeFile(join(cgroup, 'freezer.state'), 'THAWED', { flag: 'r+' }).catch(() => undefined);
      return await readFile(join(cgroup, 'cgroup.procs'), 'utf8').catch(() => '');
    }),
  );
  for (const pid of [...processes.join('\n').split('\n').filter(Boolean).map(Number), ...(await shimsOf(socketPath))]) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // Ended with another one.
    }
  }
  await waitFor('the shims to end', async () => (await shimsOf(socketPath)).length === 0, {
    timeoutMs: 60_000,
  });
  const mounts = (await readFile('/proc/self/mounts', 'utf8'))
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => path.startsWith(`${folder}/`));
  for (const path of mounts.toReversed()) {
    await run('umount', ['-l', path], { mayFail: true });
  }
  await waitFor(
    'the control groups to go',
    async () => {
      for (const cgroup of (await cgroupFolders(name)).toSorted((a, b) => b.length - a.length)) {
        await rmdir(cgroup).catch(() => undefined);
      }
      return (await cgroupFolders(name)).length === 0;
    },
    { timeoutMs: 60_000 },
  );
  const prefix = namespacePrefix(lab.stateDir);
  const namespaces = (await readdir('/run/netns')).filter((entry) => entry.startsWith(prefix));
  const batch = join(folder, 'netns-batch');
  await writeFile(batch, namespaces.map((entry) => `netns delete ${entry}\n`).join(''));
  await run('ip', ['-force', '-batch', batch], { timeoutMs: 120_000 });
  await lab.onNode('ip', 'link', 'delete', 'esb0');
  await lab.onNode('nft', 'flush', 'ruleset');
  // On a machine these lie below /run.
  await rm(join(folder, 'state'), { recursive: true, force: true });
  await rm(lab.runDir, { recursive: true, force: true });
}
