import { isTmpOnDisk, type LambdaNode } from '../../../src/api/lambda-node.ts';
import { stepMiB } from '../../../src/controller/reservation/sizing.ts';
import { waitFor } from '../../support/wait-for.ts';
import { manifestList, workerManifest } from '../../support/worker-manifests.ts';
import { type EsbCluster, sampleReference } from '../esb-cluster.ts';
import { type Held, held, items, text } from '../held.ts';
import { expectNoFailure } from '../load.ts';
import type { Report } from '../report.ts';

const POINTS = 20;
const SMALL_MIB = 128;
const TMP_MIB = 16;
/** A reservation goes back a minute after less is wanted. */
const SETTLED_WITHIN_MS = 180_000;

/** A worker of the day, as its script has it. */
interface Actor {
  readonly memoryMiB: number;
  readonly isCallable: boolean;
  /** Whether it has a container, running or paused. */
  readonly isThere: boolean;
}

interface Point {
  readonly what: string;
  readonly act: () => Promise<unknown>;
}

/** A day of a node on which nothing is at its beginning, nor at its end. */
export async function dayScenario(esb: EsbCluster, report: Report, node: string): Promise<void> {
  await report.check(`${POINTS} points of a day ask for what workers take and a step or the largest call`, async () => {
    const [lambdaNode] = await items<LambdaNode>(esb, 'lambdanodes', '--field-selector', `metadata.name=${node}`);
    const actors = new Map<string, Actor>();
    const tmpMiB = isTmpOnDisk(lambdaNode) ? 0 : TMP_MIB;
    const script = scriptOf(esb, node, actors, stepMiB(lambdaNode?.status?.capacity?.memoryMiB ?? 0));
    if (script.length !== POINTS) {
      throw new Error(`the day has ${script.length} points`);
    }
    const told: string[] = [];
    try {
      for (const [index, { what, act }] of script.entries()) {
        const began = performance.now();
        await act();
        const one = await waitFor(`point ${index + 1}, ${what}`, () => settled(esb, node, actors, tmpMiB), {
          timeoutMs: SETTLED_WITHIN_MS,
          everyMs: 500,
        });
        told.push(`${one.requestedMiB} of ${one.takenMiB} after ${Math.round((performance.now() - began) / 1000)} s`);
      }
    } finally {
      await remove(esb, actors, ...actors.keys());
    }
    return `MiB: ${told.join(', ')}`;
  });
}

function scriptOf(esb: EsbCluster, node: string, actors: Map<string, Actor>, step: number): readonly Point[] {
  const create = async (names: readonly string[], memoryMiB: number, spec: object): Promise<void> => {
    const all = { desiredState: 'Running', wakePolicy: 'OnInvoke', ...spec };
    const list = names.map((name) => worker(name, node, memoryMiB, all));
    await esb.lab.kubectl(['apply', '-f', '-'], manifestList(list));
    for (const name of names) {
      const isCallable = all.wakePolicy === 'OnInvoke';
      actors.set(name, { memoryMiB, isCallable, isThere: all.desiredState !== 'Absent' });
    }
  };
  const restIn = async (name: string, desiredState: 'Paused' | 'Absent'): Promise<void> => {
    const patch = JSON.stringify({ spec: { desiredState } });
    await esb.lab.kubectl(['patch', 'lambdaworker', name, '--type=merge', '-p', patch]);
    change(actors, name, { isThere: desiredState !== 'Absent' });
  };
  const call = async (...names: readonly string[]): Promise<void> => {
    const load = await esb.load('node-b', names, names.length);
    await load.goOn(names.length);
    expectNoFailure(await load.result(), names.length);
    for (const name of names) {
      change(actors, name, { isThere: true });
    }
  };
  const absent = { desiredState: 'Absent' };
  const never = { wakePolicy: 'Never' };
  return [
    { what: 'one that rests Absent', act: () => create(['day-a'], SMALL_MIB, absent) },
    { what: 'two more', act: () => create(['day-b', 'day-c'], SMALL_MIB, absent) },
    { what: 'a call', act: () => call('day-a') },
    { what: 'two calls at once', act: () => call('day-b', 'day-c') },
    { what: 'one of a step that runs', act: () => create(['day-d'], step, {}) },
    { what: 'one of two steps that rests Absent', act: () => create(['day-e'], 2 * step, absent) },
    { what: 'a call of the largest', act: () => call('day-e') },
    { what: 'one is paused', act: () => restIn('day-d', 'Paused') },
    { what: 'a call wakes it', act: () => call('day-d') },
    { what: 'one of half a step', act: () => create(['day-f'], Math.ceil(step / 2), {}) },
    { what: 'all are deleted', act: () => remove(esb, actors, ...actors.keys()) },
    { what: 'one that no call reaches', act: () => create(['day-g'], SMALL_MIB, { ...absent, ...never }) },
    { what: 'one that runs, and no call wakes', act: () => create(['day-h'], SMALL_MIB, never) },
    { what: 'one that calls reach', act: () => create(['day-i'], SMALL_MIB, {}) },
    { what: 'one of two steps once more', act: () => create(['day-j'], 2 * step, absent) },
    { what: 'one goes to rest', act: () => restIn('day-i', 'Absent') },
    { what: 'a call gets it back', act: () => call('day-i') },
    { what: 'one is deleted', act: () => remove(esb, actors, 'day-i') },
    { what: 'only one is left, that no call reaches', act: () => remove(esb, actors, 'day-h', 'day-j') },
    { what: 'the last is deleted', act: () => remove(esb, actors, 'day-g') },
  ];
}

function change(actors: Map<string, Actor>, name: string, by: Partial<Actor>): void {
  const actor = actors.get(name);
  if (actor !== undefined) {
    actors.set(name, { ...actor, ...by });
  }
}

async function remove({ lab }: EsbCluster, actors: Map<string, Actor>, ...names: readonly string[]): Promise<void> {
  if (names.length > 0) {
    await lab.kubectl(['delete', 'lambdaworkers', ...names, '--ignore-not-found', '--timeout=120s']);
  }
  for (const name of names) {
    actors.delete(name);
  }
}

/** The node once its workers and its reservation are as they should be at this point. */
async function settled(
  esb: EsbCluster,
  node: string,
  actors: ReadonlyMap<string, Actor>,
  tmpMiB: number,
): Promise<Held> {
  for (const { metadata, status } of await esb.workers()) {
    const actor = actors.get(metadata.name);
    const phases = actor?.isThere === true ? ['Running', 'Paused'] : ['Absent'];
    if (actor !== undefined && !phases.includes(status?.phase ?? '')) {
      throw new Error(`${metadata.name} is ${status?.phase}`);
    }
  }
  const one = (await held(esb)).find(({ name }) => name === node);
  if (one === undefined) {
    throw new Error(`there is no ${node}`);
  }
  const all = [...actors.values()];
  const sizeOf = ({ memoryMiB }: Actor): number => memoryMiB + tmpMiB;
  const takenMiB = all.filter(({ isThere }) => isThere).reduce((sum, actor) => sum + sizeOf(actor), 0);
  const startable = all.filter(({ isThere, isCallable }) => isCallable && !isThere).map(sizeOf);
  const step = stepMiB(one.capacityMiB);
  const headroomMiB = all.some(({ isCallable }) => isCallable) ? Math.max(step, ...startable) : 0;
  const least = Math.min(one.capacityMiB, takenMiB + headroomMiB);
  const isAsked = one.requestedMiB >= least && one.requestedMiB < least + (least === 0 ? 1 : step);
  const isGiven = one.allocatedMiB === one.requestedMiB && one.promisedMiB === one.requestedMiB;
  if (one.takenMiB !== takenMiB || !isAsked || !isGiven) {
    throw new Error(`${text(one)}; to be taken: ${takenMiB}, and at least ${least} to be asked for`);
  }
  return one;
}

/** A worker of this node. One that was called keeps its container, paused after a while. */
function worker(name: string, node: string, memoryMiB: number, spec: object): object {
  return workerManifest(name, {
    image: sampleReference,
    nodeSelector: { 'kubernetes.io/hostname': node },
    timeoutSeconds: 30,
    resources: { limits: { memory: `${memoryMiB}Mi` } },
    ephemeralStorage: `${TMP_MIB}Mi`,
    idlePolicy: { removeAfterSeconds: 3600 },
    terminationGracePeriodSeconds: 0,
    ...spec,
  });
}
