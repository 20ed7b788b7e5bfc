import {
  chartFolder,
  type EsbCluster,
  imageTags,
  isReady,
  manifestsFolder,
  nodeOf,
  systemNamespace,
} from '../esb-cluster.ts';
import { expectNoFailure } from '../load.ts';
import type { Report } from '../report.ts';

/** Calls that a load must have seen to say anything. */
const ENOUGH_CALLS = 200;
const FUNCTIONS = ['hello', 'second'] as const;
const CLIENTS = 4;

/** Checks of Helm before and during an installation. */
export async function installScenario(esb: EsbCluster, report: Report): Promise<boolean> {
  const { lab, values } = esb;
  await report.check('helm lint', async () => {
    const told = await lab.helm(['lint', '--strict', chartFolder, ...values]);
    return told.trim().split('\n').at(-1) ?? '';
  });
  await report.check('helm template is what the API server takes', async () => {
    const rendered = await lab.helm([
      ...['template', 'esb', chartFolder, '-n', systemNamespace, ...values, '--no-hooks'],
    ]);
    const told = await lab.kubectl(['apply', '--dry-run=server', '-f', '-'], rendered);
    return `${told.trim().split('\n').length} objects`;
  });
  const installed = await report.check('helm install --wait', async () => {
    await lab.helm([
      ...['install', 'esb', chartFolder, '-n', systemNamespace, ...values],
      ...['--wait', '--timeout', '3m'],
    ]);
    await esb.rolledOut(imageTags[0]);
    return (await lab.kubectl(['get', 'lambdanodes', '-o', 'name'])).trim().replaceAll('\n', ', ');
  });
  if (!installed) {
    return false;
  }
  await report.check('server-side dry-run of every sample', async () => {
    const told = await lab.kubectl(['apply', '--dry-run=server', '-f', `${manifestsFolder}/samples`]);
    return told.trim().replaceAll('\n', ', ');
  });
  return report.check('workers run on both nodes', async () => {
    for (const name of FUNCTIONS) {
      await esb.applyWorkers(name, 3);
    }
    const workers = await esb.workersReady();
    const nodes = workers.map((worker) => nodeOf(worker));
    const counts = lab.nodes.map(({ name }) => `${name} ${nodes.filter((node) => node === name).length}`);
    if (counts.some((count) => count.endsWith(' 0'))) {
      throw new Error(`a node has none: ${counts.join(', ')}`);
    }
    return counts.join(', ');
  });
}

/** `helm test`, `upgrade` and `rollback` with callers that notice nothing and workers that go on. */
export async function upgradeScenario(esb: EsbCluster, report: Report): Promise<void> {
  const { lab, values } = esb;
  await report.check('helm test', async () => {
    const told = await lab.helm(['test', 'esb', '-n', systemNamespace, '--timeout', '2m']);
    return told.includes('Succeeded') ? 'Succeeded' : told;
  });
  const underLoad = (name: string, tag: string, change: () => Promise<unknown>): Promise<boolean> =>
    report.check(`${name} under load: no failed call, workers keep their containers`, async () => {
      const before = await containersOf(esb);
      const load = await esb.load('node-b', FUNCTIONS, CLIENTS);
      let rolled: unknown;
      try {
        await load.goOn(ENOUGH_CALLS);
        await change();
        await esb.rolledOut(tag);
        await load.goOn(ENOUGH_CALLS);
      } catch (error) {
        rolled = error;
      }
      const told = await load.result();
      if (rolled !== undefined) {
        throw rolled;
      }
      const result = expectNoFailure(told, ENOUGH_CALLS);
      const after = await containersOf(esb);
      if (after.join('\n') !== before.join('\n')) {
        throw new Error(`containers before:\n${before.join('\n')}\nand after:\n${after.join('\n')}`);
      }
      return `${result}; ${after.length} containers as before`;
    });
  await underLoad('helm upgrade', imageTags[1], () =>
    lab.helm([
      ...['upgrade', 'esb', chartFolder, '-n', systemNamespace, ...values],
      ...['--set', `image.tag=${imageTags[1]}`, '--wait', '--timeout', '5m'],
    ]),
  );
  await underLoad('helm rollback', imageTags[0], () =>
    lab.helm(['rollback', 'esb', '1', '-n', systemNamespace, '--wait', '--timeout', '5m']),
  );
}

/** Node, id and process of every worker's container. */
export async function containersOf({ lab, tasks, workers }: EsbCluster): Promise<readonly string[]> {
  const waiting = (await workers()).filter((worker) => !isReady(worker));
  if (waiting.length > 0) {
    throw new Error(`not Ready: ${waiting.map(({ metadata }) => metadata.name).join(', ')}`);
  }
  const all = await Promise.all(
    lab.nodes.map(async ({ name }) => (await tasks(name)).map((task) => `${name} ${task}`)),
  );
  if (all.flat().length === 0) {
    throw new Error('there is no container at all');
  }
  return all.flat();
}
