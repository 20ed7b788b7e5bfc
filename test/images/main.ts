/**
 * `npm run test:images`: calls images in the shapes that people have, and prints what each step took.
 *
 *   npm run test:images                         all 22 images
 *   npm run test:images -- --only java,rust     these images
 *   npm run test:images -- --build              builds the images, and calls none
 *   npm run test:images -- --by init            on containerd with the init alone: the test plays the agent
 *
 * The images are put together without Docker, from Debian packages, PyPI, npm, crates.io, Maven Central and the Go
 * module proxy, once into the user cache, in up to ten minutes. Each is called by the AWS SDK in a whole local instance:
 * cold, warm, paused and woken, after a timeout in the same container, and over an agent that is killed while the
 * worker waits and while it works. Web applications are called by function URLs through a gateway and an agent without
 * the rest of an instance. All of it runs apart from the machine (test/support/apart.sh).
 */
import { programOptions } from '../../hack/program-options.ts';
import { ensureSampleImage } from '../../local/image/sample-image.ts';
import { requireRootOnLinux } from '../../local/instance/machine.ts';
import { ensureNeeds, initBuildNeeds, runningNeeds } from '../../local/tools/debian-packages.ts';
import { ensureTools } from '../../local/tools/tools.ts';
import { createProgress } from '../../src/cli/progress.ts';
import { messageOf } from '../../src/common/errors.ts';
import { interruption, runHeldApart, untilAborted } from '../support/held-apart.ts';
import { initProgram } from '../support/init-lab.ts';
import { ensurePythonClients } from '../support/python-clients.ts';
import { toolsFolder } from '../support/tools.ts';
import type { ImageCaller } from './image-caller.ts';
import { startInitImageCaller } from './init-image-caller.ts';
import { startInstanceImageCaller } from './instance-image-caller.ts';
import { buildContext } from './layer.ts';
import { ensureShapeImage } from './shape-image.ts';
import { type Shape, shapes } from './shapes.ts';
import { type Trial, trialSteps, tryImage } from './trial.ts';
import { type WebShape, webShapes } from './web-shapes.ts';
import { startWebCaller, type WebCaller } from './web-trial.ts';

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

/** The images that were asked for, of those that are called in the same way. */
function chosen<S extends Shape>(all: readonly S[]): readonly S[] {
  const wanted = values.only?.split(',');
  return all.filter(({ name }) => wanted?.includes(name) ?? true);
}

function refuseUnknown(): void {
  const known = [...shapes, ...webShapes].map(({ name }) => name);
  const unknown = (values.only?.split(',') ?? []).filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new Error(`there is no image ${unknown.join(', ')}; there are ${known.join(', ')}`);
  }
}

function callerOf(name: string): () => Promise<ImageCaller> {
  const start = callers[name];
  if (start === undefined) {
    throw new Error(`--by takes ${Object.keys(callers).join(' or ')}, and got '${name}'`);
  }
  return start;
}

/** Builds what the process that runs apart has no network for. */
async function prepare(all: readonly Shape[]): Promise<void> {
  const progress = createProgress({ write, quietBelowMs: 300 });
  await ensureNeeds([...runningNeeds, ...initBuildNeeds], progress);
  const { folder } = await ensureTools({ progress });
  await ensurePythonClients(progress);
  await ensureSampleImage('python-counter', { progress, tools: folder });
  for (const shape of all) {
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

/** Calls images one after the other; gives how many did badly. */
async function callImages(caller: ImageCaller, tried: readonly Shape[], interrupted: Promise<never>): Promise<number> {
  const columns = ['image'.padEnd(18), ...trialSteps.map((step) => step.padStart(16)), '  '];
  write(`${columns.join('')}\n`);
  let bad = 0;
  for (const shape of tried) {
    const image = await ensureShapeImage(shape, buildContext(toolsFolder()));
    const trial = await Promise.race([tryImage(caller, shape, image), interrupted]);
    const times = trialSteps.map((step) => String(trial.times[step] ?? '-').padStart(16));
    const verdict = verdictOf(shape, trial);
    bad += verdict.startsWith('BAD') ? 1 : 0;
    write(`${shape.name.padEnd(18)}${times.join('')}  ${verdict}\n`);
  }
  write('times in milliseconds\n');
  return bad;
}

/** Checks of web applications. */
async function callByUrl(caller: WebCaller, tried: readonly WebShape[], interrupted: Promise<never>): Promise<number> {
  let bad = 0;
  for (const shape of tried) {
    const image = await ensureShapeImage(shape, buildContext(toolsFolder()));
    const checked = caller.check(shape, image).then(() => undefined, messageOf);
    const fault = await Promise.race([checked, interrupted]);
    bad += fault === undefined ? 0 : 1;
    write(`${shape.name.padEnd(18)} by URL  ${fault === undefined ? 'good' : `BAD ${fault}`}\n`);
  }
  return bad;
}

async function main(): Promise<number> {
  refuseUnknown();
  const called = chosen(shapes);
  const byUrl = values.by === 'instance' ? chosen(webShapes) : [];
  if (process.env[APART] === undefined) {
    requireRootOnLinux('test:images');
    await prepare([...called, ...byUrl]);
    return values.build ? 0 : runHeldApart([...process.execArgv, ...process.argv.slice(1)], { [APART]: '1' });
  }
  const interrupted = untilAborted(interruption());
  let bad = 0;
  if (called.length > 0) {
    const caller = await callerOf(values.by)();
    try {
      bad += await callImages(caller, called, interrupted);
    } finally {
      await caller.close();
    }
  }
  if (byUrl.length > 0) {
    const caller = await startWebCaller();
    try {
      bad += await callByUrl(caller, byUrl, interrupted);
    } finally {
      await caller.close();
    }
  }
  write(`\n${called.length + byUrl.length - bad} passed, ${bad} failed\n`);
  return bad === 0 ? 0 : 1;
}

process.exit(await main());
