import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { homeAt } from '../../local/common/home.ts';
import { instanceCgroup } from '../../local/instance/parts.ts';
import { unreachable } from '../../src/common/errors.ts';
import { untilAborted } from '../support/held-apart.ts';
import { compareHostInventory, takeHostInventory } from '../support/host-audit.ts';
import { type Call, CallBook, type Excuses } from './call-book.ts';
import { type ChaosInstance, nodes, startChaosInstance } from './chaos-instance.ts';
import { callEveryWorker, differencesFromWishes, tasksOf, untilNothingDiffers } from './convergence.ts';
import { type DoneFault, Faults } from './faults.ts';
import {
  descriptorsOf,
  type Footprint,
  footprintOf,
  growth,
  type Holdings,
  holdingsOf,
  looseProcesses,
  unseen,
} from './footprint.ts';
import { Journal } from './journal.ts';
import { type Action, actionText, type FaultKind, type Wish } from './step.ts';
import { walk } from './walk.ts';
import { Wishes } from './wishes.ts';

export interface ChaosOptions {
  readonly seed: number;
  readonly steps: number;
  readonly workers: number;
  /** Number of minutes or steps after which the walk ends. */
  readonly minutes: number;
  readonly faults: readonly FaultKind[];
  readonly longestFaultMs: number;
  /** Waits between steps are that many times as long as the shortest walk has them. */
  readonly pace: number;
  /** Milliseconds that everything may take to come to rest. */
  readonly restWithinMs: number;
  readonly home: string;
  /** Ends the walk, which then counts as wrong; the instance is taken down all the same. */
  readonly signal: AbortSignal;
  /** Folder that gets all calls, and the logs of all parts before the instance is taken down. */
  readonly keep?: string | undefined;
  readonly write: (text: string) => void;
}

export interface ChaosResult {
  /** How many were done. */
  readonly steps: number;
  readonly history: readonly string[];
  /** Empty when all is well. */
  readonly wrong: readonly string[];
}

/** Growth that a process may show over the walk: buffers, connections, compiled code. */
const MORE_DESCRIPTORS = 30;
const MORE_MIB = 150;
/** Excuses hold a little longer than their fault. */
const AFTERMATH_MS = 15_000;

/** A walk over an instance of its own, and everything that has to hold afterwards. */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const { write } = options;
  // Control groups are the machine's; those of other instances come and go as they like.
  const cgroup = instanceCgroup(homeAt(options.home));
  const before = await takeHostInventory({ cgroup });
  const instance = await startChaosInstance(options.home, options.signal);
  const history: string[] = [];
  const wrong: string[] = [];
  let steps = 0;
  try {
    const walked = await walkOver(instance, options, history);
    steps = walked.steps;
    wrong.push(...walked.wrong);
  } finally {
    if (options.keep !== undefined) {
      await cp(instance.home.logs, join(options.keep, 'logs'), { recursive: true });
    }
    write('taking the instance down\n');
    // Faults from before are reported as well.
    await instance.down().catch((error: unknown) => wrong.push(`taking the instance down: ${String(error)}`));
  }
  wrong.push(...compareHostInventory(before, await takeHostInventory({ cgroup })));
  return { steps, history, wrong };
}

async function walkOver(
  instance: ChaosInstance,
  options: ChaosOptions,
  history: string[],
): Promise<{ readonly steps: number; readonly wrong: readonly string[] }> {
  const { write } = options;
  const { home, client, image } = instance;
  const began = performance.now();
  const note = (text: string): void => {
    history.push(`${((performance.now() - began) / 1_000).toFixed(3).padStart(9)}  ${text}`);
  };
  const giveUp = new AbortController();
  const wishes = new Wishes({ client, image, signal: giveUp.signal });
  const book = new CallBook(instance.gateways);
  const journal = new Journal(nodes.map((node) => `${home.node(node).agent}/logs`));
  const faults = new Faults({
    home,
    clockFile: instance.clockFile,
    placeOf: async (worker) => {
      const status = (await wishes.get(worker))?.status;
      const node = status?.assignment?.nodeName;
      const container = status?.containerID;
      return node === undefined || container === undefined ? undefined : { node, container };
    },
    note,
  });
  const wrong: string[] = [];
  let steps = 0;
  const walkThrough = async (): Promise<void> => {
    await journal.start();
    await warmUp(instance, wishes, book);
    const baseline = await stock(instance);
    write(`walking with seed ${options.seed}: ${options.steps} steps over ${options.workers} workers\n`);
    const end = performance.now() + options.minutes * 60_000;
    for (const { number, waitMs, action } of walk(options)) {
      if (number > options.steps || performance.now() > end) {
        break;
      }
      await delay(waitMs, undefined, { signal: options.signal });
      note(`${number} ${actionText(action)}`);
      act(number, action, { wishes, book, faults });
      steps = number;
      if (number % 100 === 0) {
        write(`  step ${number}, ${Math.round((performance.now() - began) / 1_000)} s\n`);
      }
    }
    write(`walked ${steps} steps; healing and coming to rest\n`);
    await faults.heal();
    note('healed');
    await instance.untilHealthy(120_000);
    const impatience = setTimeout(
      () => giveUp.abort(new Error(`the last wishes of ${wishes.untaken.join(', ')} cannot be told`)),
      options.restWithinMs,
    );
    await wishes.sayAgain().finally(() => clearTimeout(impatience));
    await book.untilAllEnded();
    wrong.push(...(await comeToRest(instance, wishes, book, faults, options)));
    note('at rest');
    wrong.push(...faults.verdicts(), ...faults.hung.verdicts(faults.done));
    await journal.look();
    wrong.push(...book.verdicts(journal, excusesOf(faults.done)));
    write(`${book.summary()}\n${faults.summary()}; ${faults.hung.summary()}\n`);
    if (options.keep !== undefined) {
      await mkdir(options.keep, { recursive: true });
      const lines = book.calls.map((call) => JSON.stringify({ ...call, beganAt: call.beganAt - began }));
      await writeFile(join(options.keep, 'calls.jsonl'), `${lines.join('\n')}\n`);
    }
    wrong.push(...(await removeAll(instance, wishes, baseline, options)));
  };
  try {
    await Promise.race([walkThrough(), untilAborted(options.signal)]);
  } catch (error) {
    wrong.push(`the walk was cut off: ${String((error as Error).stack ?? error)}`);
  } finally {
    await faults.cutShort();
    giveUp.abort();
    await faults.hung.close();
    await journal.stop();
    await book.close();
  }
  return { steps, wrong };
}

function act(
  step: number,
  action: Action,
  { wishes, book, faults }: { wishes: Wishes; book: CallBook; faults: Faults },
): void {
  switch (action.kind) {
    case 'create':
      wishes.create(action.worker, action.wish);
      return;
    case 'rest':
    case 'change':
      wishes.change(action.worker, action.wish);
      return;
    case 'delete':
      wishes.delete(action.worker);
      return;
    case 'call':
      for (let each = 0; each < action.count; each += 1) {
        book.start(step, action.worker, action.gateway, { sleepMs: action.sleepMs });
      }
      return;
    case 'crash':
      book.start(step, action.worker, action.gateway, { exit: 3 });
      return;
    case 'fault':
      faults.start(action.fault);
      return;
    default:
      unreachable(action);
  }
}

/**
 * Everything has happened once before stock is taken: the image is there, connections and code are loaded.
 */
async function warmUp(instance: ChaosInstance, wishes: Wishes, book: CallBook): Promise<void> {
  const names = ['warm-1', 'warm-2', 'warm-3', 'warm-4'];
  for (const [index, name] of names.entries()) {
    const wish: Wish = { desiredState: 'Running', wakePolicy: 'OnInvoke', revision: 1, pauseAfter: 1 };
    wishes.create(name, wish, nodes[index % nodes.length]);
  }
  await wishes.untilTaken();
  const left = await untilNothingDiffers(60_000, () => differencesFromWishes(instance, wishes));
  if (left.length > 0) {
    throw new Error(`no worker comes up before anything was done: ${left.join('\n')}`);
  }
  await Promise.all(names.flatMap((name) => [1, 2].map((gateway) => book.call(0, name, gateway, {}))));
  for (const name of names) {
    wishes.delete(name);
  }
  await wishes.untilTaken();
  await untilNothingDiffers(60_000, () => differencesFromWishes(instance, wishes));
  // Slots are refilled in the background.
  await delay(3_000);
}

interface Stock {
  readonly footprints: ReadonlyMap<string, Footprint>;
  readonly holdings: ReadonlyMap<string, Holdings>;
}

async function stock(instance: ChaosInstance): Promise<Stock> {
  const footprints = new Map<string, Footprint>();
  for (const node of nodes) {
    footprints.set(node, await footprintOf(instance.home, node));
  }
  const holdings = new Map<string, Holdings>();
  for (const [name, pid] of await instance.parts()) {
    const held = await holdingsOf(pid);
    if (held !== undefined) {
      holdings.set(name, held);
    }
  }
  return { footprints, holdings };
}

async function comeToRest(
  instance: ChaosInstance,
  wishes: Wishes,
  book: CallBook,
  faults: Faults,
  { restWithinMs, write }: ChaosOptions,
): Promise<readonly string[]> {
  const began = performance.now();
  // A worker whose shim is stopped may be as it is wanted by all that its resource says.
  const differences = async (): Promise<readonly string[]> => [
    ...faults.hung.left(),
    ...(await differencesFromWishes(instance, wishes)),
  ];
  const restless = await untilNothingDiffers(restWithinMs, differences);
  write(`at rest after ${Math.round((performance.now() - began) / 1_000)} s, ${restless.length} differ\n`);
  if (restless.length > 0) {
    return restless;
  }
  const silent = await callEveryWorker(book, wishes, faults.killed());
  const moved = await untilNothingDiffers(60_000, differences);
  const tasks = await tasksOf(instance);
  const blind: string[] = [];
  for (const node of nodes) {
    const workers = tasks.filter((task) => task.node === node).length;
    blind.push(...unseen(node, workers, await footprintOf(instance.home, node)));
  }
  return [...silent, ...moved, ...blind];
}

/** Deletes every worker: then each node is as it was, and no process of ours holds more than before. */
async function removeAll(
  instance: ChaosInstance,
  wishes: Wishes,
  baseline: Stock,
  { restWithinMs, write }: ChaosOptions,
): Promise<readonly string[]> {
  for (const name of wishes.wanted.keys()) {
    wishes.delete(name);
  }
  await wishes.untilTaken();
  const left = await untilNothingDiffers(restWithinMs, async () => {
    const undeleted = await differencesFromWishes(instance, wishes);
    if (undeleted.length > 0) {
      return undeleted;
    }
    const now = await stock(instance);
    const pids = new Set((await instance.parts()).values());
    return [
      ...[...now.footprints].flatMap(([node, after]) =>
        growth(baseline.footprints.get(node) ?? {}, after).map((what) => `${node}: ${what}`),
      ),
      ...(await looseProcesses(instance.home, pids)).map((what) => `a process is left: ${what}`),
      ...(await excess(baseline.holdings, now.holdings)),
    ];
  });
  const now = await stock(instance);
  for (const [name, { descriptors, residentMiB }] of now.holdings) {
    const then = baseline.holdings.get(name);
    write(
      `  ${name.padEnd(18)} descriptors ${then?.descriptors} → ${descriptors}, resident ${then?.residentMiB} → ${residentMiB} MiB\n`,
    );
  }
  return left;
}

async function excess(before: ReadonlyMap<string, Holdings>, after: ReadonlyMap<string, Holdings>): Promise<string[]> {
  const found: string[] = [];
  for (const [name, now] of after) {
    const then = before.get(name);
    if (then === undefined) {
      continue;
    }
    if (now.descriptors > then.descriptors + MORE_DESCRIPTORS) {
      const what = (await descriptorsOf(now.pid)).slice(0, 6).join(', ');
      found.push(`${name} holds ${now.descriptors} descriptors, before ${then.descriptors}: ${what}`);
    }
    // etcd and the API server keep a history of every object on purpose.
    if (!['etcd', 'apiserver'].includes(name) && now.residentMiB > then.residentMiB + MORE_MIB) {
      found.push(`${name} has ${now.residentMiB} MiB in memory, before ${then.residentMiB}`);
    }
  }
  return found;
}

function excusesOf(done: readonly DoneFault[]): Excuses {
  const during = (call: Call, { from, to }: DoneFault): boolean =>
    from <= call.beganAt + call.tookMs && call.beganAt <= to + AFTERMATH_MS;
  const of = (call: Call, test: (fault: DoneFault['fault']) => boolean): boolean =>
    done.some((each) => during(call, each) && test(each.fault));
  return {
    // A shim that could not write once writes no more of that container, as long as it lives. One that is stopped for
    // good is killed with what it has not written.
    mayMissOutput: (call) =>
      done.some(({ fault, from }) => fault.kind === 'disk' && from <= call.beganAt + call.tookMs) ||
      of(
        call,
        (fault) =>
          (fault.kind === 'hang' && fault.worker === call.worker) ||
          ((fault.kind === 'kill' || fault.kind === 'stop') &&
            fault.target.kind === 'shim' &&
            fault.target.worker === call.worker),
      ),
    mayStall: (call) =>
      of(
        call,
        (fault) => fault.kind === 'stop' && fault.target.kind === 'worker' && fault.target.worker === call.worker,
      ),
  };
}
