import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { lambdaNodes } from '../../../src/api/lambda-node.ts';
import { lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { leases, type Node, nodes, type Pod, pods } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { type ApiServer, startApiServer } from '../../support/api-server.ts';
import { clearObjects } from '../../support/clear-objects.ts';
import { type FakeNode, startFakeNode } from '../../support/fake-node.ts';
import { type OwnedProcess, startOwnedProcess } from '../../support/owned-process.ts';
import { waitFor } from '../../support/wait-for.ts';
import { workerManifests } from '../../support/worker-manifests.ts';

const root = join(import.meta.dirname, '../../..');
/** How many of the controllers' seconds go by in one. */
const SPEED = 4;
const NODES = 10;
/** A minute of the controllers, in which a silent node would be lost and its workers moved. */
const MINUTE_MS = 60_000 / SPEED;
const namespace = 'default';

/** Ten nodes whose agents are played by the test, and controllers that are processes of their own. */
describe('nodes that die', () => {
  let server: ApiServer;
  let admin: KubeClient;
  const fleet: FakeNode[] = [];
  const controllers = new Map<string, OwnedProcess>();

  beforeAll(async () => {
    server = await startApiServer();
    for (const part of ['crds', 'manifests/namespace.yaml', 'manifests/rbac.yaml', 'manifests/local']) {
      await server.kubectl(['apply', '-f', join(root, part)]);
    }
    admin = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: server.adminKubeconfig }) });
  });

  afterEach(async () => {
    await Promise.all([...controllers.values()].map((one) => one.kill()));
    controllers.clear();
    await Promise.all(fleet.splice(0).map((node) => node.die()));
    await clearObjects(admin, lambdaWorkers);
    await clearObjects(admin, lambdaNodes);
    await admin.delete(leases, { namespace: 'esb-system', name: 'esb-controller' });
  });

  afterAll(async () => {
    await admin.close();
    await server.stop();
  });

  const startController = async (identity: string): Promise<void> => {
    controllers.set(
      identity,
      await startOwnedProcess({
        program: process.execPath,
        args: [
          join(root, 'test/support/fast-controller.ts'),
          String(SPEED),
          ...['--kubeconfig', await server.kubeconfig('esb:controller')],
          // Each node is to have workers.
          ...['--health', '127.0.0.1:0', '--identity', identity, '--placement=spread'],
        ],
        logFile: join(server.folder, `${identity}.log`),
      }),
    );
  };
  const leads = (identity: string) =>
    waitFor(
      `${identity} to lead`,
      async () => {
        const lease = await admin.get(leases, { namespace: 'esb-system', name: 'esb-controller' });
        return lease?.spec?.holderIdentity?.startsWith(identity);
      },
      { timeoutMs: 60_000 },
    );
  const startNodes = async (): Promise<void> => {
    for (let number = 0; number < NODES; number++) {
      fleet.push(
        await startFakeNode(admin, `node-${number}`, {
          capacity: { memoryMiB: 65_536, milliCPU: 100_000, workers: 100 },
        }),
      );
    }
  };
  const die = (...numbers: readonly number[]) => Promise.all(numbers.map(async (number) => await fleet[number]?.die()));
  const createWorkers = (prefix: string, count: number) =>
    server.kubectl(
      ['create', '-f', '-'],
      workerManifests(
        namespace,
        Array.from({ length: count }, (_, number) => `${prefix}-${number}`),
      ),
    );
  const workers = async () => (await admin.list(lambdaWorkers)).items;
  /** Where each worker is, with the number of the assignment. */
  const assignments = async (): Promise<Readonly<Record<string, string>>> =>
    Object.fromEntries(
      (await workers()).map(({ metadata, status }) => [
        metadata.name,
        `${status?.assignment?.nodeName} ${status?.assignment?.epoch}`,
      ]),
    );
  const nodesOf = async (prefix: string): Promise<readonly (string | undefined)[]> =>
    (await workers())
      .filter(({ metadata }) => metadata.name.startsWith(prefix))
      .map(({ status }) => status?.assignment?.nodeName);
  const allAssigned = (prefix: string, count: number) =>
    waitFor(
      `${count} workers to be assigned`,
      async () => {
        const found = await nodesOf(prefix);
        return found.length === count && found.every((node) => node !== undefined);
      },
      { timeoutMs: 60_000, everyMs: 50 },
    );
  const conditionsOf = async (name: string) =>
    Object.fromEntries(
      ((await admin.get(lambdaNodes, { name }))?.status?.conditions ?? []).map(({ type, status, reason }) => [
        type,
        `${status} ${reason}`,
      ]),
    );
  const told = (name: string, type: string, what: string | undefined) =>
    waitFor(`${name} to be ${type} ${what ?? 'no more'}`, async () => (await conditionsOf(name))[type] === what, {
      timeoutMs: 90_000,
    });

  it('get no worker from the next leader after the one that knew of them was killed, and nothing moves twice', {
    timeout: 240_000,
  }, async () => {
    await startNodes();
    await startController('first');
    await leads('first');
    await createWorkers('early', 20);
    await allAssigned('early', 20);
    await startController('second');
    const dead = ['node-0', 'node-1', 'node-2'];
    await die(0, 1, 2);
    for (const name of dead) {
      await told(name, 'Lost', 'True LeaseExpired');
      expect((await conditionsOf(name)).Ready).toBe('Unknown NodeUnreachable');
    }
    await waitFor('the workers to be moved', async () =>
      (await nodesOf('early')).every((node) => !dead.includes(node ?? '')),
    );
    const settled = await assignments();

    await controllers.get('first')?.kill();
    await createWorkers('late', 30);
    await leads('second');
    await allAssigned('late', 30);
    const late = await assignments();
    expect((await nodesOf('late')).filter((node) => dead.includes(node ?? ''))).toEqual([]);
    expect(late).toMatchObject(settled);

    // Nothing may happen meanwhile.
    await delay(2 * MINUTE_MS);
    expect(await assignments()).toEqual(late);
    expect((await conditionsOf('node-0')).Lost).toBe('True LeaseExpired');

    fleet[0]?.live();
    await told('node-0', 'Lost', undefined);
    await told('node-0', 'Ready', 'True Ready');
  });

  it('are left one after the other, one in ten seconds, where four of ten die at once', {
    timeout: 240_000,
  }, async () => {
    await startNodes();
    await startController('first');
    await leads('first');
    await createWorkers('early', 40);
    await allAssigned('early', 40);
    const dead = ['node-0', 'node-1', 'node-2', 'node-3'];
    const began = performance.now();
    await die(0, 1, 2, 3);
    const emptiedAt = new Map<string, number>();
    await waitFor(
      'the dead nodes to be empty',
      async () => {
        const taken = new Set(await nodesOf('early'));
        for (const name of dead) {
          if (!taken.has(name) && !emptiedAt.has(name)) {
            emptiedAt.set(name, performance.now() - began);
          }
        }
        return emptiedAt.size === dead.length;
      },
      { timeoutMs: 120_000, everyMs: 50 },
    );
    const times = [...emptiedAt.values()].toSorted((a, b) => a - b).map((ms) => (ms * SPEED) / 1_000);
    // A slow machine empties a node late, and the next one sooner after that: no gap, but each moment has a least.
    for (const [index, at] of times.entries()) {
      expect(at, `seconds: ${times.join(' ')}`).toBeGreaterThan(30 + 10 * index);
    }
    expect(times.at(-1), `seconds: ${times.join(' ')}`).toBeLessThan(120);
    expect(new Set(Object.values(await assignments()).map((text) => text.split(' ')[1]))).toEqual(new Set(['1', '2']));
  });

  it('are unreachable and keep all their workers where every agent is away, over a change of the leader', {
    timeout: 240_000,
  }, async () => {
    await startNodes();
    await startController('first');
    await leads('first');
    await createWorkers('early', 20);
    await allAssigned('early', 20);
    const before = await assignments();
    await die(...fleet.keys());
    for (const { name } of fleet) {
      await told(name, 'Unreachable', 'True NoNodeHeard');
      expect((await conditionsOf(name)).Ready).toBe('Unknown NodeUnreachable');
    }
    await startController('second');
    await controllers.get('first')?.kill();
    await leads('second');
    // Nothing may happen meanwhile.
    await delay(2 * MINUTE_MS);
    expect(await assignments()).toEqual(before);
    expect((await workers()).map(({ status }) => status?.phase)).toEqual(Array(20).fill(undefined));

    for (const node of fleet) {
      node.live();
    }
    for (const { name } of fleet) {
      await told(name, 'Unreachable', undefined);
    }
    // Nothing may happen meanwhile.
    await delay(MINUTE_MS);
    expect(await assignments()).toEqual(before);
  });

  it('keep their workers while the Pod of the agent is being started, and lose them once that fails', {
    timeout: 240_000,
  }, async () => {
    const pod = { namespace: 'esb-system', name: 'esb-agent-0' };
    const podStatus = (reason: string) =>
      admin.patch<Pod>(
        pods,
        pod,
        {
          kind: 'merge',
          body: {
            status: {
              phase: 'Pending',
              containerStatuses: [
                {
                  name: 'agent',
                  ready: false,
                  restartCount: 0,
                  image: '',
                  imageID: '',
                  state: { waiting: { reason } },
                },
              ],
            },
          },
        },
        { subresource: 'status' },
      );
    await startNodes();
    await admin.create<Node>(nodes, { metadata: { name: 'node-0' } });
    await admin.patch<Node>(nodes, { name: 'node-0' }, { kind: 'merge', body: { spec: { taints: [] } } });
    await admin.patch<Node>(
      nodes,
      { name: 'node-0' },
      { kind: 'merge', body: { status: { conditions: [{ type: 'Ready', status: 'True' }] } } },
      { subresource: 'status' },
    );
    await admin.create<Pod>(pods, {
      metadata: { ...pod, labels: { 'app.kubernetes.io/name': 'esb', 'app.kubernetes.io/component': 'agent' } },
      spec: { nodeName: 'node-0', containers: [{ name: 'agent', image: 'esb:2' }] },
    });
    await podStatus('ContainerCreating');
    await startController('first');
    await leads('first');
    await createWorkers('early', 20);
    await allAssigned('early', 20);
    const before = await assignments();
    await die(0);
    await told('node-0', 'Unreachable', 'True AgentStarting');
    // Nothing may happen meanwhile.
    await delay(2 * MINUTE_MS);
    expect(await assignments()).toEqual(before);
    await podStatus('CrashLoopBackOff');
    await told('node-0', 'Lost', 'True LeaseExpired');
    await waitFor('the workers to be moved', async () => !(await nodesOf('early')).includes('node-0'));
  });
});
