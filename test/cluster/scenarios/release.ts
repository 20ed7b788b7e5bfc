import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { toolsFolder } from '../../support/tools.ts';
import { waitFor } from '../../support/wait-for.ts';
import { manifestList, workerManifest } from '../../support/worker-manifests.ts';
import { pushLedgerImage } from '../cluster-images.ts';
import {
  chartFolder,
  type EsbCluster,
  earlierTag,
  emulatedReference,
  imageTags,
  isReady,
  systemNamespace,
} from '../esb-cluster.ts';
import { expectNoFailure } from '../load.ts';
import type { Report } from '../report.ts';
import { type RunLedger, startRunLedger } from '../run-ledger.ts';
import type { LoadResult } from '../steady-load.ts';
import { expectCleanNodes, expectNothingLeft, type Traces } from './uninstall.ts';

/** Calls that a load must have seen to say anything. */
const ENOUGH_CALLS = 100;
const CLIENTS = 4;
/** Functions that are called all the time. */
const CALLED = ['run', 'full', 'host'] as const;
/**
 * Functions with an emulator whose calls take long, half of one apart: whenever an agent ends, one of them goes on for
 * longer than the agent waits, and the caller is told that the outcome is unknown.
 */
const LEFT = ['left', 'later'] as const;
/** Function whose calls take as long without an emulator: the next agent has the answer of a call that was left. */
const ASKED = 'asked';
const EMULATOR = ['/usr/local/bin/aws-lambda-rie', 'python3', '-m', 'awslambdaric', 'lambda_function.handler'];
/** Seconds that agents wait for calls when they are told to end, and that a call takes which they leave. */
const DRAIN_SECONDS = 5;
const LONG_CALL_SECONDS = 20;

/** Worker of the scenario, and the phase that the worker rests in. */
interface Kind {
  readonly name: string;
  readonly phase: 'Running' | 'Paused' | 'Absent';
  readonly spec: object;
}

/** Workers that the earlier release makes. `full` take the memory of a node, with /tmp in memory as well. */
const kinds: readonly Kind[] = [
  ...['run-1', 'run-2'].map((name): Kind => ({ name, phase: 'Running', spec: onNode('node-b') })),
  ...['full-1', 'full-2', 'full-3', 'full-4'].map(
    (name): Kind => ({
      name,
      phase: 'Running',
      spec: { ...onNode('node-a'), resources: { limits: { memory: '496Mi' } } },
    }),
  ),
  {
    name: 'host-1',
    phase: 'Running',
    spec: { ...onNode('node-b'), network: { mode: 'Host' }, command: EMULATOR },
  },
  { name: `${ASKED}-1`, phase: 'Running', spec: onNode('node-b') },
  ...LEFT.map(
    (name): Kind => ({
      name: `${name}-1`,
      phase: 'Running',
      spec: { ...onNode('node-b'), runtimeInterface: 'Emulator', command: EMULATOR },
    }),
  ),
  { name: 'paused-1', phase: 'Paused', spec: { ...onNode('node-b'), desiredState: 'Paused' } },
  { name: 'absent-1', phase: 'Absent', spec: { ...onNode('node-b'), desiredState: 'Absent' } },
];

/** Workers that this build makes, and the earlier release takes over on the way back. */
const newKinds: readonly Kind[] = [
  { name: 'new-1', phase: 'Running', spec: onNode('node-b') },
  { name: 'frozen-1', phase: 'Paused', spec: { ...onNode('node-b'), desiredState: 'Paused' } },
];

function onNode(nodeName: string): object {
  return { nodeName };
}

/** Release that is upgraded from: how the checks name the release, and the folder of its chart. */
export interface EarlierRelease {
  readonly name: string;
  readonly chart: string;
}

/**
 * From an earlier release to this build under load, back, and again.
 *
 * @param before the nodes before the install
 */
export async function releaseScenario(
  esb: EsbCluster,
  report: Report,
  earlier: EarlierRelease,
  before: Traces,
): Promise<void> {
  const { lab, values } = esb;
  const ledger = await startRunLedger();
  let ledgerImage = '';
  const upgrade = (): Promise<unknown> =>
    lab.helm([
      ...['upgrade', 'esb', chartFolder, '-n', systemNamespace, '--reset-then-reuse-values'],
      ...['--set', `image.tag=${imageTags[0]}`, '--wait', '--timeout', '5m'],
    ]);
  try {
    const installed = await report.check(`${earlier.name} is installed, and has workers of each kind`, async () => {
      ledgerImage = await pushLedgerImage(lab.folder, emulatedReference);
      // `host` shares the network of its node, which the policy of workers else refuses.
      await lab.kubectl(['label', 'namespace', 'default', 'esb.dev/privileged-workers=true']);
      await lab.helm([
        ...['install', 'esb', earlier.chart, '-n', systemNamespace, ...values],
        ...['--set', `image.tag=${earlierTag},agent.drainSeconds=${DRAIN_SECONDS}`, '--wait', '--timeout', '3m'],
      ]);
      await esb.rolledOut(earlierTag);
      await applyWorkers(esb, kinds, ledgerImage, ledger.address);
      await atRest(esb, kinds);
      return `${(await containersOf(esb, kinds)).length} containers`;
    });
    if (!installed) {
      return;
    }
    await report.check('helm upgrade under load: no failed call, none runs twice, workers keep their containers', () =>
      keepsContainers(esb, ledger, kinds, imageTags[0], upgrade),
    );
    await report.check('what rested while the release was upgraded is called', () => wakes(esb, kinds));
    await report.check('workers are made by this build', async () => {
      await applyWorkers(esb, newKinds, ledgerImage, ledger.address);
      await atRest(esb, [...kinds, ...newKinds]);
      return wakes(esb, newKinds);
    });
    await report.check('helm rollback under load: as the upgrade, with the workers of this build too', async () => {
      const all = [...kinds, ...newKinds];
      const kept = await keepsContainers(esb, ledger, all, earlierTag, () =>
        lab.helm(['rollback', 'esb', '1', '-n', systemNamespace, '--wait', '--timeout', '5m']),
      );
      return `${kept}; ${await wakes(esb, all)}`;
    });
    await report.check('helm upgrade again under load: as the first time', () =>
      keepsContainers(esb, ledger, [...kinds, ...newKinds], imageTags[0], upgrade),
    );
    await report.check('helm uninstall leaves nothing', async () => {
      await lab.helm(['uninstall', 'esb', '-n', systemNamespace, '--wait', '--timeout', '6m']);
      await expectNothingLeft(esb);
      return expectCleanNodes(esb, before);
    });
  } finally {
    await ledger.stop();
  }
}

async function applyWorkers(
  { lab }: EsbCluster,
  wanted: readonly Kind[],
  image: string,
  ledger: string,
): Promise<void> {
  const items = wanted.map(({ name, spec }) =>
    workerManifest(name, {
      image,
      functionName: functionOf(name),
      timeoutSeconds: LONG_CALL_SECONDS + 10,
      env: [{ name: 'LEDGER', value: ledger }],
      resources: { limits: { memory: '128Mi' } },
      ephemeralStorage: '16Mi',
      ...spec,
    }),
  );
  await lab.kubectl(['apply', '-f', '-'], manifestList(items));
}

function functionOf(worker: string): string {
  return worker.replace(/-\d+$/, '');
}

/** Waits until each worker is in the phase that it rests in, with the one container that it needs, if any. */
async function atRest(esb: EsbCluster, wanted: readonly Kind[]): Promise<void> {
  await waitFor(
    'workers at rest',
    async () => {
      const found = new Map((await esb.workers()).map((worker) => [worker.metadata.name, worker]));
      const containers = await containersOf(esb, wanted);
      const told = wanted.flatMap(({ name, phase }) => {
        const count = containers.filter((each) => isOf(each, name)).length;
        const worker = found.get(name);
        return restsIn(worker, phase) && count === (phase === 'Absent' ? 0 : 1)
          ? []
          : [`${name}: ${worker?.status?.phase}, ${count} containers, ${JSON.stringify(worker?.status?.conditions)}`];
      });
      if (told.length > 0) {
        throw new Error(told.join('\n'));
      }
      return true;
    },
    { timeoutMs: 150_000, everyMs: 1_000 },
  );
}

function restsIn(worker: LambdaWorker | undefined, phase: Kind['phase']): boolean {
  return worker?.status?.phase === phase && (phase !== 'Running' || isReady(worker));
}

/** Node, id, process and state of the containers of these workers, also of those without a process. */
async function containersOf({ lab, tasks }: EsbCluster, wanted: readonly Kind[]): Promise<readonly string[]> {
  const ctr = join(toolsFolder(), 'ctr');
  const all = await Promise.all(
    lab.nodes.map(async (node) => {
      const running = await tasks(node.name);
      const { stdout } = await node.run(ctr, ['-n', 'esb', 'containers', 'ls', '-q']);
      const ids = stdout.split('\n').filter((id) => id !== '');
      return ids.map((id) => `${node.name} ${running.find((task) => task.startsWith(`${id} `)) ?? id}`);
    }),
  );
  return all.flat().filter((container) => wanted.some(({ name }) => isOf(container, name)));
}

function isOf(container: string, worker: string): boolean {
  return container.split(' ')[1]?.startsWith(`${worker}-`) === true;
}

/** Upgrades under load. No caller may notice, but for those of calls that take longer than agents wait. */
async function keepsContainers(
  esb: EsbCluster,
  ledger: RunLedger,
  wanted: readonly Kind[],
  tag: string,
  change: () => Promise<unknown>,
): Promise<string> {
  const kept = wanted.filter(({ name }) => !LEFT.some((left) => name === `${left}-1`));
  const before = await containersOf(esb, kept);
  const { steady, left } = await underLoad(esb, ledger, tag, change);
  const told = expectNoFailure(steady, ENOUGH_CALLS);
  const after = await containersOf(esb, kept);
  if (after.join('\n') !== before.join('\n')) {
    throw new Error(`containers before:\n${before.join('\n')}\nand after:\n${after.join('\n')}`);
  }
  await waitFor('the end of calls that agents have left', () => left.every((call) => ledger.ended(call)), {
    timeoutMs: LONG_CALL_SECONDS * 1_000,
  });
  await atRest(esb, wanted);
  return `${told}; ${left.length} calls left by agents ended; ${after.length} containers as before`;
}

/**
 * Changes the release while functions are called; gives what came of it, and the calls that agents have left in
 * workers.
 */
async function underLoad(
  esb: EsbCluster,
  ledger: RunLedger,
  tag: string,
  change: () => Promise<unknown>,
): Promise<{ readonly steady: LoadResult; readonly left: readonly string[] }> {
  const earlier = ledger.size;
  const steady = await esb.load('node-b', CALLED, CLIENTS);
  const asked = await esb.load('node-b', [ASKED], 1, { event: { sleep: LONG_CALL_SECONDS } });
  const [left, later] = LEFT;
  const long = [await esb.load('node-b', [left], 1, { event: { sleep: LONG_CALL_SECONDS } })];
  await delay((LONG_CALL_SECONDS / 2) * 1_000);
  long.push(await esb.load('node-b', [later], 1, { event: { sleep: LONG_CALL_SECONDS } }));
  let failure: unknown;
  try {
    await steady.goOn(ENOUGH_CALLS);
    await change();
    await esb.rolledOut(tag);
    await steady.goOn(ENOUGH_CALLS);
  } catch (error) {
    failure = error;
  }
  const results = await steady.result();
  const [askedResult, longResults] = await Promise.all([
    asked.result(),
    Promise.all(long.map((load) => load.result())),
  ]);
  if (failure !== undefined) {
    throw failure;
  }
  if (ledger.repeated.length > 0) {
    throw new Error(ledger.repeated.join('\n'));
  }
  expectNoFailure(askedResult, 1);
  const answered = [results, askedResult, ...longResults].reduce((sum, result) => sum + result.answered, 0);
  if (ledger.size - earlier < answered) {
    throw new Error(`${ledger.size - earlier} calls ran, and ${answered} were answered`);
  }
  const failures = longResults.flatMap((result) => result.failures);
  const wrong = failures.filter(({ outcome, call }) => outcome !== 'unknown' || ledger.runs(call) !== 1);
  if (wrong.length > 0) {
    throw new Error(`long calls failed otherwise than with an unknown outcome: ${JSON.stringify(wrong)}`);
  }
  if (failures.length === 0) {
    throw new Error('no agent has left a call, which shows nothing');
  }
  return { steady: results, left: failures.map(({ call }) => call) };
}

/** Calls what rests Paused, which keeps its container, and what rests Absent, which gets one; then both rest again. */
async function wakes(esb: EsbCluster, wanted: readonly Kind[]): Promise<string> {
  const resting = wanted.filter(({ phase }) => phase !== 'Running');
  const paused = resting.filter(({ phase }) => phase === 'Paused');
  const before = await containersOf(esb, paused);
  for (const { name } of resting) {
    const load = await esb.load('node-b', [functionOf(name)], 1);
    await load.goOn(1);
    expectNoFailure(await load.result(), 1);
  }
  const after = await containersOf(esb, paused);
  if (after.join('\n') !== before.join('\n')) {
    throw new Error(`containers before:\n${before.join('\n')}\nand after:\n${after.join('\n')}`);
  }
  await atRest(esb, resting);
  return `${resting.map(({ name }) => name).join(', ')} answered`;
}
