/**
 * `npm run test:images`: calls images in the shapes that people have, and prints what each step took.
 *
 *   npm run test:images                         all 20 images
 *   npm run test:images -- --only java,rust     these images
 *   npm run test:images -- --build              builds the images, and calls none
 *   npm run test:images -- --by init            on containerd with the init alone: the test plays the agent
 *
 * The images are put together without Docker, from Debian packages, PyPI, npm, crates.io, Maven Central and the Go
 * module proxy, once into the user cache, in up to ten minutes. Each is called by the AWS SDK in a whole local instance:
 * cold, warm, paused and woken, after a timeout in the same container, and over an agent that is killed while the
 * worker waits and while it works. The instance runs apart from the machine (test/support/apart.sh).
 */
import { programOptions } from '../../hack/program-options.ts';
import { requireRootOnLinux } from '../../local/instance/machine.ts';
import { ensureNeeds, initBuildNeeds, runningNeeds } from '../../local/tools/debian-packages.ts';
import { ensureTools } from '../../local/tools/tools.ts';
import { createProgress } from '../../src/cli/progress.ts';
import { interruption, runHeldApart, untilAborted } from '../support/held-apart.ts';
import { initProgram } from '../support/init-lab.ts';
import { toolsFolder } from '../support/tools.ts';
import type { ImageCaller } from './image-caller.ts';
import { startInitImageCaller } from './init-image-caller.ts';
import { startInstanceImageCaller } from './instance-image-caller.ts';
import { buildContext } from './layer.ts';
import { ensureShapeImage } from './shape-image.ts';
import { type Shape, shapes } from './shapes.ts';
import { type Trial, trialSteps, tryImage } from './trial.ts';

/** Set in the process that runs apart. */
const APART = 'ESB_IMAGES_APART';
const write = (text: string): void => void process.stdout.write(text);

/** Ways to run the images. */
const callers: Readonly<Record<string, () => Promise<ImageCaller>>> = {
  instance: startInstanceImageCaller,
  init: startInitImageCaller,
};

const { values } = programOptions(import.meta.filename, {
  args: process.argv.slice(2),
  options: {
    only: { type: 'string' },
    build: { type: 'boolean', default: false },
    by: { type: 'string', default: 'instance' },
  },
});

function chosenShapes(): readonly Shape[] {
  const wanted = values.only?.split(',') ?? shapes.map(({ name }) => name);
  const unknown = wanted.filter((name) => !shapes.some((shape) => shape.name === name));
  if (unknown.length > 0) {
    throw new Error(`there is no image ${unknown.join(', ')}; there are ${shapes.map(({ name }) => name).join(', ')}`);
  }
  return shapes.filter(({ name }) => wanted.includes(name));
}

function callerOf(name: string): () => Promise<ImageCaller> {
  const start = callers[name];
  if (start === undefined) {
    throw new Error(`--by takes ${Object.keys(callers).join(' or ')}, and got '${name}'`);
  }
  return start;
}

/** Builds what the process that runs apart has no network for. */
async function prepare(chosen: readonly Shape[]): Promise<void> {
  const progress = createProgress({ write, quietBelowMs: 300 });
  await ensureNeeds([...runningNeeds, ...initBuildNeeds], progress);
  const { folder } = await ensureTools({ progress });
  for (const shape of chosen) {
    await ensureShapeImage(shape, buildContext(folder, progress));
  }
  await initProgram();
}

/** Says how an image did. One for another processor does well when it is refused with the two processors' names. */
function verdictOf(shape: Shape, { fault }: Trial): string {
  if (shape.architecture === undefined) {
    return fault === undefined ? 'good' : `BAD ${fault}`;
  }
  const clear = fault?.includes(`linux/${shape.architecture}`) === true;
  return clear ? `good: refused: ${fault?.replace(/^start: /, '')}` : `BAD not refused clearly: ${fault ?? 'it runs'}`;
}

async function main(): Promise<number> {
  const chosen = chosenShapes();
  if (process.env[APART] === undefined) {
    requireRootOnLinux('test:images');
    await prepare(chosen);
    return values.build ? 0 : runHeldApart([...process.execArgv, ...process.argv.slice(1)], { [APART]: '1' });
  }
  const context = buildContext(toolsFolder());
  const columns = ['image'.padEnd(18), ...trialSteps.map((step) => step.padStart(16)), '  '];
  write(`${columns.join('')}\n`);
  const interrupted = untilAborted(interruption());
  let bad = 0;
  const caller = await callerOf(values.by)();
  try {
    for (const shape of chosen) {
      const image = await ensureShapeImage(shape, context);
      const trial = await Promise.race([tryImage(caller, shape, image), interrupted]);
      const times = trialSteps.map((step) => String(trial.times[step] ?? '-').padStart(16));
      const verdict = verdictOf(shape, trial);
      bad += verdict.startsWith('BAD') ? 1 : 0;
      write(`${shape.name.padEnd(18)}${times.join('')}  ${verdict}\n`);
    }
  } finally {
    await caller.close();
  }
  write(`times in milliseconds\n\n${chosen.length - bad} passed, ${bad} failed\n`);
  return bad === 0 ? 0 : 1;
}

process.exit(await main());
