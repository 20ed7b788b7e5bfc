import { setTimeout as delay } from 'node:timers/promises';
import { stringify } from 'yaml';
import { waitFor } from '../../support/wait-for.ts';
import { pushLedgerImage } from '../cluster-images.ts';
import {
  chartFolder,
  type EsbCluster,
  emulatedReference,
  imageTags,
  previousTag,
  systemNamespace,
} from '../esb-cluster.ts';
import { eventVolume } from '../event-volume.ts';
import { expectNoFailure } from '../load.ts';
import type { Report } from '../report.ts';
import { type RunLedger, startRunLedger } from '../run-ledger.ts';
import type { LoadResult } from '../steady-load.ts';

/** Calls, and events, that a load must have seen to say anything. */
const ENOUGH_CALLS = 100;
const ENOUGH_EVENTS = 20;
/** Events that wait in a store while its program is replaced, and seconds that each of them runs. */
const WAITING_EVENTS = 12;
const RUN_SECONDS = 3;
/** Milliseconds that Kubernetes may take to know that a node is dead: 50 seconds by default, and more on a busy machine. */
const DETECTION_MS = 180_000;
/** Milliseconds after that in which kube-proxy has taken its gateway out of the Service. */
const SETTLE_MS = 20_000;
/** Milliseconds that a call may take which goes to a gateway that is gone. */
const CALL_TIMEOUT_MS = 10_000;
const RUN_TIMEOUT_MS = 240_000;
/** An event each, so that one worker keeps up. */
const EVENT_THINK_MS = 250;

/** The node of `esb-events`, by its volume, and the other one. */
const HOME = 'node-b';
const AWAY = 'node-a';

/** One function on each node, so that calls do not depend on a node that is cut off. */
const FUNCTIONS = { [HOME]: 'home', [AWAY]: 'away' } as const;

/**
 * The role that keeps events takes over the volume of the gateway of the release before; then one node after the other
 * is cut off.
 */
export async function gatewaysScenario(esb: EsbCluster, report: Report, previousChart: string): Promise<void> {
  const { lab, values } = esb;
  const ledger = await startRunLedger();
  const eventLoad = (from: string, functionName: string, seconds: number) =>
    esb.load(from, [functionName], seconds === 0 ? 2 : 4, {
      event: { sleep: seconds },
      type: 'Event',
      thinkMs: seconds === 0 ? EVENT_THINK_MS : 20,
      timeoutMs: CALL_TIMEOUT_MS,
    });
  /** Accepts events that take long together, changes the release meanwhile, and waits until all have run. */
  const changeUnderEvents = async (tag: string, change: () => Promise<unknown>): Promise<string> => {
    const load = await eventLoad(HOME, FUNCTIONS[HOME], RUN_SECONDS);
    await load.goOn(WAITING_EVENTS);
    const { accepted } = await load.result();
    await change();
    await esb.rolledOut(tag);
    return allRan(ledger, accepted);
  };
  try {
    const installed = await report.check('the release before has one gateway with a volume', async () => {
      await lab.kubectl(['apply', '-f', '-'], stringify(eventVolume));
      await lab.node(HOME).run('mkdir', ['-p', eventVolume.spec.local.path]);
      const image = await pushLedgerImage(lab.folder, emulatedReference);
      await lab.helm([
        ...['install', 'esb', previousChart, '-n', systemNamespace, ...values],
        ...['--set', `image.tag=${previousTag},gateway.events.store=sqlite`, '--wait', '--timeout', '4m'],
      ]);
      await esb.rolledOut(previousTag);
      await applyFunctions(esb, image, ledger.address);
      await esb.workersReady();
      return objectsOf(esb, 'statefulset');
    });
    if (!installed) {
      return;
    }
    await report.check('helm upgrade: esb-events has the volume, and runs what the gateway had accepted', async () => {
      const upgrade = (...more: readonly string[]) =>
        lab.helm([
          ...['upgrade', 'esb', chartFolder, '-n', systemNamespace, '--reset-then-reuse-values'],
          ...['--set', [`image.tag=${imageTags[0]}`, ...more].join(','), '--wait', '--timeout', '5m'],
        ]);
      const told = await changeUnderEvents(imageTags[0], () => upgrade());
      // The lab has no DNS: there the address of the role goes before its name.
      const address = await lab.kubectl([
        ...['get', 'service', 'esb-events', '-n', systemNamespace, '-o', 'jsonpath={.spec.clusterIP}'],
      ]);
      await upgrade(`gateway.extraArgs={--events-address=${address}:9444}`);
      await esb.rolledOut(imageTags[0]);
      return `${told}; ${await objectsOf(esb, 'statefulset')}; gateways on ${(await gatewayNodes(esb)).join(' and ')}`;
    });
    await report.check('one of two gateways and its node cut off: no accepted event is lost', async () => {
      const nodes = await gatewayNodes(esb);
      if (!nodes.includes(HOME) || !nodes.includes(AWAY)) {
        throw new Error(`gateways are on ${nodes.join(' and ')}`);
      }
      const calls = await esb.load(HOME, [FUNCTIONS[HOME]], 4, { timeoutMs: CALL_TIMEOUT_MS });
      const events = await eventLoad(HOME, FUNCTIONS[HOME], 0);
      await calls.goOn(ENOUGH_CALLS);
      const knownAt = await cutOff(esb, AWAY);
      await delay(CALL_TIMEOUT_MS);
      await calls.goOn(ENOUGH_CALLS);
      await events.goOn(ENOUGH_EVENTS);
      const [called, handed] = [await calls.result(), await events.result()];
      await lab.powerOn(AWAY);
      await esb.rolledOut();
      const late = [...called.failures, ...handed.failures].filter(
        (each) => Date.parse(each.at) > knownAt + CALL_TIMEOUT_MS,
      );
      if (late.length > 0) {
        throw new Error(`failed after the node was known to be dead: ${JSON.stringify(late.slice(0, 5))}`);
      }
      return `${shownOf(called)}; events: ${shownOf(handed)}; ${await allRan(ledger, handed.accepted)}`;
    });
    await report.check('the node of esb-events cut off: events get 503, calls go on, and nothing is lost', async () => {
      const events = await eventLoad(AWAY, FUNCTIONS[AWAY], 0);
      await events.goOn(ENOUGH_EVENTS);
      const knownAt = await cutOff(esb, HOME);
      await delay(CALL_TIMEOUT_MS);
      const calls = await esb.load(AWAY, [FUNCTIONS[AWAY]], 4, { timeoutMs: CALL_TIMEOUT_MS });
      await calls.goOn(ENOUGH_CALLS);
      const called = expectNoFailure(await calls.result(), ENOUGH_CALLS);
      const handed = await events.result();
      const late = handed.failures.filter((each) => Date.parse(each.at) > knownAt + CALL_TIMEOUT_MS);
      const other = late.filter(({ why }) => !why.startsWith('503'));
      if (late.length === 0 || other.length > 0) {
        throw new Error(`${late.length} events were refused, by something else: ${JSON.stringify(other.slice(0, 5))}`);
      }
      await lab.powerOn(HOME);
      await esb.rolledOut();
      const again = await eventLoad(AWAY, FUNCTIONS[AWAY], 0);
      await again.goOn(ENOUGH_EVENTS);
      const { accepted } = await again.result();
      return `${called}; events: ${shownOf(handed)}; ${await allRan(ledger, [...handed.accepted, ...accepted])}`;
    });
    await report.check(
      'helm rollback: the gateway of before has the volume, and runs what esb-events had',
      async () => {
        const told = await changeUnderEvents(previousTag, () =>
          lab.helm(['rollback', 'esb', '1', '-n', systemNamespace, '--wait', '--timeout', '5m']),
        );
        return `${told}; ${await objectsOf(esb, 'statefulset')}`;
      },
    );
  } finally {
    await ledger.stop();
  }
}

/** Cuts a node off, and waits until Kubernetes sends no call there any more; gives the wall-clock time of that. */
async function cutOff({ lab }: EsbCluster, node: string): Promise<number> {
  await lab.powerOff(node);
  await waitFor(
    `${node} to be known as dead`,
    async () => {
      const ready = '{.status.conditions[?(@.type=="Ready")].status}';
      return (await lab.kubectl(['get', 'node', node, '-o', `jsonpath=${ready}`])) !== 'True';
    },
    { timeoutMs: DETECTION_MS, everyMs: 1_000 },
  );
  await delay(SETTLE_MS);
  return Date.now();
}

async function applyFunctions({ lab }: EsbCluster, image: string, ledger: string): Promise<void> {
  const items = Object.entries(FUNCTIONS).map(([nodeName, name]) => ({
    apiVersion: 'esb.dev/v1alpha1',
    kind: 'LambdaWorker',
    metadata: { name: `${name}-1`, namespace: 'default' },
    spec: {
      image,
      functionName: name,
      nodeName,
      timeoutSeconds: 20,
      env: [{ name: 'LEDGER', value: ledger }],
      resources: { limits: { memory: '128Mi' } },
      ephemeralStorage: '16Mi',
    },
  }));
  await lab.kubectl(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
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

function shownOf({ answered, failed, failures }: LoadResult): string {
  return `${answered} answered, ${failed} not${failures[0] === undefined ? '' : `, such as ${failures[0].why}`}`;
}

async function objectsOf({ lab }: EsbCluster, kind: string): Promise<string> {
  return (await lab.kubectl(['get', kind, '-n', systemNamespace, '-o', 'name'])).trim().split('\n').join(', ');
}

async function gatewayNodes({ lab }: EsbCluster): Promise<readonly string[]> {
  const names = await lab.kubectl([
    ...['get', 'pods', '-n', systemNamespace, '-l', 'app.kubernetes.io/component=gateway'],
    ...['--field-selector', 'status.phase=Running', '-o', 'jsonpath={.items[*].spec.nodeName}'],
  ]);
  return names.trim().split(' ').toSorted();
}
