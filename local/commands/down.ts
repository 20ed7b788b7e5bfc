import { access, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import type { CommandContext } from '../../src/cli/command-context.ts';
import { createProgress, formatDuration, type Progress } from '../../src/cli/progress.ts';
import { removeNodeNetwork } from '../../src/cni/gc/uninstall.ts';
import { EsbError, errnoOf, messageOf } from '../../src/common/errors.ts';
import { localCode } from '../common/error-codes.ts';
import { type Home, openHome } from '../common/home.ts';
import { unmountBelow } from '../common/mount-table.ts';
import { type InstanceProcess, instanceProcesses, signalProcess, waitForEnd } from '../common/process-table.ts';
import { lockProgram } from '../common/program-lock.ts';
import { repositoryRoot } from '../common/repository.ts';
import { dockerSocketOf, removeEngineWorkers } from '../instance/instance-engine.ts';
import { nodeNames, readInstanceState } from '../instance/instance-state.ts';
import { requireRootOnLinux } from '../instance/machine.ts';
import { instanceCgroup, WORKER_SUBNET } from '../instance/parts.ts';
import { removeWorkerCgroups } from '../instance/worker-cgroups.ts';
import { netnsPath, nodeAddress } from '../network/node-address.ts';
import { removeNodeNamespace } from '../network/node-namespace.ts';
import { createSupervisorClient } from '../supervisor/supervisor-client.ts';

const SHUTDOWN_DEADLINE_MS = 90_000;
const TERM_DEADLINE_MS = 8_000;
const KILL_DEADLINE_MS = 10_000;
/** Folder of the sockets of containerd's shims, the same for every daemon. */
const SHIM_SOCKETS = '/run/containerd/s';
/** Folder of runc's states of the containers in the namespace `esb`, the same for every daemon. */
const RUNC_STATES = '/run/containerd/runc/esb';
const MOST_NODES = 8;

/**
 * Ends the local instance and removes everything that it made, also after a crash of any part: processes, workers,
 * mounts, namespaces, bridges, rules, control groups, files. May be repeated.
 *
 * @throws {EsbError} `NotClean` naming what could not be removed
 */
export async function runDown(_options: object, context: CommandContext): Promise<void> {
  requireRootOnLinux('down');
  const began = performance.now();
  const progress = createProgress({ write: context.write, quietBelowMs: 300 });
  const home = openHome();
  const lock = await lockProgram(home.lockFile, {
    signal: context.signal,
    onWait: () => progress.say('  … waiting for another up or down'),
  });
  try {
    const there =
      (await exists(home.stateFile)) ||
      (await exists(home.volatile)) ||
      (await instanceProcesses(home.root)).length > 0;
    if (!there) {
      await removeFiles(home);
      context.write(`There is no local instance in ${home.root}.\n`);
      return;
    }
    progress.say(`Taking down the local instance in ${home.root}`);
    const left = await takeDown(home, progress);
    if (left.length > 0) {
      throw new EsbError(`the instance is down, but this is left behind:\n${left.join('\n')}`, {
        code: localCode('NotClean'),
      });
    }
    context.write(`ESB is down (${formatDuration(performance.now() - began)}); nothing of it is left.\n`);
  } finally {
    // Removed while the lock is held: another program that waits for it finds nothing to do either way.
    await rm(home.lockFile, { force: true });
    await lock.release();
  }
}

/** Returns the leftovers, in words. */
async function takeDown(home: Home, progress: Progress): Promise<string[]> {
  const left: string[] = [];
  const attempt = async (what: string, work: () => Promise<readonly string[]>): Promise<void> => {
    try {
      left.push(...(await work()));
    } catch (error) {
      left.push(`${what}: ${messageOf(error)}`);
    }
  };
  const nodes = await nodesOf(home);
  const state = await readInstanceState(home.stateFile).catch(() => undefined);
  const engine = dockerSocketOf(state?.agentOptions ?? []);
  await progress.step('parts', () => attempt('parts', () => stopParts(home)));
  await progress.step('workers', async () => {
    await attempt('control groups', () => removeWorkerCgroups(instanceCgroup(home)));
    await attempt('processes', () => killAll(home));
    // A shim that was just starting a worker may have made another group.
    await attempt('control groups', () => removeWorkerCgroups(instanceCgroup(home)));
    await attempt('mounts', () => unmountBelow(join(home.root, 'nodes')));
    await attempt('runc', () => removeRuncStates(home));
    await attempt('shim sockets', removeDeadShimSockets);
    if (engine !== undefined) {
      await attempt('Docker', () => removeEngineWorkers(home, engine));
    }
  });
  await progress.step('network', async () => {
    // The machine's own node last: the links to the other nodes count as interfaces that may need forwarding.
    for (const node of nodes.toReversed()) {
      await attempt(`network of ${node}`, () => removeNetwork(home, node));
    }
  });
  await progress.step('files', () => attempt('files', () => removeFiles(home)));
  return left;
}

async function nodesOf(home: Home): Promise<string[]> {
  const state = await readInstanceState(home.stateFile).catch(() => undefined);
  const found = await readdir(join(home.root, 'nodes')).catch(() => []);
  const known = new Set([...nodeNames(state?.nodes ?? 1), ...found]);
  return nodeNames(MOST_NODES).filter((name) => known.has(name));
}

/** In order where the supervisor answers, else by the mark of the instance in each process. */
async function stopParts(home: Home): Promise<string[]> {
  try {
    await createSupervisorClient(home.supervisorSocket).shutdown({ deadlineMs: SHUTDOWN_DEADLINE_MS });
    return [];
  } catch {
    // The supervisor has crashed or hangs: go on without it.
  }
  const all = await instanceProcesses(home.root);
  const supervisors = all.filter(({ argv }) => argv.some((part) => part.endsWith('supervisor-process.ts')));
  // First, or it would start again the parts that are ended below.
  await Promise.all(supervisors.map((one) => end(one, 'SIGKILL', KILL_DEADLINE_MS)));
  const parts = (await instanceProcesses(home.root)).filter((one) => !isShim(one));
  await Promise.all(parts.map((one) => end(one, 'SIGTERM', TERM_DEADLINE_MS)));
  return [];
}

async function killAll(home: Home): Promise<string[]> {
  const isOurs = (one: InstanceProcess): boolean => !isCaller(one);
  // Once more, for processes that a dying one still started.
  for (let round = 0; round < 3; round += 1) {
    const all = (await instanceProcesses(home.root)).filter(isOurs);
    if (all.length === 0) {
      return [];
    }
    await Promise.all(all.map((one) => end(one, 'SIGKILL', KILL_DEADLINE_MS)));
  }
  return (await instanceProcesses(home.root))
    .filter(isOurs)
    .map(({ pid, argv }) => `process ${pid} (${argv.join(' ').slice(0, 100)})`);
}

/** A command of the user's own that runs in a shell of the instance. */
function isCaller({ argv }: InstanceProcess): boolean {
  return argv.includes('down');
}

function isShim({ argv }: InstanceProcess): boolean {
  return (argv[0] ?? '').includes('containerd-shim');
}

async function end(target: InstanceProcess, signal: NodeJS.Signals, deadlineMs: number): Promise<void> {
  await signalProcess(target, signal);
  await signalProcess(target, 'SIGCONT');
  if (!(await waitForEnd(target, deadlineMs))) {
    await signalProcess(target, 'SIGKILL');
    await waitForEnd(target, KILL_DEADLINE_MS);
  }
}

async function removeNetwork(home: Home, node: string): Promise<string[]> {
  const { namespace } = nodeAddress(node);
  const failures = await removeNodeNetwork({
    stateDir: home.node(node).agent,
    configFile: join(repositoryRoot(), 'cni', '10-esb.conflist'),
    pluginFolder: home.bin,
    subnet: WORKER_SUBNET,
    ...(namespace === undefined ? {} : { nodeNetns: netnsPath(namespace) }),
    deadlineMs: 60_000,
  });
  await removeNodeNamespace(node);
  return failures;
}

/**
 * States that runc keeps of workers that it was never asked to delete. Each state names the folder of its container.
 */
async function removeRuncStates(home: Home): Promise<string[]> {
  for (const id of await readdir(RUNC_STATES).catch(() => [])) {
    const state = await readFile(join(RUNC_STATES, id, 'state.json'), 'utf8').catch(() => '');
    if (state.includes(`${home.root}/nodes/`)) {
      await rm(join(RUNC_STATES, id), { recursive: true, force: true });
    }
  }
  for (const folder of [RUNC_STATES, dirname(RUNC_STATES)]) {
    await rmdir(folder).catch(() => undefined);
  }
  return [];
}

/** Sockets of killed shims. A socket that another process listens on is not ours. */
async function removeDeadShimSockets(): Promise<string[]> {
  const names = await readdir(SHIM_SOCKETS).catch(() => []);
  for (const name of names) {
    const path = join(SHIM_SOCKETS, name);
    if (await isDead(path)) {
      await rm(path, { force: true });
    }
  }
  // Both folders exist for these alone.
  await rmdir(SHIM_SOCKETS).catch(() => undefined);
  await rmdir('/run/containerd').catch(() => undefined);
  return [];
}

async function isDead(path: string): Promise<boolean> {
  const answer = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.on('connect', () => answer.resolve(false));
  socket.on('error', (error) => answer.resolve(errnoOf(error) === 'ECONNREFUSED'));
  try {
    return await answer.promise;
  } finally {
    socket.destroy();
  }
}

/** Only the entries with our names: a home may be a folder with other things in it. */
async function removeFiles(home: Home): Promise<string[]> {
  const ours = [
    home.bin,
    home.envFile,
    home.kubeconfig,
    home.kubeconfigs,
    home.logs,
    home.pki,
    home.run,
    home.supervisorSocket,
    home.etcd,
    home.registry,
    home.auditPolicy,
    home.gateways,
    join(home.root, 'nodes'),
    join(home.root, 'kubectl-cache'),
    home.volatile,
    // Last: while the folder exists, `down` has something to do.
    home.stateFile,
  ];
  for (const path of ours) {
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  }
  await rmdir(home.root).catch(() => undefined);
  return [];
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
