/**
 * `npm run test:chaos`: a random walk over an instance of its own, and whether everything comes to rest without a
 * trace.
 *
 *   npm run test:chaos                                  50 workers, 2,000 steps, a new seed
 *   npm run test:chaos -- --seed 7                      the walk of seed 7 again
 *   npm run test:chaos -- --workers 8 --steps 80        a short one
 *   npm run test:chaos -- --only kill,plugin            these kinds of faults only
 *   npm run test:chaos -- --minutes 10                  ends walking after ten minutes
 *   npm run test:chaos -- --pace 1                      walks three times as fast as by itself
 *
 * A step is to create, pause, resume, call, change or delete a worker, or a fault: SIGKILL or SIGSTOP of the agent,
 * containerd, a shim, a worker, a gateway, a controller or the API server; a CNI plugin that fails, hangs or answers
 * garbage; a full disk; a step of the clock; the init of a worker that is killed, alone or
 * with its agent, or its runtime; a shim that is stopped for good; containerd stopped for 60 s. The steps
 * follow from the seed and the options; when they hit what, the machine decides. The instance runs apart from the
 * machine (test/support/apart.sh), so that another one may run beside it.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { programOptions } from '../../hack/program-options.ts';
import { requireRootOnLinux } from '../../local/instance/machine.ts';
import { ensureInitProgram } from '../../local/tools/built-program.ts';
import { ensureNeeds, runningNeeds } from '../../local/tools/debian-packages.ts';
import { ensureTools } from '../../local/tools/tools.ts';
import { createProgress } from '../../src/cli/progress.ts';
import { interruption, runHeldApart } from '../support/held-apart.ts';
import { workerFiles } from '../support/test-image.ts';
import { clockLibrary } from './chaos-instance.ts';
import { runChaos } from './chaos-run.ts';
import { type FaultKind, faultKinds } from './step.ts';

/** Set in the process that runs apart. */
const APART = 'ESB_CHAOS_APART';
const write = (text: string): void => void process.stdout.write(text);

const { values } = programOptions(import.meta.filename, {
  args: process.argv.slice(2),
  options: {
    seed: { type: 'string' },
    steps: { type: 'string', default: '2000' },
    workers: { type: 'string', default: '50' },
    minutes: { type: 'string', default: '60' },
    only: { type: 'string' },
    pace: { type: 'string', default: '3' },
    'longest-fault': { type: 'string', default: '60000' },
    'rest-within': { type: 'string', default: '300000' },
    keep: { type: 'string' },
  },
});

function faultsOf(only: string | undefined): readonly FaultKind[] {
  const wanted = only === undefined ? faultKinds : only.split(',').filter((word) => word !== '');
  const unknown = wanted.filter((word) => !faultKinds.includes(word as FaultKind));
  if (unknown.length > 0) {
    throw new Error(`there is no fault ${unknown.join(', ')}; there are ${faultKinds.join(', ')}`);
  }
  return wanted as readonly FaultKind[];
}

/** The value of an option that is a number. */
function numberOf(name: Exclude<keyof typeof values, 'only' | 'keep'>): number {
  const number = Number(values[name]);
  if (values[name]?.trim() === '' || !Number.isFinite(number) || number < 0) {
    throw new Error(`--${name} takes a number, and got '${values[name]}'`);
  }
  return number;
}

/** Set-up that is impossible inside, where no way leads out. */
async function prepare(): Promise<void> {
  const progress = createProgress({ write, quietBelowMs: 300 });
  await ensureNeeds(
    [...runningNeeds, { file: clockLibrary, debianPackage: 'libfaketime', purpose: 'steps of the clock' }],
    progress,
  );
  await ensureTools({ progress });
  await ensureInitProgram({ progress });
  await workerFiles();
}

async function main(): Promise<number> {
  const faults = faultsOf(values.only);
  const seed = values.seed === undefined ? Math.floor(Math.random() * 1_000_000) : numberOf('seed');
  const options = {
    seed,
    faults,
    steps: numberOf('steps'),
    workers: numberOf('workers'),
    minutes: numberOf('minutes'),
    longestFaultMs: numberOf('longest-fault'),
    pace: numberOf('pace'),
    restWithinMs: numberOf('rest-within'),
  };
  if (process.env[APART] === undefined) {
    requireRootOnLinux('test:chaos');
    await prepare();
    return runHeldApart([...process.execArgv, ...process.argv.slice(1), `--seed=${seed}`], {
      [APART]: '1',
      PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin`,
    });
  }
  const signal = interruption();
  // Paths of Unix sockets below it must stay under 108 bytes.
  const folder = await mkdtemp('/tmp/esb-chaos-');
  try {
    const { keep } = values;
    const home = join(folder, 'home');
    const { steps, history, wrong } = await runChaos({ ...options, home, keep, write, signal });
    if (keep !== undefined) {
      await writeFile(join(keep, 'history'), `${history.join('\n')}\n`);
    }
    const again = `npm run test:chaos -- --seed ${seed} --steps ${values.steps} --workers ${values.workers} --only ${faults.join(',')} --longest-fault ${values['longest-fault']} --pace ${values.pace}`;
    const walked = steps < options.steps ? `${steps} of ${options.steps} steps` : `${steps} steps`;
    if (wrong.length === 0) {
      write(`chaos passed: seed ${seed}, ${walked}, ${values.workers} workers\n`);
      return 0;
    }
    write(`\nHistory (seconds, step, what):\n${history.join('\n')}\n\nWhat is wrong:\n${wrong.join('\n')}\n\n`);
    write(`chaos FAILED: seed ${seed}, ${walked}; once more with: ${again}\n`);
    return 1;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

process.exit(await main());
