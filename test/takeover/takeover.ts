import { Random } from '../chaos/random.ts';
import { buildContext } from '../images/layer.ts';
import { ensureShapeImage } from '../images/shape-image.ts';
import { Load, type LoadedWorker } from './load.ts';
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
    return { name, streams, isPausing: index % 2 === 0, callers: 1 + (round % 2) };
  });
  await instance.makeWorkers(workers, images);
  try {
    return await killUnderLoad(instance, workers, options);
  } finally {
    await instance.removeWorkers(workers);
  }
}

async function killUnderLoad(
  instance: TakeoverInstance,
  workers: readonly LoadedWorker[],
  { kills, longSeconds, seed, write }: TakeoverOptions,
): Promise<Verdict> {
  const load = new Load({ lambda: instance.lambda, workers, seed, longSeconds });
  const random = new Random(seed + 1);
  const began = performance.now();
  for (let kill = 1; kill <= kills; kill += 1) {
    await instance.killAgent(random);
    if (kill % LINE_EVERY === 0) {
      const unknown = load.calls.filter(({ end }) => end !== 'Answered').length;
      const seconds = Math.round((performance.now() - began) / 1_000);
      write(`${kill} kills in ${seconds} s, ${load.calls.length} calls, ${unknown} not answered\n`);
    }
  }
  await instance.untilAgentServes();
  await load.end();
  return verdictOn(load.calls, await instance.runs(workers));
}
