import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { namespacePrefix } from '../../../src/cni/attachments/attachment-store.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { run } from '../../support/command.ts';
import { containerNamed } from '../../support/container-name.ts';
import { waitFor } from '../../support/wait-for.ts';

describe('what an agent tells of its node', () => {
  let agent: AgentLab;

  beforeAll(async () => {
    agent = await startAgentLab();
    await agent.startAgent(['--audit-period', '2']);
    await agent.untilServing();
  });
  afterAll(async () => {
    await agent?.close();
  });

  /** The value of one series; undefined when there is none. */
  async function metric(series: string): Promise<number | undefined> {
    const page = await agent.health('/metrics');
    const line = page.split('\n').find((each) => each.startsWith(`${series} `));
    return line === undefined ? undefined : Number(line.slice(series.length + 1));
  }

  const clean = (status: 'True' | 'False') =>
    agent.waitForNode(`to be ${status === 'True' ? '' : 'not '}clean`, (node) =>
      (node.status?.conditions ?? []).some((each) => each.type === 'Clean' && each.status === status),
    );

  it('has the stages of a start, the kinds of starts and the state of the node', async () => {
    const worker = await agent.apply('hello', { desiredState: 'Paused' });
    const paused = await agent.waitForPhase('hello', 'Paused');
    expect((await agent.invoke(worker)).start).toBe('paused');
    expect((await agent.invoke(worker)).start).toBe('running');
    for (const stage of ['image', 'network', 'snapshot', 'create', 'start', 'listen']) {
      expect([stage, await metric(`esb_agent_start_stage_seconds_count{stage="${stage}"}`)]).toEqual([stage, 1]);
    }
    expect(await metric('esb_agent_start_stage_seconds_count{stage="thaw"}')).toBe(1);
    expect(await metric('esb_agent_starts_total{kind="resumed"}')).toBe(1);
    expect(await metric('esb_agent_starts_total{kind="warm"}')).toBe(1);
    expect(await metric('esb_agent_pulls_total{result="ok"}')).toBe(1);
    expect(await metric('esb_agent_network_slots{state="wanted"}')).toBe(4);
    expect(await metric('esb_agent_node_condition{type="Clean"}')).toBe(1);
    await waitFor('slots to be filled', async () => (await metric('esb_agent_network_slots{state="ready"}')) === 4);
    expect(paused.status?.phase).toBe('Paused');
  });

  it('has each leftover that it found and removed', async () => {
    const id = containerNamed('gone');
    const cgroup = join('/sys/fs/cgroup/freezer', agent.lab.cgroupParent, id);
    const state = join(agent.runDir, 'runc', 'esb', id);
    const lease = 'esb-files-00000000-0000-4000-8000-000000000001';
    const mark = join(agent.runDir, 'uid-of-nobody.mark');
    const record = join(agent.stateDir, 'workers', 'uid-of-nobody.json');
    const netns = `${namespacePrefix(agent.stateDir)}00000001`;
    const foreign = `esb-slot-ffffff-${agent.lab.cgroupParent.slice(-8)}`;
    onTestFinished(async () => {
      await rmdir(cgroup).catch(() => undefined);
      await run('ip', ['netns', 'delete', foreign], { mayFail: true });
    });
    // One look has to find all of it: where it finds a part, the rest goes along unreported.
    const looks = 'esb_agent_audits_total{result="ok"}';
    const earlier = await metric(looks);
    await waitFor('a look to end', async () => (await metric(looks)) !== earlier, { everyMs: 50 });
    await mkdir(cgroup, { recursive: true });
    await mkdir(state, { recursive: true });
    await agent.lab.ctr('leases', 'create', '--id', lease);
    await writeFile(mark, `0 ${id} -\n`);
    await writeFile(record, '{}');
    await run('ip', ['netns', 'add', netns]);
    await run('ip', ['netns', 'add', foreign]);
    for (const kind of ['cgroup', 'runc_state', 'lease', 'mark', 'record', 'network_namespace']) {
      await waitFor(`a ${kind} to be removed`, async () => {
        const removed = await metric(`esb_agent_leaks_repaired_total{kind="${kind}"}`);
        expect(removed).toBeLessThanOrEqual(1);
        return removed === 1;
      });
    }
    expect([cgroup, state, mark, record, `/run/netns/${netns}`].filter((path) => existsSync(path))).toEqual([]);
    expect(await agent.lab.ctr('leases', 'list', '-q')).not.toContain(lease);
    expect(existsSync(`/run/netns/${foreign}`)).toBe(true);
    expect(agent.log().filter(({ msg }) => msg === 'leftovers removed')).toContainEqual(
      expect.objectContaining({ name: id, kinds: expect.arrayContaining(['cgroup', 'runc_state']) }),
    );
    expect(await agent.taskState((await agent.worker('hello')).status?.containerID ?? '')).toBeDefined();
  });

  it('says on its LambdaNode what it cannot remove, for as long as that is so', async () => {
    const id = containerNamed('stuck');
    const { folder } = agent.lab;
    const rootfs = join(folder, 'state/io.containerd.runtime.v2.task/esb', id, 'rootfs');
    const upper = join(folder, 'root/io.containerd.snapshotter.v1.overlayfs/of-a-test');
    await mkdir(rootfs, { recursive: true });
    await mkdir(join(upper, 'fs'), { recursive: true });
    await mkdir(join(upper, 'work'), { recursive: true });
    const options = `lowerdir=/usr/share/doc,upperdir=${upper}/fs,workdir=${upper}/work`;
    await run('mount', ['-t', 'overlay', 'overlay', '-o', options, rootfs]);
    // Somebody who works in there keeps it from being unmounted.
    const guest = spawn('sleep', ['600'], { cwd: rootfs, stdio: 'ignore' });
    onTestFinished(async () => {
      guest.kill('SIGKILL');
      await run('umount', ['-l', rootfs], { mayFail: true });
      await rm(upper, { recursive: true, force: true });
    });
    const node = await clean('False');
    const condition = node.status?.conditions?.find(({ type }) => type === 'Clean');
    expect(condition).toMatchObject({
      reason: 'RepairFailed',
      message: expect.stringContaining(`mount of ${id}`),
    });
    expect(node.status?.conditions?.find(({ type }) => type === 'Ready')?.status).toBe('True');
    expect(await metric('esb_agent_leaks_failed_total{kind="mount"}')).toBeGreaterThan(0);
    expect(await metric('esb_agent_node_condition{type="Clean"}')).toBe(0);
    guest.kill('SIGKILL');
    await clean('True');
    expect(existsSync(rootfs)).toBe(false);
    expect(await metric('esb_agent_leaks_repaired_total{kind="mount"}')).toBe(1);
  });

  it('lives without containerd, though it is not ready', async () => {
    await agent.lab.killContainerd();
    await waitFor('not to be ready', async () => (await agent.health('/readyz')).startsWith('503 '));
    expect(await agent.health('/healthz')).toBe('200 ok');
    expect(await agent.health('/readyz')).toMatch(/^503 RuntimeUnavailable: /);
    expect(await metric('esb_agent_node_condition{type="ContainerdReady"}')).toBe(0);
    await waitFor('an audit to fail', async () => ((await metric('esb_agent_audits_total{result="failed"}')) ?? 0) > 0);
    await agent.lab.startContainerd();
    await agent.untilServing();
    expect(await agent.health('/healthz')).toBe('200 ok');
  });
});
