import { readdir } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readMarks } from '../../../src/agent/invoke/in-flight-marker.ts';
import { type DockerAgentLab, startDockerAgentLab } from '../../support/agent-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const hasRetired = (node: { status?: { conditions?: readonly { type: string; status: string }[] } }): boolean =>
  (node.status?.conditions ?? []).some(({ type, status }) => type === 'Retired' && status === 'True');

describe('a worker on a node with the real agent and a Docker engine', () => {
  let lab: DockerAgentLab;

  beforeAll(async () => {
    lab = await startDockerAgentLab();
    await lab.startAgent();
    await lab.untilServing();
  });
  afterAll(async () => {
    await lab?.close();
  });
  /** State in the engine, such as `running`; empty for none. */
  const state = async (containerId: string | undefined): Promise<string> =>
    (
      await lab.lab.docker(
        ...['container', 'ls', '--all', '--filter', `name=^/?${containerId}$`, '--format', '{{.State}}'],
      )
    ).trim();

  it('registers the node with the version of the engine', async () => {
    // Each becomes known on its own, and is told at the next write.
    const { status } = await lab.waitForNode(
      'to have told everything',
      (node) =>
        node.status?.versions?.containerd !== undefined &&
        ['Ready', 'ContainerdReady', 'NetworkReady', 'DiskReady'].every((wanted) =>
          (node.status?.conditions ?? []).some(({ type, status: is }) => type === wanted && is === 'True'),
        ),
    );
    expect(status?.versions?.containerd).toMatch(/^docker:\/\/\d+\.\d+\.\d+/);
  });

  it('is applied, called, paused when idle, woken by a call, and removed without a trace', async () => {
    await lab.apply('whole', {
      desiredState: 'Running',
      env: [{ name: 'GREETING', value: 'hello' }],
    });
    const running = await lab.waitForPhase('whole', 'Running');
    const { address, containerID, image } = running.status ?? {};
    expect(address).toEqual({ ip: expect.stringMatching(/^\d+\.\d+\.\d+\.\d+$/) });
    expect(image).toMatch(/^127\.0\.0\.1:\d+\/worker@sha256:[0-9a-f]{64}$/);
    // Output is on its way to the log for a moment, for which the agent does not wait long.
    const first = await lab.invoke(running, { payload: { print: 'spoken', sleepMs: 1_000 }, tailLog: true });
    expect(first).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
    expect(JSON.parse(first.body)).toMatchObject({ counter: 1, env: { GREETING: 'hello' } });
    expect(first.logTail).toContain('spoken');

    await lab.patch('whole', { spec: { idlePolicy: { pauseAfterSeconds: 1 } } });
    const paused = await lab.waitForPhase('whole', 'Paused');
    expect(paused.status?.containerID).toBe(containerID);
    expect(await state(containerID)).toBe('paused');

    const woken = await lab.invoke(paused);
    expect(woken).toMatchObject({ outcome: 'OUTCOME_ANSWERED', start: expect.stringMatching(/paused/i) });
    expect(JSON.parse(woken.body)).toMatchObject({ counter: 2 });

    await lab.remove('whole');
    expect(await state(containerID)).toBe('');
    expect(await lab.lab.leftovers()).toEqual([]);
  });

  it('goes and comes back with its desired state', async () => {
    await lab.apply('resting', { desiredState: 'Paused' });
    const { status } = await lab.waitForPhase('resting', 'Paused');
    await lab.patch('resting', { spec: { desiredState: 'Absent' } });
    await lab.waitForPhase('resting', 'Absent');
    expect(await state(status?.containerID)).toBe('');
    const cold = await lab.invoke(await lab.worker('resting'));
    expect(cold).toMatchObject({ outcome: 'OUTCOME_ANSWERED', start: expect.stringMatching(/absent/i) });
    await lab.remove('resting');
  });

  it('lives on when the agent is killed, and is served by the next one as it is', async () => {
    await lab.apply('kept', { desiredState: 'Running' });
    await lab.apply('frozen', { desiredState: 'Paused', wakePolicy: 'Never' });
    const kept = await lab.waitForPhase('kept', 'Running');
    const frozen = await lab.waitForPhase('frozen', 'Paused');
    expect(await lab.invoke(kept)).toMatchObject({ outcome: 'OUTCOME_ANSWERED', start: 'running' });
    // The mark of a call outlives it by a moment, and a worker that is marked would be restarted.
    await waitFor('the mark to be taken back', () => readMarks(lab.runDir).every(({ busy }) => !busy));
    await lab.killAgent();
    expect(await state(kept.status?.containerID)).toBe('running');
    await lab.startAgent();
    await lab.untilServing();
    expect(JSON.parse((await lab.invoke(kept)).body)).toMatchObject({ counter: 2 });
    expect(await state(frozen.status?.containerID)).toBe('paused');
    expect((await lab.worker('kept')).status?.containerID).toBe(kept.status?.containerID);
    await lab.remove('frozen');
    await lab.remove('kept');
  });

  it('is called while the engine is away, and is paused again once it is back', async () => {
    await lab.apply('alone', { desiredState: 'Running' });
    const worker = await lab.waitForPhase('alone', 'Running');
    await lab.lab.killEngine();
    await lab.waitForNode('to say so', (node) =>
      (node.status?.conditions ?? []).some(({ type, status }) => type === 'ContainerdReady' && status === 'False'),
    );
    expect(JSON.parse((await lab.invoke(worker)).body)).toMatchObject({ counter: 1 });
    await lab.lab.startEngine();
    await lab.waitForNode('to be ready again', (node) =>
      (node.status?.conditions ?? []).some(({ type, status }) => type === 'Ready' && status === 'True'),
    );
    await lab.patch('alone', { spec: { desiredState: 'Paused' } });
    await lab.waitForPhase('alone', 'Paused');
    expect(await state(worker.status?.containerID)).toBe('paused');
    await lab.remove('alone');
  });

  it('goes with the node when that is retired, and the engine keeps what is not ours', async () => {
    await lab.lab.docker('container', 'create', '--network', 'none', '--name', 'foreign', lab.lab.image);
    await lab.apply('last', { desiredState: 'Running' });
    await lab.waitForPhase('last', 'Running');
    await lab.api.kubectl(['patch', 'ln', lab.nodeName, '--type=merge', '-p', '{"spec":{"retired":true}}']);
    // The controller takes the assignments away; nothing of the worker may be left when its node says that it is empty.
    await lab.remove('last');
    await lab.waitForNode('to be retired', hasRetired);
    const rest = (await lab.lab.leftovers()).filter((line) => line !== 'container foreign');
    expect(rest).toEqual([]);
    const networks = await lab.lab.docker('network', 'ls', '--format', '{{.Name}}');
    expect(networks.split('\n')).not.toContain('esb');
    await waitFor('the files to go', async () => (await readdir(lab.stateDir).catch(() => [])).length === 0);
  });
});
