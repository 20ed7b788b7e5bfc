import { waitFor } from '../../support/wait-for.ts';
import { type EsbCluster, nodeOf } from '../esb-cluster.ts';
import { expectNoFailure } from '../load.ts';
import type { Report } from '../report.ts';

const ENOUGH_CALLS = 100;
const CLIENTS = 4;

/** Operations on nodes: cordon, drain, delete. */
export async function nodesScenario(esb: EsbCluster, report: Report): Promise<void> {
  const { lab } = esb;
  const on = async (node: string): Promise<readonly string[]> =>
    (await esb.workers()).filter((worker) => nodeOf(worker) === node).map(({ metadata }) => metadata.name);

  await report.check('a node with workers has a guard and a reservation', async () => {
    const told = '{.metadata.name} {.status.phase} {.spec.containers[0].resources.requests.memory}';
    const requests = await lab.kubectl([
      ...['get', 'pods', '-n', 'esb-system', '-l', 'app.kubernetes.io/component=hold'],
      ...['-o', `jsonpath={range .items[*]}${told}, {end}`],
    ]);
    for (const { name } of lab.nodes) {
      if (!requests.includes(`esb-hold-${name} Running`) || !requests.includes(`esb-reserve-${name} Running`)) {
        throw new Error(`${name} has none: ${requests}`);
      }
    }
    return requests.trim();
  });

  await report.check('a cordoned node gets no worker', async () => {
    await lab.kubectl(['cordon', 'node-b']);
    try {
      const before = await on('node-b');
      await esb.applyWorkers('cordoned', 4);
      await esb.workersReady();
      const after = await on('node-b');
      if (after.length > before.length) {
        throw new Error(`node-b had ${before.join(', ')} and has ${after.join(', ')}`);
      }
      return `4 new ones are on node-a; node-b keeps its ${before.length}`;
    } finally {
      await lab.kubectl(['uncordon', 'node-b']);
    }
  });

  await report.check('kubectl drain moves the workers of a node under load', async () => {
    const before = await on('node-a');
    if (before.length === 0) {
      throw new Error('node-a has no worker to move');
    }
    const load = await esb.load('node-b', ['hello', 'second'], CLIENTS);
    try {
      await load.goOn(ENOUGH_CALLS);
      await lab.kubectl([...['drain', 'node-a', '--ignore-daemonsets', '--delete-emptydir-data', '--timeout=240s']]);
      const left = await on('node-a');
      if (left.length > 0) {
        throw new Error(`drain returned, and node-a has ${left.join(', ')}`);
      }
      const tasks = await esb.tasks('node-a');
      if (tasks.length > 0) {
        throw new Error(`drain returned, and containers of node-a are ${tasks.join(', ')}`);
      }
      await esb.workersReady();
      await load.goOn(ENOUGH_CALLS);
    } finally {
      await lab.kubectl(['uncordon', 'node-a']);
    }
    const result = await load.result();
    return `${before.length} workers moved; ${expectNoFailure(result, ENOUGH_CALLS)}`;
  });

  await report.check('a node that is uncordoned gets workers again', async () => {
    await esb.rolledOut();
    await esb.applyWorkers('again', 4);
    await esb.workersReady();
    const there = await on('node-a');
    if (there.length === 0) {
      throw new Error('node-a has none');
    }
    return `node-a has ${there.join(', ')}`;
  });

  const autoscalers = ['ToBeDeletedByClusterAutoscaler', 'karpenter.sh/disrupted'];
  for (const [index, taint] of autoscalers.entries()) {
    const [from, to] = index % 2 === 0 ? (['node-a', 'node-b'] as const) : (['node-b', 'node-a'] as const);
    await report.check(`the taint ${taint} and an eviction move the workers of a node under load`, async () => {
      const before = await on(from);
      if (before.length === 0) {
        throw new Error(`${from} has no worker to move`);
      }
      const load = await esb.load(to, ['hello', 'second'], CLIENTS);
      try {
        await load.goOn(ENOUGH_CALLS);
        await lab.kubectl(['taint', 'node', from, `${taint}=1:NoSchedule`]);
        await evict(esb, `esb-hold-${from}`);
        await waitFor('the end of the guard', () => isGone(esb, `esb-hold-${from}`), {
          timeoutMs: 120_000,
          everyMs: 500,
        });
        const left = [...(await on(from)), ...(await esb.tasks(from))];
        if (left.length > 0) {
          throw new Error(`the guard has ended, and ${from} has ${left.join(', ')}`);
        }
        await esb.workersReady();
        await load.goOn(ENOUGH_CALLS);
      } finally {
        await lab.kubectl(['taint', 'node', from, `${taint}-`]);
      }
      return `${before.length} workers moved; ${expectNoFailure(await load.result(), ENOUGH_CALLS)}`;
    });
  }

  await report.check('workers of a deleted Node are re-assigned, and its finalizers resolved', async () => {
    const lost = await on('node-a');
    const [doomed = ''] = lost;
    await lab.powerOff('node-a');
    await lab.kubectl(['delete', 'lambdaworker', doomed, '--wait=false']);
    await lab.kubectl(['delete', 'node', 'node-a']);
    await waitFor(
      'workers of node-a on node-b, and an end of the one that was deleted',
      async () => {
        const workers = await esb.workers();
        const left = await on('node-a');
        if (left.length > 0 || workers.some(({ metadata }) => metadata.name === doomed)) {
          throw new Error(`on node-a: ${left.join(', ')}`);
        }
        return true;
      },
      { timeoutMs: 180_000, everyMs: 1_000 },
    );
    await esb.workersReady();
    await waitFor(
      'the end of the LambdaNode',
      async () => (await lab.kubectl(['get', 'lambdanode', 'node-a', '--ignore-not-found', '-o', 'name'])) === '',
      { timeoutMs: 60_000, everyMs: 1_000 },
    );
    return `${lost.length - 1} moved, ${doomed} is gone`;
  });

  await report.check('the machine comes back under the name of the deleted Node', async () => {
    await lab.powerOn('node-a');
    await esb.rolledOut();
    await waitFor(
      'a LambdaNode that is Ready',
      async () =>
        (await lab.kubectl([
          ...['get', 'lambdanode', 'node-a', '--ignore-not-found'],
          ...['-o', 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'],
        ])) === 'True',
      { timeoutMs: 120_000, everyMs: 1_000 },
    );
    const tasks = await esb.tasks('node-a');
    const left = await on('node-a');
    await waitFor('containers that workers stand behind', async () => {
      return (await esb.tasks('node-a')).length === (await on('node-a')).length;
    });
    return `Ready, with ${left.length} workers and ${tasks.length} containers`;
  });
}

/** Evicts a Pod as autoscalers and `kubectl drain` do. */
async function evict({ lab }: EsbCluster, name: string): Promise<void> {
  const metadata = { name, namespace: 'esb-system' };
  const path = `/api/v1/namespaces/esb-system/pods/${name}/eviction`;
  const body = JSON.stringify({ apiVersion: 'policy/v1', kind: 'Eviction', metadata });
  await lab.kubectl(['create', '--raw', path, '-f', '-'], body);
}

async function isGone({ lab }: EsbCluster, name: string): Promise<boolean> {
  return (await lab.kubectl(['get', 'pod', name, '-n', 'esb-system', '--ignore-not-found', '-o', 'name'])) === '';
}
