import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { LambdaNode } from '../../../src/api/lambda-node.ts';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { run } from '../../support/command.ts';
import { waitFor } from '../../support/wait-for.ts';

/** 30 in full (`ESB_REST_SECONDS=30`). */
const restSeconds = Number(process.env.ESB_REST_SECONDS ?? 15);
/** Five minutes in full (`ESB_OUTAGE_SECONDS=300`). */
const outageSeconds = Number(process.env.ESB_OUTAGE_SECONDS ?? 5);

const is =
  (type: string, status: string, reason?: string) =>
  (object: LambdaNode | LambdaWorker): boolean =>
    (object.status?.conditions ?? []).some(
      (each) => each.type === type && each.status === status && (reason === undefined || each.reason === reason),
    );

describe('a node with the real agent', () => {
  let lab: AgentLab;
  let worker: LambdaWorker;

  beforeAll(async () => {
    lab = await startAgentLab({ audit: true });
    await lab.startAgent();
    await lab.untilServing();
    await lab.apply('hello');
    worker = await lab.waitForPhase('hello', 'Running');
  });
  afterAll(() => lab?.close());

  it('writes nothing but its lease while nothing happens, and rests', {
    tags: ['P26'],
    timeout: (restSeconds + 120) * 1_000,
  }, async () => {
    const cpu = async (): Promise<number> => {
      const text = await run('cat', [`/proc/${lab.agent.pid}/stat`]);
      const fields = text.stdout.slice(text.stdout.lastIndexOf(')') + 2).split(' ');
      return (Number(fields[11]) + Number(fields[12])) * 10;
    };
    // The list of images is read at the start and once a minute. The worker's image is to be in the first list, or the
    // agent reports it while nothing else happens.
    await lab.stopAgent();
    await lab.startAgent();
    await lab.untilServing();
    await lab.waitForNode(
      'to tell of the image and the worker',
      ({ status }) => (status?.images ?? []).length > 0 && status?.allocated?.workers === 1,
    );
    const writes = (): readonly string[] =>
      lab.api
        .auditEvents()
        .filter(
          ({ user, verb, stage }) =>
            user.username.startsWith('esb:agent:') &&
            stage === 'ResponseComplete' &&
            !['get', 'list', 'watch'].includes(verb),
        )
        .map(({ verb, objectRef }) => `${verb} ${objectRef?.resource}`);
    const look = async () => ({ at: performance.now(), writes: writes().length, cpu: await cpu() });
    let rest = await look();
    await waitFor(
      `${restSeconds} s in which the agent writes nothing but its lease`,
      async () => {
        if (
          writes()
            .slice(rest.writes)
            .some((write) => write !== 'patch leases')
        ) {
          rest = await look();
        }
        return performance.now() - rest.at >= restSeconds * 1_000;
      },
      { timeoutMs: (restSeconds + 45) * 1_000, everyMs: 1_000 },
    );
    const seconds = (performance.now() - rest.at) / 1_000;
    const leases = writes().length - rest.writes;
    expect(leases).toBeGreaterThan(0);
    // One every ten seconds, and one more where the machine held some up.
    expect(leases).toBeLessThanOrEqual(seconds / 10 + 2);
    // 1 % is the budget; the machine of a test is shared, and Node's own start-up work may still go on.
    expect(((await cpu()) - rest.cpu) / (seconds * 10)).toBeLessThan(2);
  });

  it('survives the end of containerd: workers serve throughout, the rest recovers', async () => {
    await lab.lab.killContainerd();
    expect((await lab.invoke(worker)).outcome).toBe('OUTCOME_ANSWERED');
    const down = await lab.waitForNode('to say so', is('ContainerdReady', 'False'));
    expect(down.status?.conditions?.find(({ type }) => type === 'Ready')).toMatchObject({ status: 'False' });
    expect((await lab.invoke(worker)).outcome).toBe('OUTCOME_ANSWERED');
    await lab.lab.startContainerd();
    await lab.waitForNode('to recover', is('Ready', 'True'));
    await lab.apply('after');
    const after = await lab.waitForPhase('after', 'Running');
    expect((await lab.invoke(after)).outcome).toBe('OUTCOME_ANSWERED');
    expect((await lab.worker('hello')).status?.containerID).toBe(worker.status?.containerID);
    await lab.remove('after');
  });

  it('says that its disk is full, and recovers when there is room', async () => {
    const target = join(lab.stateDir, 'fill');
    // A file system of its own for the whole state would need a restart: the folder is judged by its free space.
    await mkdir(target, { recursive: true });
    const small = join(lab.lab.folder, 'small');
    await mkdir(small);
    await run('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', small]);
    onTestFinished(async () => {
      await run('umount', ['-l', small], { mayFail: true });
    });
    await lab.stopAgent();
    await run('cp', ['-a', `${lab.stateDir}/.`, small]);
    await run('mount', ['--bind', small, lab.stateDir]);
    onTestFinished(async () => {
      await run('umount', ['-l', lab.stateDir], { mayFail: true });
    });
    await lab.startAgent();
    await lab.untilServing();
    await run('dd', ['if=/dev/zero', `of=${small}/filler`, 'bs=1M'], { mayFail: true });
    await lab.waitForNode('to say so', is('DiskReady', 'False', 'DiskFull'));
    expect((await lab.invoke(worker)).outcome).toBe('OUTCOME_ANSWERED');
    await run('rm', [`${small}/filler`]);
    await lab.waitForNode('to recover', is('Ready', 'True'));
    await lab.stopAgent();
    await run('umount', ['-l', lab.stateDir]);
    await lab.startAgent();
    await lab.untilServing();
  });

  it('says which plugin is missing, and recovers when it is back', async () => {
    const plugins = join(lab.lab.folder, 'plugins');
    await mkdir(plugins);
    const tools = (await import('../../support/tools.ts')).toolsFolder();
    await run('cp', [...['bridge', 'host-local', 'loopback'].map((name) => join(tools, name)), plugins]);
    await lab.stopAgent();
    await lab.startAgent(['--cni-bin-dir', plugins]);
    await lab.untilServing();
    await rename(join(plugins, 'bridge'), join(plugins, 'egdirb'));
    const node = await lab.waitForNode('to say so', is('NetworkReady', 'False', 'PluginMissing'));
    expect(node.status?.conditions?.find(({ type }) => type === 'NetworkReady')?.message).toContain('bridge');
    expect((await lab.invoke(worker)).outcome).toBe('OUTCOME_ANSWERED');
    await rename(join(plugins, 'egdirb'), join(plugins, 'bridge'));
    await lab.waitForNode('to recover', is('Ready', 'True'));
    await lab.stopAgent();
    await lab.startAgent();
    await lab.untilServing();
  });

  it('says that its subnet collides with a range of the cluster', async () => {
    await lab.stopAgent();
    await lab.startAgent(['--service-cidr', '10.234.128.0/20']);
    await lab.waitForNode('to say so', is('NetworkReady', 'False', 'SubnetCollision'));
    await lab.stopAgent();
    await lab.startAgent();
    await lab.untilServing();
    await lab.waitForNode('to recover', is('Ready', 'True'));
  });

  it('keeps its workers from ranges that it is told of', async () => {
    const denied = (): Promise<string> => lab.onNode('nft', 'list', 'set', 'inet', 'esb', 'denied');
    expect(await denied()).not.toContain('10.235.0.0/16');
    await lab.stopAgent();
    await lab.startAgent(['--deny-cidr', '10.235.0.0/16,192.0.2.0/24']);
    await lab.untilServing();
    await waitFor('the rules', async () => (await denied()).includes('10.235.0.0/16'));
    expect(await denied()).toContain('192.0.2.0/24');
    await lab.stopAgent();
    await lab.startAgent();
    await lab.untilServing();
    await waitFor('the rules', async () => !(await denied()).includes('10.235.0.0/16'));
  });

  it('mirrors the labels and the cordon of the Node of its name', async () => {
    await lab.api.kubectl(
      ['apply', '-f', '-'],
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name: lab.nodeName, labels: { zone: 'a' } },
      }),
    );
    await lab.waitForNode('to have its labels', ({ metadata }) => metadata.labels?.zone === 'a');
    await lab.api.kubectl(['patch', 'node', lab.nodeName, '--type=merge', '-p', '{"spec":{"unschedulable":true}}']);
    await lab.waitForNode('to be cordoned', ({ status }) => status?.unschedulable === true);
    await lab.api.kubectl(['delete', 'node', lab.nodeName, '--wait=false']);
    await lab.waitForNode('to be its own again', ({ status }) => status?.unschedulable === undefined);
  });

  it('is registered again when somebody deletes its LambdaNode', async () => {
    await lab.api.kubectl(['delete', 'ln', lab.nodeName]);
    // The agent looks once a minute, and sooner when there is a change to report.
    await lab.apply('told');
    await waitFor('the registration', () => lab.node(), { timeoutMs: 90_000, everyMs: 1_000 });
    await lab.waitForNode('to be ready', is('Ready', 'True'));
    await lab.waitForPhase('told', 'Running');
    await lab.remove('told');
  });

  it.each([
    ['an image that is not there', { image: '127.0.0.1:1/nobody:1' }, /Unreachable|Failed|NotFound/],
    ['a command that is not there', { command: ['/no/such/program'] }, /Failed|Exited/],
  ])('says what is wrong with %s', async (_, spec, reason) => {
    await lab.apply('broken', spec);
    const broken = await lab.waitForWorker('broken', 'to say so', ({ status }) =>
      (status?.conditions ?? []).some(
        (each) => each.type === 'Ready' && each.status === 'False' && reason.test(each.reason),
      ),
    );
    expect(broken.status?.conditions?.find(({ type }) => type === 'Ready')?.message).not.toBe('');
    await lab.remove('broken');
  });

  it('keeps the status while the API server is frozen, and brings it later', {
    timeout: (outageSeconds + 120) * 1_000,
  }, async () => {
    lab.api.pause();
    try {
      expect((await lab.invoke(worker)).outcome).toBe('OUTCOME_ANSWERED');
      // The length of the outage is what is tested.
      await delay(outageSeconds * 1_000);
      expect((await lab.invoke(worker)).outcome).toBe('OUTCOME_ANSWERED');
    } finally {
      lab.api.continue();
    }
    await lab.patch('hello', { spec: { desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } } });
    await lab.waitForPhase('hello', 'Paused');
  });

  it('takes a new client authority without a restart', async () => {
    await writeFile(join(lab.lab.folder, 'marker'), '');
    await lab.api.kubectl([
      'patch',
      'configmap',
      '-n',
      'esb-system',
      'esb-client-ca',
      '--type=merge',
      '-p',
      JSON.stringify({ data: { 'ca.crt': await anotherAuthority() } }),
    ]);
    await waitFor('the former client to be shut out', async () => {
      try {
        await lab.unary('list', {});
        return false;
      } catch {
        return true;
      }
    });
  });
});

async function anotherAuthority(): Promise<string> {
  const { createCertificateAuthority } = await import('../../support/certificate-authority.ts');
  return (await createCertificateAuthority()).certificate;
}
