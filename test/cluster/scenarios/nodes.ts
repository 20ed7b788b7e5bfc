import { setTimeout as delay } from 'node:timers/promises';
import { departureTaints } from '../../../src/controller/scheduling/taint.ts';
import { waitFor } from '../../support/wait-for.ts';
import { type EsbCluster, nodeOf, standing } from '../esb-cluster.ts';
import { expectNoFailure, type Load } from '../load.ts';
import type { Report } from '../report.ts';

const ENOUGH_CALLS = 100;
const CLIENTS = 4;
/** Milliseconds within which workers of a node would begin to leave it. */
const WOULD_LEAVE_MS = 15_000;
/** Programs that evict the Pods of a node after they have given it their taint. */
const evicting = ['ToBeDeletedByClusterAutoscaler', 'karpenter.sh/disrupted', 'karpenter.sh/disruption'];

/** Operations on nodes: cordon, drain, delete. */
export async function nodesScenario(esb: EsbCluster, report: Report): Promise<void> {
  const { lab } = esb;
  const on = (node: string): Promise<readonly string[]> => onNode(esb, node);

  await report.check('a node with workers has a guard and a reservation', async () => {
    const told = '{.metadata.name} {.status.phase} {.spec.containers[0].resources.requests.memory}';
    const requests = await lab.kubectl([
      ...['get', 'pods', '-n', 'esb-system', '-l', 'app.kubernetes.io/component=hold'],
      ...['-o', `jsonpath={range .items[*]}${told}, {end}`],
    ]);
    for (const { name } of lab.nodes) {
      // Where no Pod can be resized, `esb-reserve.1.node-a`.
      const isReserved = new RegExp(`esb-reserve(-|\\.\\d+\\.)${name} Running`).test(requests);
      if (!requests.includes(`esb-hold-${name} Running`) || !isReserved) {
        throw new Error(`${name} has none: ${requests}`);
      }
    }
    return requests.trim();
  });

  await report.check('kubectl cordon moves nobody, and the node gets no worker', async () => {
    const before = await standing(esb);
    const tasks = await esb.tasks('node-b');
    if ((await on('node-b')).length === 0) {
      throw new Error('node-b has no worker that could leave');
    }
    await lab.kubectl(['cordon', 'node-b']);
    try {
      await lab.kubectl([
        ...['wait', 'lambdanode/node-b', '--for=jsonpath={.status.unschedulable}=true', '--timeout=60s'],
      ]);
      await esb.applyWorkers('cordoned', 4);
      await esb.workersReady();
      await delay(WOULD_LEAVE_MS);
      const after = (await standing(esb)).filter((line) => !line.startsWith('cordoned-'));
      if (after.join('\n') !== before.join('\n')) {
        throw new Error(`workers before:\n${before.join('\n')}\nand after:\n${after.join('\n')}`);
      }
      if ((await esb.tasks('node-b')).join() !== tasks.join()) {
        throw new Error(`containers were ${tasks.join(', ')} and are ${(await esb.tasks('node-b')).join(', ')}`);
      }
      return `${before.length} workers are where they were, ${tasks.length} of them on node-b; 4 new ones are on node-a`;
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

  await departures(esb, report);

  await report.check('workers of a deleted Node are re-assigned, and its finalizers resolved', async () => {
    await esb.applyWorkers('lost', 4);
    await esb.workersReady();
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

/** Each taint by which programs announce that a node leaves, and an eviction, one after the other under one load. */
async function departures(esb: EsbCluster, report: Report): Promise<void> {
  const { lab } = esb;
  let load: Load | undefined;
  let moved = 0;
  await report.check('calls go on while nodes are about to leave', async () => {
    // Each of the others would move as often, and none of them is called.
    const idle = (await esb.workers())
      .map(({ metadata }) => metadata.name)
      .filter((name) => /^(cordoned|again)-/.test(name));
    await lab.kubectl(['delete', 'lambdaworkers', ...idle, '--timeout=120s']);
    load = await esb.load('node-b', ['hello', 'second'], CLIENTS);
    await load.goOn(ENOUGH_CALLS);
    return `${CLIENTS} clients call`;
  });
  /** Takes the node that has more workers, and gives it back once it has none. */
  const leaves = (what: string, by: (node: string) => Promise<unknown>, back: (node: string) => Promise<unknown>) =>
    report.check(`${what} moves the workers of a node under load`, async () => {
      const before = await esb.workersReady();
      const counts = lab.nodes.map(({ name }) => ({
        name,
        count: before.filter((one) => nodeOf(one) === name).length,
      }));
      const { name = '', count = 0 } = counts.toSorted((a, b) => b.count - a.count)[0] ?? {};
      try {
        await by(name);
        await waitFor(
          'the end of the guard',
          async () => {
            const left = await onNode(esb, name);
            if (!(await isGone(esb, `esb-hold-${name}`))) {
              throw new Error(`${name} has ${left.join(', ')}`);
            }
            return true;
          },
          { timeoutMs: 120_000, everyMs: 500 },
        );
        const left = [...(await onNode(esb, name)), ...(await esb.tasks(name))];
        if (left.length > 0) {
          throw new Error(`the guard has ended, and ${name} has ${left.join(', ')}`);
        }
        await esb.workersReady();
        moved += count;
        return `${count} workers left ${name}`;
      } finally {
        await back(name);
      }
    });
  for (const key of departureTaints) {
    await leaves(
      `the taint ${key}${evicting.includes(key) ? ' and an eviction' : ''}`,
      async (node) => {
        const before = (await onNode(esb, node)).length;
        await lab.kubectl(['taint', 'node', node, `${key}=1:NoSchedule`]);
        if (evicting.includes(key)) {
          // The eviction alone would have moved workers as well.
          await waitFor('a worker that leaves', async () => (await onNode(esb, node)).length < before);
          await evict(esb, `esb-hold-${node}`);
        }
      },
      (node) => lab.kubectl(['taint', 'node', node, `${key}-`]),
    );
  }
  await leaves(
    'an eviction of the guard alone',
    (node) => evict(esb, `esb-hold-${node}`),
    () => Promise.resolve(),
  );
  await report.check('no call failed meanwhile', async () => {
    await load?.goOn(ENOUGH_CALLS);
    const result = await load?.result();
    if (result === undefined || moved === 0) {
      throw new Error('there was no load, or no worker moved');
    }
    return `${moved} times a worker moved; ${expectNoFailure(result, ENOUGH_CALLS)}`;
  });
}

async function onNode(esb: EsbCluster, node: string): Promise<readonly string[]> {
  return (await esb.workers()).filter((worker) => nodeOf(worker) === node).map(({ metadata }) => metadata.name);
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
