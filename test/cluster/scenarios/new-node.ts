import type { Node, Pod } from '../../../src/kube/api/resource-types.ts';
import { clusterAutoscaler, karpenter } from '../../support/autoscaler-rules.ts';
import { waitFor } from '../../support/wait-for.ts';
import { manifestList, workerManifest } from '../../support/worker-manifests.ts';
import { type EsbCluster, isReady, nodeOf, sampleReference, standing } from '../esb-cluster.ts';
import { demands, held, items } from '../held.ts';
import type { Report } from '../report.ts';
import { dayScenario } from './day.ts';

/** The part of a node's capacity that a worker takes here: a node has room for two, and not for three. */
const PART = 0.4;
const TMP_MIB = 16;
/** Workers that the nodes have no room for. */
const WITHOUT_ROOM = 2;
/** Label of a pool that no node is in at first, and the worker that waits for one. */
const POOL = { 'example.com/pool': 'functions' };
const POOLED = 'pooled-1';
const LOOKS = { timeoutMs: 120_000, everyMs: 500 };

/** A node as an autoscaler has it: it comes for workers without room, is used, and goes once it is empty. */
export async function newNodeScenario(esb: EsbCluster, report: Report): Promise<void> {
  const { lab } = esb;
  const node = lab.spare;
  let names: readonly string[] = [];
  let waiting: readonly string[] = [];
  try {
    await report.check('a worker of a pool that is at zero asks for its first node by a Pod', async () => {
      const spec = { image: sampleReference, nodeSelector: POOL, terminationGracePeriodSeconds: 0 };
      names = [POOLED];
      await lab.kubectl(['apply', '-f', '-'], manifestList([workerManifest(POOLED, spec)]));
      const pod = await waitFor('its demand', async () => (await demands(esb)).find(isOfPool), LOOKS);
      return `${pod.metadata.name} asks for ${JSON.stringify(pod.spec?.nodeSelector)}`;
    });
    await report.check('workers that fit on no node ask for one each by a Pod', async () => {
      const nodes = await held(esb);
      const sizeMiB = Math.floor(Math.min(...nodes.map(({ capacityMiB }) => capacityMiB)) * PART);
      const fitting = nodes.map((one) => Math.floor((one.capacityMiB - one.takenMiB) / (sizeMiB + TMP_MIB)));
      const count = fitting.reduce((sum, each) => sum + each, WITHOUT_ROOM);
      const wide = Array.from({ length: count }, (_, index) => `wide-${index + 1}`);
      names = [POOLED, ...wide];
      await lab.kubectl(['apply', '-f', '-'], manifestList(wide.map((name) => wideWorker(name, sizeMiB))));
      return waitFor(
        'demand that an autoscaler adds nodes for',
        async () => {
          const ours = (await esb.workers()).filter(({ metadata }) => wide.includes(metadata.name));
          waiting = ours.filter((one) => nodeOf(one) === undefined).map(({ metadata }) => metadata.name);
          const pods = (await demands(esb)).filter((pod) => !isOfPool(pod));
          const asked = pods.map(({ spec }) => spec?.containers[0]?.resources?.requests?.memory ?? 'nothing');
          const isAsked = pods.every((pod) => karpenter.isProvisionable(pod) && clusterAutoscaler.isProvisionable(pod));
          if (waiting.length !== WITHOUT_ROOM || pods.length !== WITHOUT_ROOM || !isAsked) {
            throw new Error(`${waiting.length} of ${count} wait; ${JSON.stringify(pods.map(({ status }) => status))}`);
          }
          return `${waiting.join(' and ')} of ${count} of ${sizeMiB} MiB wait, and ask for ${asked.join(' and ')}`;
        },
        LOOKS,
      );
    });
    const hasJoined = await report.check(
      'a node that joins takes that Pod, then the workers, and the demand goes',
      () => joins(esb, [...waiting, POOLED]),
    );
    if (!hasJoined) {
      return;
    }
    await report.check('a node without workers asks for nothing, so that autoscalers let it go', async () => {
      if (await isLetGo(esb, node)) {
        throw new Error(`autoscalers would let ${node} go with ${waiting.join(' and ')}`);
      }
      await lab.kubectl(['delete', 'lambdaworkers', ...names, '--timeout=120s']);
      names = [];
      await waitFor(`no Pod on ${node} but those of DaemonSets`, () => isLetGo(esb, node), LOOKS);
      const pods = await podsOf(esb, node);
      return `left there: ${pods.map(({ metadata }) => metadata.name).join(', ')}`;
    });
    await dayScenario(esb, report, node);
    await report.check('the empty node is let go, and no worker of another one notices', async () => {
      await waitFor(`an empty ${node}`, () => isLetGo(esb, node), LOOKS);
      const before = await standing(esb);
      await lab.kubectl(['taint', 'node', node, `${clusterAutoscaler.taint.key}=1:${clusterAutoscaler.taint.effect}`]);
      await leave(esb);
      const after = await standing(esb);
      if (after.join() !== before.join()) {
        throw new Error(`workers were ${before.join(', ')} and are ${after.join(', ')}`);
      }
      return `${after.length} workers as before`;
    });
  } finally {
    const isThere = lab.nodes.some(({ name }) => name === node);
    if (isThere || names.length > 0) {
      await report.check('what a check that failed has left is taken away', async () => {
        await lab.kubectl(['delete', 'lambdaworkers', ...names, 'none', '--ignore-not-found', '--timeout=120s']);
        if (isThere) {
          await leave(esb);
        }
        return node;
      });
    }
  }
}

/** Turns the power of the spare machine on; it gets the demand, and then the workers. */
async function joins(esb: EsbCluster, waiting: readonly string[]): Promise<string> {
  const { lab } = esb;
  const node = lab.spare;
  const bound = waitFor(
    `demand that the scheduler has bound to ${node}`,
    async () => (await demands(esb)).find(({ spec }) => spec?.nodeName === node)?.metadata.name,
    LOOKS,
  );
  const [name] = await Promise.all([bound, lab.powerOn(node).then(() => label(esb, node))]);
  await waitFor(
    `workers on ${node}`,
    async () => {
      const ours = (await esb.workers()).filter(({ metadata }) => waiting.includes(metadata.name));
      const elsewhere = ours.filter((one) => nodeOf(one) !== node || !isReady(one));
      if (elsewhere.length > 0 || ours.length !== waiting.length) {
        throw new Error(`not there: ${elsewhere.map(({ metadata }) => metadata.name).join(', ')}`);
      }
      return true;
    },
    LOOKS,
  );
  await waitFor('an end of the demand', async () => (await demands(esb)).length === 0, LOOKS);
  return `${name} got ${node}, and ${waiting.join(' and ')} run there`;
}

/** Puts the node into the pool, as the autoscaler of the pool does. */
async function label({ lab }: EsbCluster, node: string): Promise<void> {
  await waitFor(
    `a Node ${node}`,
    async () => (await lab.kubectl(['get', 'node', node, '--ignore-not-found', '-o', 'name'])) !== '',
    LOOKS,
  );
  await lab.kubectl(['label', 'node', node, ...Object.entries(POOL).map(([key, value]) => `${key}=${value}`)]);
}

function isOfPool({ spec }: Pod): boolean {
  return Object.keys(POOL).some((key) => spec?.nodeSelector?.[key] !== undefined);
}

/** Ends the node as its owner does once the autoscaler wants it no more. */
async function leave({ lab }: EsbCluster): Promise<void> {
  await lab.takeAway(lab.spare);
  await lab.kubectl(['delete', 'node', lab.spare, '--ignore-not-found']);
  await waitFor(
    'the end of the LambdaNode',
    async () => (await lab.kubectl(['get', 'lambdanode', lab.spare, '--ignore-not-found', '-o', 'name'])) === '',
    { timeoutMs: 180_000, everyMs: 1_000 },
  );
}

function podsOf(esb: EsbCluster, node: string): Promise<readonly Pod[]> {
  return items<Pod>(esb, 'pods', '-A', '--field-selector', `spec.nodeName=${node}`);
}

/** Whether both autoscalers take the node for one that has nothing to run, by their own rules. */
async function isLetGo(esb: EsbCluster, name: string): Promise<boolean> {
  const [node] = await items<Node>(esb, 'nodes', '--field-selector', `metadata.name=${name}`);
  const pods = await podsOf(esb, name);
  return node !== undefined && karpenter.removes({ node, pods }, []) && clusterAutoscaler.removes({ node, pods }, []);
}

function wideWorker(name: string, memoryMiB: number): object {
  return workerManifest(name, {
    image: sampleReference,
    resources: { limits: { memory: `${memoryMiB}Mi` } },
    ephemeralStorage: `${TMP_MIB}Mi`,
    terminationGracePeriodSeconds: 0,
  });
}
