import { stringify } from 'yaml';
import { waitFor } from '../../support/wait-for.ts';
import { manifestList, workerManifest } from '../../support/worker-manifests.ts';
import { pushLedgerImage } from '../cluster-images.ts';
import { beganAt, cutOff, outside, servingNodes, toldLoad, toldTimes } from '../cut-off.ts';
import { chartFolder, type EsbCluster, emulatedReference, imageTags, systemNamespace } from '../esb-cluster.ts';
import { eventVolume } from '../event-volume.ts';
import type { Report } from '../report.ts';
import { type RunLedger, startRunLedger } from '../run-ledger.ts';
import type { LoadFailure } from '../steady-load.ts';

/** Calls, and events, that a load must have seen to say anything. */
const ENOUGH_CALLS = 100;
const ENOUGH_EVENTS = 20;
/** Milliseconds that a call may take which goes to a gateway that is gone. */
const CALL_TIMEOUT_MS = 10_000;
/** Milliseconds for an event, which a gateway refuses after ten seconds without an acknowledgement. */
const EVENT_TIMEOUT_MS = 15_000;
/** More than the five minutes that an event may wait between two tries. */
const RUN_TIMEOUT_MS = 480_000;
const ROLLOUT_MS = 120_000;
/** An event each, so that one worker keeps up. */
const EVENT_THINK_MS = 250;

/** The node of `esb-events`, by its volume, and the other one. */
const HOME = 'node-b';
const AWAY = 'node-a';

/** One function on each node, so that calls do not depend on a node that is cut off. */
const FUNCTIONS = { [HOME]: 'home', [AWAY]: 'away' } as const;

/**
 * One node after the other is cut off for some time: that of a gateway, and that of the role that keeps events.
 *
 * @param cutOffMs milliseconds from the cut to the return
 */
export async function gatewaysScenario(esb: EsbCluster, report: Report, cutOffMs: number): Promise<void> {
  const { lab, values } = esb;
  const ledger = await startRunLedger();
  const eventLoad = (from: string, functions: readonly string[]) =>
    esb.load(from, functions, 2, {
      event: { sleep: 0 },
      type: 'Event',
      thinkMs: EVENT_THINK_MS,
      timeoutMs: EVENT_TIMEOUT_MS,
    });
  try {
    const installed = await report.check('two gateways, and esb-events with a volume', async () => {
      await lab.kubectl(['apply', '-f', '-'], stringify(eventVolume));
      await lab.node(HOME).run('mkdir', ['-p', eventVolume.spec.local.path]);
      const image = await pushLedgerImage(lab.folder, emulatedReference);
      const install = (...more: readonly string[]) =>
        lab.helm([
          ...['upgrade', '--install', 'esb', chartFolder, '-n', systemNamespace, ...values],
          ...['--set', `image.tag=${imageTags[0]},gateway.events.store=sqlite`, ...more, '--wait', '--timeout', '4m'],
        ]);
      await install();
      // The lab has no DNS: there the address of the role goes before its name.
      const address = await lab.kubectl([
        ...['get', 'service', 'esb-events', '-n', systemNamespace, '-o', 'jsonpath={.spec.clusterIP}'],
      ]);
      await install('--set', `gateway.extraArgs={--events-address=${address}:9444}`);
      await esb.rolledOut(imageTags[0]);
      await applyFunctions(esb, image, ledger.address);
      await esb.workersReady();
      return `gateways on ${(await servingNodes(esb)).join(' and ')}`;
    });
    if (!installed) {
      return;
    }
    await report.check('one of two gateways and its node cut off: no accepted event is lost', async () => {
      await spreadGateways(esb);
      const calls = await esb.load(HOME, [FUNCTIONS[HOME]], 4, { timeoutMs: CALL_TIMEOUT_MS });
      // Those for the node that is cut off wait for the node.
      const events = await eventLoad(HOME, [FUNCTIONS[HOME], FUNCTIONS[AWAY]]);
      await calls.goOn(ENOUGH_CALLS);
      await events.goOn(ENOUGH_EVENTS);
      const times = await cutOff(esb, { node: AWAY, forMs: cutOffMs, steady: [calls, events] });
      await calls.goOn(ENOUGH_CALLS);
      await events.goOn(ENOUGH_EVENTS);
      const [called, handed] = [await calls.result(), await events.result()];
      throwOn('failed outside the time of detection', [
        ...outside(called, times.cutAt, times.settledAt),
        ...outside(handed, times.cutAt, times.settledAt),
      ]);
      return [
        toldTimes(times),
        `calls: ${toldLoad(called, times)}`,
        `events: ${toldLoad(handed, times)}`,
        await allRan(ledger, handed.accepted),
      ].join('; ');
    });
    await report.check('the node of esb-events cut off: events get 503, calls go on, and nothing is lost', async () => {
      await spreadGateways(esb);
      const calls = await esb.load(AWAY, [FUNCTIONS[AWAY]], 4, { timeoutMs: CALL_TIMEOUT_MS });
      const events = await eventLoad(AWAY, [FUNCTIONS[AWAY]]);
      await calls.goOn(ENOUGH_CALLS);
      await events.goOn(ENOUGH_EVENTS);
      const times = await cutOff(esb, { node: HOME, forMs: cutOffMs, steady: [calls] });
      await calls.goOn(ENOUGH_CALLS);
      await events.goOn(ENOUGH_EVENTS);
      const [called, handed] = [await calls.result(), await events.result()];
      throwOn('failed outside the time of detection', outside(called, times.cutAt, times.settledAt));
      throwOn('events failed while esb-events was there', outside(handed, times.cutAt, times.backAt));
      const refused = handed.failures.filter((each) => beganAt(each) > times.settledAt);
      throwOn(
        'events were refused by something else',
        refused.filter(({ why }) => !why.startsWith('503')),
      );
      if (refused.length === 0) {
        throw new Error('no event was refused');
      }
      return [
        toldTimes(times),
        `calls: ${toldLoad(called, times)}`,
        `events: ${toldLoad(handed, times)}, ${refused.length} with 503 after that of detection`,
        await allRan(ledger, handed.accepted),
      ].join('; ');
    });
  } finally {
    await ledger.stop();
  }
}

/** Has a gateway on each node: after a node was away for long, both may be on the other one. */
async function spreadGateways(esb: EsbCluster): Promise<void> {
  const bothServe = async (): Promise<boolean> => (await servingNodes(esb)).join() === [AWAY, HOME].join();
  if (!(await bothServe())) {
    await esb.lab.kubectl(['rollout', 'restart', 'deployment', 'esb-gateway', '-n', systemNamespace]);
    await esb.rolledOut();
  }
  await waitFor('a gateway on each node', bothServe, { timeoutMs: ROLLOUT_MS, everyMs: 500 });
}

function throwOn(what: string, failures: readonly LoadFailure[]): void {
  if (failures.length > 0) {
    const shown = [...failures.slice(0, 5), ...failures.slice(5).slice(-1)];
    throw new Error(`${failures.length} ${what}: ${JSON.stringify(shown)}`);
  }
}

async function applyFunctions({ lab }: EsbCluster, image: string, ledger: string): Promise<void> {
  const items = Object.entries(FUNCTIONS).map(([nodeName, name]) =>
    workerManifest(`${name}-1`, {
      image,
      functionName: name,
      nodeName,
      timeoutSeconds: 20,
      env: [{ name: 'LEDGER', value: ledger }],
      resources: { limits: { memory: '128Mi' } },
      ephemeralStorage: '16Mi',
    }),
  );
  await lab.kubectl(['apply', '-f', '-'], manifestList(items));
}

/** Waits until each of these events has run. */
async function allRan(ledger: RunLedger, events: readonly string[]): Promise<string> {
  await waitFor(
    'the end of every accepted event',
    () => {
      const missing = events.filter((event) => !ledger.ended(event));
      if (missing.length > 0) {
        throw new Error(`${missing.length} of ${events.length} have not run, such as ${missing[0]}`);
      }
      return true;
    },
    { timeoutMs: RUN_TIMEOUT_MS, everyMs: 500 },
  );
  return `${events.length} accepted events ran`;
}
