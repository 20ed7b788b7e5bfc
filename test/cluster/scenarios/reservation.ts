import { quantityToMiB } from '../../../src/api/quantity.ts';
import { stepMiB } from '../../../src/controller/reservation/sizing.ts';
import type { Node, Pod } from '../../../src/kube/api/resource-types.ts';
import { waitFor } from '../../support/wait-for.ts';
import { manifestList, workerManifest } from '../../support/worker-manifests.ts';
import { type EsbCluster, sampleReference } from '../esb-cluster.ts';
import { conditionOf, demands, held, items, text } from '../held.ts';
import { expectNoFailure } from '../load.ts';
import type { Report } from '../report.ts';

const FUNCTIONS = 20;
/** MiB of each: its memory and its /tmp. */
const WORKER_MIB = 144;

/** How much the nodes ask for what their workers take, as the kubelets of a real cluster allocate it. */
export async function reservationScenario(esb: EsbCluster, report: Report): Promise<void> {
  const { lab } = esb;
  const names = Array.from({ length: FUNCTIONS }, (_, index) => `rest-${index + 1}`);
  /** Waits until each node asks for what its workers take, with a step or two. */
  const settled = () =>
    waitFor(
      'reservations of the right size',
      async () => {
        const all = await held(esb);
        const wrong = all.filter(({ takenMiB, requestedMiB, allocatedMiB, capacityMiB }) => {
          const step = stepMiB(capacityMiB);
          const isRight = requestedMiB >= takenMiB && requestedMiB < takenMiB + Math.max(step, WORKER_MIB) + step;
          return !isRight || allocatedMiB !== requestedMiB;
        });
        if (wrong.length > 0) {
          throw new Error(wrong.map(text).join('; '));
        }
        return all;
      },
      { timeoutMs: 180_000, everyMs: 1_000 },
    );

  await report.check(`${FUNCTIONS} functions that rest ask for two steps at most on each node`, async () => {
    await lab.kubectl(['apply', '-f', '-'], manifestList(names.map(resting)));
    await waitFor(
      'workers that rest',
      async () => {
        const ours = (await esb.workers()).filter(({ metadata }) => names.includes(metadata.name));
        return ours.length === FUNCTIONS && ours.every(({ status }) => status?.phase === 'Absent');
      },
      { timeoutMs: 60_000, everyMs: 500 },
    );
    return (await settled()).map(text).join('; ');
  });

  await report.check('a Pod that needs the rest of a node is scheduled', async () => {
    const memoryMiB = (await freeMiB(esb, 'node-a')) - 64;
    await lab.kubectl(['apply', '-f', '-'], JSON.stringify(largePod(memoryMiB)));
    try {
      await lab.kubectl(['wait', 'pod/large', '--for=condition=Ready', '--timeout=60s']);
      return `${memoryMiB} MiB beside ${(await held(esb)).map(text).join('; ')}`;
    } finally {
      await lab.kubectl(['delete', 'pod', 'large', '--grace-period=1']);
    }
  });

  await report.check(`${FUNCTIONS} functions that are called at once never use what was not allocated`, async () => {
    const load = await esb.load('node-b', names, FUNCTIONS);
    let looks = 0;
    let mostMiB = 0;
    const until = performance.now() + 20_000;
    while (performance.now() < until) {
      for (const one of await held(esb)) {
        if (one.takenMiB > one.promisedMiB || one.takenMiB > one.allocatedMiB) {
          throw new Error(text(one));
        }
        mostMiB = Math.max(mostMiB, one.takenMiB);
      }
      looks++;
    }
    await load.goOn(FUNCTIONS * 5);
    return `${looks} looks, up to ${mostMiB} MiB; ${expectNoFailure(await load.result(), FUNCTIONS * 5)}`;
  });

  await report.check(
    'workers whose node is full of Pods ask for a node, and are placed where Pods make room',
    async () => {
      const names = ['more-1', 'more-2'];
      await lab.kubectl(['apply', '-f', '-'], JSON.stringify(largePod((await freeMiB(esb, 'node-b')) - 64, 'node-b')));
      try {
        await lab.kubectl(['wait', 'pod/large', '--for=condition=Ready', '--timeout=60s']);
        await lab.kubectl(['apply', '-f', '-'], JSON.stringify(largeWorker('more-1')));
        await conditionOf(esb, 'lambdanode/node-b', 'Unheld', 'True');
        await lab.kubectl(['apply', '-f', '-'], JSON.stringify(largeWorker('more-2')));
        await conditionOf(esb, 'lambdaworker/more-2', 'Scheduled', 'False');
        const [demand] = await waitFor(
          'a demand that the scheduler finds no node for',
          async () => {
            const pods = await demands(esb);
            const isUnschedulable = pods.some(({ status }) =>
              status?.conditions?.some(({ type, reason }) => type === 'PodScheduled' && reason === 'Unschedulable'),
            );
            return isUnschedulable ? pods : undefined;
          },
          { timeoutMs: 60_000, everyMs: 500 },
        );
        await lab.kubectl(['delete', 'pod', 'large', '--grace-period=1']);
        for (const name of names) {
          await conditionOf(esb, `lambdaworker/${name}`, 'Ready', 'True');
        }
        await waitFor('the demand to go', async () => (await demands(esb)).length === 0, {
          timeoutMs: 60_000,
          everyMs: 500,
        });
        return `${demand?.metadata.name} asked for ${demand?.spec?.containers?.[0]?.resources?.requests?.memory}`;
      } finally {
        await lab.kubectl(['delete', 'pod', 'large', '--grace-period=1', '--ignore-not-found']);
        await lab.kubectl(['delete', 'lambdaworkers', ...names, '--ignore-not-found', '--timeout=120s']);
      }
    },
  );

  await report.check('memory goes back once the functions are gone', async () => {
    await settled();
    await lab.kubectl(['delete', 'lambdaworkers', '-n', 'default', ...names, '--timeout=120s']);
    return (await settled()).map(text).join('; ');
  });
}

/** MiB that Pods may still ask for on a node. */
async function freeMiB(esb: EsbCluster, name: string): Promise<number> {
  const [node] = await items<Node>(esb, 'nodes', '--field-selector', `metadata.name=${name}`);
  const pods = await items<Pod>(esb, 'pods', '-A', '--field-selector', `spec.nodeName=${name}`);
  const taken = pods
    .flatMap(({ spec }) => spec?.containers ?? [])
    .reduce((sum, { resources }) => sum + quantityToMiB(resources?.requests?.memory, 0), 0);
  return Math.floor(quantityToMiB(node?.status?.allocatable?.memory, 0) - 1 - taken);
}

function resting(name: string): object {
  return workerManifest(name, {
    image: sampleReference,
    desiredState: 'Absent',
    timeoutSeconds: 30,
    resources: { limits: { memory: '128Mi' } },
    ephemeralStorage: '16Mi',
    idlePolicy: { removeAfterSeconds: 60 },
  });
}

/** A worker of more memory than the reservation of its node has to spare. */
function largeWorker(name: string): object {
  return workerManifest(name, {
    image: sampleReference,
    nodeSelector: { 'kubernetes.io/hostname': 'node-b' },
    resources: { limits: { memory: '2Gi' } },
    ephemeralStorage: '16Mi',
  });
}

function largePod(memoryMiB: number, node = 'node-a'): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'large', namespace: 'default' },
    spec: {
      nodeSelector: { 'kubernetes.io/hostname': node },
      containers: [
        {
          name: 'wait',
          image: sampleReference,
          command: ['python3', '-c', 'import time; time.sleep(3600)'],
          resources: { requests: { memory: `${memoryMiB}Mi` } },
        },
      ],
    },
  };
}
