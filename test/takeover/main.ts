/**
 * `npm run test:takeover`: kills the agent of a node again and again under calls, and counts what became of them.
 *
 *   npm run test:takeover                     1,000 kills, 20 workers
 *   npm run test:takeover -- --kills 20       fewer
 *   npm run test:takeover -- --workers 5      one of each kind
 *   npm run test:takeover -- --seed 7         other calls
 *   npm run test:takeover -- --keep FOLDER    keeps the logs of all parts
 *
 * Workers in Python, Node.js (with streamed answers, and without), Go and bash are called all the time: shortly, for 30
 * seconds, with large events, with large answers and with streamed ones. Half of them take three calls at once, and half
 * are paused between calls. The agent is killed by SIGKILL, and started at once: most times once calls are answered, and
 * each fifth time in the middle of its start. Each function notes the calls that it runs, so at the end the calls are
 * known that ran twice, and the runtimes that were lost. Any call that is not answered fails the run. The instance runs
 * apart from the machine (test/support/apart.sh).
 */
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { programOptions } from '../../hack/program-options.ts';
import { requireRootOnLinux } from '../../local/instance/machine.ts';
import { ensureInitProgram } from '../../local/tools/built-program.ts';
import { ensureNeeds, runningNeeds } from '../../local/tools/debian-packages.ts';
import { ensureTools } from '../../local/tools/tools.ts';
import { createProgress } from '../../src/cli/progress.ts';
import { buildContext } from '../images/layer.ts';
import { ensureShapeImage } from '../images/shape-image.ts';
import { interruption, runHeldApart, untilAborted } from '../support/held-apart.ts';
import { toolsFolder } from '../support/tools.ts';
import { takeoverShapes } from './shapes.ts';
import { takeover } from './takeover.ts';
import { bringUp, openTakeoverInstance, takeDown } from './takeover-instance.ts';
import { summaryOf } from './verdict.ts';

/** Set in the process that runs apart. */
const APART = 'ESB_TAKEOVER_APART';
/** Lines of calls that did not end as they should that are printed. */
const MOST_LINES = 60;
const write = (text: string): void => void process.stdout.write(text);

const { values } = programOptions(import.meta.filename, {
  args: process.argv.slice(2),
  options: {
    kills: { type: 'string', default: '1000' },
    workers: { type: 'string', default: '20' },
    seed: { type: 'string', default: '1' },
    keep: { type: 'string' },
  },
});

function numberOf(name: 'kills' | 'workers' | 'seed'): number {
  const number = Number(values[name]);
  if (!Number.isSafeInteger(number) || number < 0) {
    throw new Error(`--${name} takes a whole number, and got '${values[name]}'`);
  }
  return number;
}

/** Builds what the process that runs apart has no network for. */
async function prepare(): Promise<void> {
  const progress = createProgress({ write, quietBelowMs: 300 });
  await ensureNeeds(runningNeeds, progress);
  const { folder } = await ensureTools({ progress });
  await ensureInitProgram({ progress });
  for (const { shape } of takeoverShapes) {
    await ensureShapeImage(shape, buildContext(folder, progress));
  }
}

async function main(): Promise<number> {
  const [kills, workers, seed] = [numberOf('kills'), numberOf('workers'), numberOf('seed')];
  if (process.env[APART] === undefined) {
    requireRootOnLinux('test:takeover');
    await prepare();
    const compiled = await mkdtemp('/tmp/esb-compiled-');
    try {
      const env = { [APART]: '1', NODE_COMPILE_CACHE: compiled };
      return await runHeldApart([...process.execArgv, ...process.argv.slice(1)], env);
    } finally {
      await rm(compiled, { recursive: true, force: true });
    }
  }
  const interrupted = untilAborted(interruption());
  // Paths of Unix sockets below it must stay under 108 bytes.
  const root = await mkdtemp('/tmp/esb-takeover-');
  const home = join(root, 'home');
  try {
    await bringUp(home);
    await using instance = await openTakeoverInstance(home);
    const options = { kills, workers, seed, longSeconds: 30, tools: toolsFolder(), write };
    const verdict = await Promise.race([takeover(instance, options), interrupted]);
    write(`${verdict.wrong.slice(0, MOST_LINES).join('\n')}\n${summaryOf(kills, verdict)}\n`);
    return verdict.wrong.length === 0 ? 0 : 1;
  } finally {
    if (values.keep !== undefined) {
      await cp(join(home, 'logs'), values.keep, { recursive: true });
    }
    await takeDown(home);
    await rm(root, { recursive: true, force: true });
  }
}

process.exit(await main());
