// Runs tests in the guest: node guest-tests.ts FILE... End-to-end tests have the local instance of `ESB_E2E_HOME`: its
// node and gateway run here, its API server and registry outside.
import { spawn } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Home, homeAt } from '../../local/common/home.ts';
import { claimVolatile, partEnvironment, requireInstance, tail } from '../../local/instance/instance.ts';
import { type InstanceState, portOf } from '../../local/instance/instance-state.ts';
import { cgroupParent, instanceCgroup } from '../../local/instance/parts.ts';
import type { PartSpec } from '../../local/supervisor/part.ts';
import { Supervisor } from '../../local/supervisor/supervisor.ts';
import { systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { stageOf } from '../runner/files.ts';
import { waitFor } from '../support/wait-for.ts';
import { guestAddress, guestContainerdPort, outside, resultMark } from './guest.ts';
import { type Report, type Tally, tally } from './tally.ts';

/** Parts of an instance that run here, and ways to those that run outside. */
function guestParts(home: Home, state: InstanceState, parts: readonly PartSpec[]): readonly PartSpec[] {
  const relay = (part: PartSpec, from: string, to: string): PartSpec => ({
    ...part,
    program: process.execPath,
    args: [join(import.meta.dirname, '../support/socket-relay.ts'), from, to],
  });
  return parts.flatMap((part) => {
    if (part.name === 'apiserver' || part.name === 'registry') {
      const port = portOf(state, part.name);
      return [relay(part, `tcp:127.0.0.1:${port}`, `tcp:${outside}:${port}`)];
    }
    if (part.name === 'containerd-node-1') {
      const { containerdSocket } = home.node('node-1');
      const way = { ...part, name: 'way-to-containerd' };
      return [part, relay(way, `tcp:${guestAddress}:${guestContainerdPort}`, `unix:${containerdSocket}`)];
    }
    return /^(agent|gateway)-/.test(part.name) ? [part] : [];
  });
}

/** Starts the node and the gateway of the instance; they end with the guest. */
async function startParts(): Promise<readonly PartSpec[]> {
  const home = homeAt(process.env.ESB_E2E_HOME ?? '');
  const { state, supervisor } = await requireInstance(home);
  const partsFile = join(home.run, 'parts');
  const parts = guestParts(home, state, JSON.parse(await readFile(partsFile, 'utf8')) as PartSpec[]);
  await claimVolatile(home);
  await mkdir(home.node('node-1').agentRun, { recursive: true });
  // Processes outside.
  await rm(home.run, { recursive: true });
  await mkdir(home.run);
  await writeFile(partsFile, JSON.stringify(parts));
  const { signal } = new AbortController();
  const serving = new Supervisor({
    home,
    env: partEnvironment(home),
    clock: systemClock,
    logger: silentLogger(),
  }).run(signal);
  // Each look is work for the same slow processors.
  const everyMs = 5_000;
  await Promise.race([serving, waitFor('the supervisor', () => supervisor.status(), { everyMs })]);
  await waitFor(
    'the parts to be healthy',
    async () => {
      const unhealthy = (await supervisor.status()).parts.filter(({ health }) => health !== 'healthy');
      console.log(['waiting for', ...unhealthy.map(({ name, health }) => `${name}: ${health}`)].join(' '));
      return unhealthy.length === 0;
    },
    { everyMs },
  );
  for (const group of ['/', '/esb', instanceCgroup(home), cgroupParent(home, 'node-1')]) {
    const [controllers = '', passedOn = ''] = await Promise.all(
      ['cgroup.controllers', 'cgroup.subtree_control'].map((name) =>
        readFile(join('/sys/fs/cgroup', group, name), 'utf8'),
      ),
    );
    console.log(`control group ${group}: controllers ${controllers.trim()}; of its groups: ${passedOn.trim()}`);
  }
  return parts;
}

/** Runs the files of one project of vitest. */
async function runTests(project: string, files: readonly string[]): Promise<Tally> {
  const report = `/tmp/${project}.json`;
  const child = spawn(
    'vitest',
    [
      ...['run', '--project', project, '--pool', 'threads', '--no-file-parallelism', '--reporter', 'verbose'],
      ...['--reporter', 'json', `--outputFile.json=${report}`, ...files],
    ],
    { stdio: 'inherit' },
  );
  const ended = Promise.withResolvers<number>();
  child.once('error', ended.reject);
  child.once('exit', (code) => ended.resolve(code ?? 1));
  const exitCode = await ended.promise;
  const result = tally(files, JSON.parse(await readFile(report, 'utf8')) as Report, exitCode);
  console.log(`${project}: vitest ended with ${exitCode}`, result);
  return result;
}

async function main(files: readonly string[]): Promise<void> {
  const results: Tally[] = [];
  const { integration = [], alone = [], e2e = [] } = Object.groupBy(files, (file) => stageOf(file) ?? 'other');
  if (integration.length > 0) {
    results.push(await runTests('integration', integration));
  }
  if (alone.length > 0) {
    results.push(await runTests('alone', alone));
  }
  if (e2e.length > 0) {
    const parts = await startParts();
    const result = await runTests('e2e', e2e);
    results.push(result);
    if (result.passed < result.total) {
      for (const { logFile } of parts) {
        console.log(`the end of ${logFile}:\n${await tail(logFile, 40)}`);
      }
    }
  }
  const sum = (count: (one: Tally) => number): number => results.reduce((total, one) => total + count(one), 0);
  console.log(
    resultMark,
    sum((one) => one.passed),
    sum((one) => one.failed),
    sum((one) => one.total),
  );
}

await main(process.argv.slice(2));
// The supervisor goes on.
process.exit(0);
