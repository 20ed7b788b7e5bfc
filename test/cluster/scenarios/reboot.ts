import { waitFor } from '../../support/wait-for.ts';
import { type EsbCluster, nodeOf } from '../esb-cluster.ts';
import { expectNoFailure } from '../load.ts';
import type { Report } from '../report.ts';

const ENOUGH_CALLS = 20;
const CLIENTS = 2;

/** A machine that loses its power: what it ran is gone, and its agent finds the disk as it was. */
export async function rebootScenario(esb: EsbCluster, report: Report): Promise<void> {
  const { lab } = esb;
  await report.check('a node that is started again has its workers again, and nothing beside them', async () => {
    const before = (await esb.workers()).filter((worker) => nodeOf(worker) === 'node-b');
    if (before.length === 0) {
      throw new Error('node-b has no worker to lose');
    }
    const old = await esb.tasks('node-b');
    await lab.powerOff('node-b');
    await lab.powerOn('node-b');
    await esb.rolledOut();
    await waitFor(
      'new containers, as many as workers',
      async () => {
        const tasks = await esb.tasks('node-b');
        const here = (await esb.workersReady(1)).filter((worker) => nodeOf(worker) === 'node-b');
        if (tasks.some((task) => old.includes(task)) || tasks.length !== here.length) {
          throw new Error(`containers ${tasks.join(', ')} of ${here.length} workers; before ${old.join(', ')}`);
        }
        return true;
      },
      { timeoutMs: 180_000, everyMs: 1_000 },
    );
    const load = await esb.load('node-a', ['hello', 'second'], CLIENTS);
    await load.goOn(ENOUGH_CALLS);
    return `${before.length} workers had been there; ${expectNoFailure(await load.result(), ENOUGH_CALLS)}`;
  });
}
