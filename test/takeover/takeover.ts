import { setTimeout } from 'node:timers/promises';
import { Random } from '../chaos/random.ts';
import { buildContext } from '../images/layer.ts';
import { ensureShapeImage } from '../images/shape-image.ts';
import { waitFor } from '../support/wait-for.ts';
import { type CallKind, Load, type LoadedWorker } from './load.ts';
import { takeoverShapes } from './shapes.ts';
import type { TakeoverInstance } from './takeover-instance.ts';
import { type Verdict, verdictOn } from './verdict.ts';

export interface TakeoverOptions {
  readonly kills: number;
  readonly workers: number;
  readonly seed: number;
  /** Of a long call. */
  readonly longSeconds: number;
  /** Folder of the third-party programs. */
  readonly tools: string;
  readonly write: (text: string) => void;
}

/** Kills between two lines about the progress. */
const LINE_EVERY = 50;
/** Kills between two looks at which workers are paused. */
const LOOK_EVERY = 5;
/** Share of the agents that are killed in the middle of their start, and most milliseconds until then. */
const EARLY_CHANCE = 0.2;
const START_MS = 1_200;
/** Milliseconds of an agent from its first answer: most for some hundreds, some for long enough to pause idle workers. */
const SHORT_LIFE_MS = 400;
const LONG_LIFE_MS = 2_000;
const LONG_LIFE_CHANCE = 0.2;
/** Milliseconds in which the gateway finds an agent that serves, and has a call answered. */
const FOUND_MS = 20_000;
/** Calls at once of a worker that takes several. */
const PLACES = 3;

/** Kills the agent under load, and judges what became of the calls. */
export async function takeover(instance: TakeoverInstance, options: TakeoverOptions): Promise<Verdict> {
  const { tools } = options;
  const names = new Map<string, string>();
  for (const { shape } of takeoverShapes) {
    const image = await ensureShapeImage(shape, buildContext(tools));
    names.set(shape.name, await instance.push(shape.name, image));
  }
  const images = new Map<string, string>();
  const workers = Array.from({ length: options.workers }, (_, index): LoadedWorker => {
    const round = Math.floor(index / takeoverShapes.length);
    const { shape, streams } = takeoverShapes[index % takeoverShapes.length] as (typeof takeoverShapes)[number];
    const name = `${shape.name}-${round + 1}`;
    images.set(name, names.get(shape.name) ?? '');
    // Each shape with one call at a time and with several, and half of both paused.
    const places = (index + round) % 4 >= 2 ? PLACES : 1;
    return { name, streams, isPausing: (index % 2 === 0) !== round >= 2, places, callers: places + (round % 2) };
  });
  await instance.makeWorkers(workers, images);
  try {
    return await killUnderLoad(instance, workers, options);
  } finally {
    await instance.removeWorkers(workers);
  }
}

/** The time of an agent, from its start to its end. */
async function live(instance: TakeoverInstance, random: Random, hasAnswered: () => boolean): Promise<void> {
  if (random.chance(EARLY_CHANCE)) {
    await setTimeout(random.between(0, START_MS));
    return;
  }
  await instance.untilAgentServes();
  await waitFor('the first answer by an agent', hasAnswered, { timeoutMs: FOUND_MS, everyMs: 10 });
  await setTimeout(random.chance(LONG_LIFE_CHANCE) ? LONG_LIFE_MS : random.between(0, SHORT_LIFE_MS));
}

async function killUnderLoad(
  instance: TakeoverInstance,
  workers: readonly LoadedWorker[],
  { kills, longSeconds, seed, write }: TakeoverOptions,
): Promise<Verdict> {
  const load = new Load({ lambda: instance.lambda, workers, seed, longSeconds });
  const random = new Random(seed + 1);
  const began = performance.now();
  const hits = new Map<CallKind, number>();
  const paused: number[] = [];
  for (let kill = 1; kill <= kills; kill += 1) {
    if (kill % LOOK_EVERY === 0) {
      paused.push(await instance.pausedWorkers());
    }
    for (const kind of load.underWay) {
      hits.set(kind, (hits.get(kind) ?? 0) + 1);
    }
    const answered = load.calls.length;
    await instance.killAgent();
    await live(instance, random, () => load.calls.length > answered);
    if (kill % LINE_EVERY === 0) {
      const others = load.calls.filter(({ end }) => end !== 'Answered');
      const seconds = (performance.now() - began) / 1_000;
      const each = (seconds / kill).toFixed(2);
      write(
        `${kill} of ${kills} kills in ${Math.round(seconds)} s (${each} s each), ${load.calls.length} calls, ` +
          `${others.length} not answered\n`,
      );
    }
  }
  await instance.untilAgentServes();
  await load.end();
  const sum = paused.reduce((all, count) => all + count, 0);
  const met = { kills, calls: hits, paused: sum / Math.max(1, paused.length) };
  return verdictOn(load.calls, await instance.runs(workers), met);
}
