import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { isTrue, nodeConditions } from '../../../src/api/condition.ts';
import { lambdaNodes } from '../../../src/api/lambda-node.ts';
import { nodeStatePatch } from '../../../src/controller/nodes/node-state.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

describe('a worker on a node with the real agent', () => {
  let lab: AgentLab;

  beforeAll(async () => {
    lab = await startAgentLab();
    await lab.startAgent(['--worker-metrics']);
    await lab.untilServing();
  });
  afterAll(() => lab?.close());

  it('registers the node with its certificate, its versions and its conditions', async () => {
    const node = await lab.waitForNode('to be ready', ({ status }) =>
      (status?.conditions ?? []).some(({ type, status: is }) => type === 'Ready' && is === 'True'),
    );
    expect(node.status).toMatchObject({
      endpoint: '127.0.0.1:9443',
      certificate: expect.stringMatching(/^-----BEGIN CERTIFICATE-----/),
      capacity: { memoryMiB: 4096, workers: 1000 },
      versions: {
        agent: expect.any(String),
        containerd: expect.stringMatching(/2\./),
        architecture: 'amd64',
      },
    });
    const lease = await lab.api.kubectl(['get', 'lease', '-n', 'esb-system', 'node-1', '-o', 'name']);
    expect(lease.trim()).toBe('lease.coordination.k8s.io/node-1');
  });

  it('is ready again at once where the controller has told that nothing was heard, and keeps what else it told', async () => {
    const admin = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: lab.api.adminKubeconfig }) });
    onTestFinished(() => admin.close());
    const told = nodeStatePatch(
      await lab.node(),
      { life: { kind: 'unreachable', because: 'RateLimited' }, closure: 'unheld' },
      Date.now(),
    );
    if (told === undefined) {
      throw new Error('the node is told to be unreachable');
    }
    await admin.patch(lambdaNodes, { name: lab.nodeName }, told, { subresource: 'status' });
    const began = performance.now();
    const { status } = await lab.waitForNode('to be ready again', (node) =>
      isTrue(node.status?.conditions, nodeConditions.ready),
    );
    expect(performance.now() - began).toBeLessThan(8_000);
    expect(isTrue(status?.conditions, nodeConditions.unheld)).toBe(true);
    const heard = nodeStatePatch(await lab.node(), { life: { kind: 'fresh' }, closure: undefined }, Date.now());
    await admin.patch(lambdaNodes, { name: lab.nodeName }, heard ?? told, { subresource: 'status' });
    const after = (await lab.node()).status?.conditions;
    expect(after?.map(({ type }) => type)).not.toContain('Unheld');
    expect(isTrue(after, nodeConditions.ready)).toBe(true);
  });

  it('starts, is called, pauses, and is woken by a call', async () => {
    await lab.apply('hello');
    const running = await lab.waitForPhase('hello', 'Running');
    const containerId = running.status?.containerID ?? '';
    expect(await lab.taskState(containerId)).toBe('RUNNING');
    expect(running.status?.address?.ip).toMatch(/^10\.234\./);
    const first = await lab.invoke(running);
    expect(first).toMatchObject({ outcome: 'OUTCOME_ANSWERED', start: 'running' });
    expect(JSON.parse(first.body)).toMatchObject({ counter: 1 });

    await lab.patch('hello', { spec: { desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } } });
    const paused = await lab.waitForPhase('hello', 'Paused');
    expect(paused.status?.pausedAt).toBeDefined();
    expect(await lab.taskState(containerId)).toBe('PAUSED');
    const second = await lab.invoke(paused);
    expect(second).toMatchObject({ outcome: 'OUTCOME_ANSWERED', start: 'paused' });
    expect(JSON.parse(second.body)).toMatchObject({ counter: 2 });
    await waitFor('the worker to rest again', async () => (await lab.taskState(containerId)) === 'PAUSED');
    const rested = await lab.waitForWorker(
      'hello',
      'to tell of the call',
      ({ status }) => status?.phase === 'Paused' && status.lastInvocationTime === second.stamp,
    );
    // Its own stamp is no wish to be woken.
    expect(rested.status?.observedInvocationTime).toBe(second.stamp);
  });

  it('is woken by a foreign stamp alone, once, and acknowledges it', async () => {
    await lab.waitForPhase('hello', 'Paused');
    const stamp = '2031-05-06T07:08:09.000123Z';
    await lab.patch('hello', { status: { lastInvocationTime: stamp } }, 'status');
    const woken = await lab.waitForWorker(
      'hello',
      'to acknowledge',
      ({ status }) => status?.observedInvocationTime === stamp,
    );
    await lab.waitForPhase('hello', 'Paused');
    expect(woken.status?.restartCount).toBe(0);
  });

  it('refuses another epoch, and a worker that it does not have', { tags: ['P32'] }, async () => {
    const worker = await lab.worker('hello');
    expect(await lab.invoke(worker, { epoch: 7 })).toMatchObject({
      outcome: 'OUTCOME_REFUSED',
      reason: 'Fenced',
    });
    const stranger = { ...worker, metadata: { ...worker.metadata, uid: 'nobody' } };
    expect(await lab.invoke(stranger)).toMatchObject({ outcome: 'OUTCOME_REFUSED', reason: 'NotFound' });
  });

  it('goes and comes back with its desired state', async () => {
    await lab.patch('hello', { spec: { desiredState: 'Absent' } });
    await lab.waitForPhase('hello', 'Absent');
    expect(await lab.lab.ctr('tasks', 'list', '-q')).toBe('');
    const absent = await lab.worker('hello');
    const cold = await lab.invoke(absent);
    expect(cold).toMatchObject({ outcome: 'OUTCOME_ANSWERED', start: 'absent' });
    expect(JSON.parse(cold.body)).toMatchObject({ counter: 1 });
  });

  it('gives its environment from Secrets, and its log', async () => {
    await lab.api.kubectl(['create', 'secret', 'generic', 'greeting', '--from-literal=text=moin']);
    const role = ['role', 'esb-secret-greeting', '--verb=get', '--resource=secrets', '--resource-name=greeting'];
    await lab.api.kubectl(['create', ...role]);
    const binding = ['rolebinding', 'esb-secret-greeting', '--role=esb-secret-greeting', '--group=esb:agents'];
    await lab.api.kubectl(['create', ...binding]);
    await lab.apply('secretive', {
      env: [{ name: 'GREETING', valueFrom: { secretKeyRef: { name: 'greeting', key: 'text', optional: false } } }],
    });
    const worker = await lab.waitForPhase('secretive', 'Running');
    // Output is on its way to the log for a moment, for which the agent does not wait long.
    const payload = { print: 'a line of its own', sleepMs: 1_000 };
    const answer = await lab.invoke(worker, { payload, tailLog: true });
    expect(JSON.parse(answer.body).env).toMatchObject({ GREETING: 'moin' });
    expect(answer.logTail).toContain('a line of its own');
  });

  it('has Events of what happened to it', async () => {
    await lab.invoke(await lab.waitForPhase('secretive', 'Running'), { payload: { exit: 3 } });
    await waitFor('the Event', async () =>
      (await lab.api.kubectl(['describe', 'lw', 'secretive'])).includes('RuntimeExited'),
    );
  });

  it('shows what it takes of the node', { tags: ['P13'] }, async () => {
    await lab.waitForNode('to count it', ({ status }) => (status?.allocated?.workers ?? 0) >= 1);
    expect(await lab.health('/metrics')).toContain('esb_agent_workers{phase="Running"}');
    const page = await lab.health('/metrics/workers');
    const figures = (name: string) =>
      Number(new RegExp(`^${name}\\{.*worker="secretive".*\\} (.+)$`, 'm').exec(page)?.[1]);
    expect(figures('esb_worker_cpu_usage_seconds_total')).toBeGreaterThan(0);
    expect(figures('esb_worker_memory_working_set_bytes')).toBeGreaterThan(2 ** 20);
  });

  it('leaves nothing behind when it is deleted', async () => {
    await Promise.all(['hello', 'secretive'].map((name) => lab.remove(name)));
    await waitFor('everything to be gone', async () => {
      const left = await lab.lab.ctr('containers', 'list', '-q');
      const snapshots = (await lab.lab.ctr('snapshots', 'list')).split('\n').filter((l) => l.endsWith(' Active'));
      return left === '' && snapshots.length === 0;
    });
    await lab.waitForNode('to count nothing', ({ status }) => status?.allocated?.workers === 0);
  });

  it('lets nobody start a second agent on the node', async () => {
    const { code, stderr } = await lab.runSecondAgent();
    expect(code).toBe(1);
    expect(stderr).toContain('127.0.0.1:9443 is taken: another agent runs on this node');
  });
});
