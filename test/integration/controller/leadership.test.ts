import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { leases } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { type ApiServer, startApiServer } from '../../support/api-server.ts';
import { type FakeNode, startFakeNode } from '../../support/fake-node.ts';
import { type OwnedProcess, startOwnedProcess } from '../../support/owned-process.ts';
import { waitFor } from '../../support/wait-for.ts';
import { workerManifests } from '../../support/worker-manifests.ts';

const root = join(import.meta.dirname, '../../..');
/** Both bindings of the role, so that the audit log tells the two controllers apart. */
const users = { first: 'esb:controller', second: 'system:serviceaccount:esb-system:esb-controller' } as const;
type Name = keyof typeof users;

describe('two controllers', () => {
  let server: ApiServer;
  let admin: KubeClient;
  let node: FakeNode;
  const processes = new Map<Name, OwnedProcess>();

  const start = async (name: Name): Promise<void> => {
    processes.set(
      name,
      await startOwnedProcess({
        program: process.execPath,
        args: [
          join(root, 'src/main.ts'),
          'controller',
          '--kubeconfig',
          await server.kubeconfig(users[name]),
          '--health',
          '127.0.0.1:0',
          '--identity',
          name,
        ],
        logFile: join(server.folder, `${name}.log`),
      }),
    );
  };
  const holder = async (): Promise<string> => {
    const lease = await admin.get(leases, { namespace: 'esb-system', name: 'esb-controller' });
    return lease?.spec?.holderIdentity ?? '';
  };
  const leads = (name: Name) =>
    waitFor(`${name} to lead`, async () => (await holder()).startsWith(name), { timeoutMs: 60_000 });
  const createWorkers = (names: readonly string[]) =>
    server.kubectl(['create', '-f', '-'], workerManifests('default', names, { desiredState: 'Absent' }));
  const workers = async () => (await admin.list(lambdaWorkers)).items;
  const allAssigned = (count: number) =>
    waitFor(
      `${count} workers to be assigned`,
      async () => {
        const items = await workers();
        return items.length === count && items.every((worker) => worker.status?.assignment !== undefined);
      },
      { timeoutMs: 60_000 },
    );
  const names = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}-${index}`);
  /** Writes that the API server carried out. */
  const writesOf = (name: Name) =>
    server
      .auditEvents()
      .filter(
        (event) =>
          event.user.username === users[name] &&
          ['create', 'update', 'patch', 'delete'].includes(event.verb) &&
          (event.responseStatus?.code ?? 0) < 300,
      );

  beforeAll(async () => {
    server = await startApiServer({ audit: true });
    for (const part of ['crds', 'manifests/namespace.yaml', 'manifests/rbac.yaml', 'manifests/local']) {
      await server.kubectl(['apply', '-f', join(root, part)]);
    }
    admin = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: server.adminKubeconfig }) });
    node = await startFakeNode(admin, 'node-1');
  });

  afterAll(async () => {
    await Promise.all([...processes.values()].map((one) => one.kill()));
    await node.die();
    await admin.close();
    await server.stop();
  });

  it('take over from each other: a leader that was stopped and continued writes no more, and nothing is assigned twice', async () => {
    await start('first');
    await leads('first');
    await start('second');
    await createWorkers(names('early', 3));
    await allAssigned(3);

    // The leader is stopped with its hands full.
    const burst = createWorkers(names('burst', 40));
    await waitFor('the burst to begin', async () => (await workers()).length > 10, { everyMs: 10 });
    processes.get('first')?.signal('SIGSTOP');
    await burst;
    await leads('second');
    await createWorkers(names('late', 3));
    await allAssigned(46);
    // The length of the outage is what is tested.
    await delay(5_000);
    processes.get('first')?.signal('SIGCONT');
    const continuedAt = new Date().toISOString();
    await createWorkers(names('after', 3));
    await allAssigned(49);
    // Nothing may happen meanwhile.
    await delay(5_000);

    // A request that was stopped between the fence and the wire goes out when it continues. The API server refuses it
    // for its resourceVersion, which an Event has not.
    const late = writesOf('first').filter(
      (event) => event.requestReceivedTimestamp >= continuedAt && event.objectRef?.resource !== 'events',
    );
    expect(late).toEqual([]);
    expect((await workers()).map((worker) => worker.status?.assignment?.epoch)).toEqual(Array(49).fill(1));
    expect(processes.get('first')?.ended(), processes.get('first')?.output()).toBe(false);
    const assignments = [...writesOf('first'), ...writesOf('second')].filter(
      (event) => event.objectRef?.resource === 'lambdaworkers' && event.objectRef.subresource === 'status',
    );
    expect(assignments).toHaveLength(49);

    // The old leader is a candidate again, and gets its turn when the other leaves in order.
    processes.get('second')?.signal('SIGTERM');
    await leads('first');
    await waitFor('the second to end', () => processes.get('second')?.ended() === true);
    await createWorkers(['last']);
    await allAssigned(50);
  });
});
