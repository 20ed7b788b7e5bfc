import { randomBytes } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, readlink, rm, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NodeNetwork } from '../../src/cni/contract.ts';
import { silentLogger } from '../../src/common/logger.ts';
import type { ContainerdClient } from '../../src/containerd/containerd-client.ts';
import type { WorkerInits } from '../../src/init/contract.ts';
import type { IsolationOptions } from '../../src/runtime/containerd/isolation.ts';
import { createContainerdRuntime } from '../../src/runtime/containerd/runtime.ts';
import type { CredentialSource } from '../../src/runtime/contract/credential-source.ts';
import type { RuntimeObserver } from '../../src/runtime/contract/instrumentation.ts';
import type { ContainerRuntime, EnsureRequest, WorkerShape } from '../../src/runtime/contract/runtime.ts';
import type { LogLimits } from '../../src/runtime/logs/log-layout.ts';
import type { Connect } from '../../src/runtime/start/port-probe.ts';
import { run } from './command.ts';
import { type NetnsCaller, startNetnsCaller } from './netns-caller.ts';
import { type OwnedProcess, startOwnedProcess } from './owned-process.ts';
import { testImage } from './test-image.ts';
import { startTestRegistry, type TestRegistry } from './test-registry.ts';
import { toolsFolder } from './tools.ts';
import { createVethNetwork, type VethNetwork } from './veth-network.ts';
import { waitFor } from './wait-for.ts';

/** Settings of a runtime that a test may choose. */
export interface LabRuntimeOptions {
  readonly client?: ContainerdClient;
  readonly network?: NodeNetwork;
  readonly logLimits?: LogLimits;
  readonly listenDeadlineMs?: number;
  readonly connect?: Connect;
  readonly hostsFolder?: string;
  readonly maxPulls?: number;
  readonly credentials?: CredentialSource;
  readonly runcRoot?: string;
  /** Whether `/tmp` may be on disk. Default false. */
  readonly tmpOnDisk?: boolean;
  readonly workersPerShim?: number;
  readonly confinement?: IsolationOptions;
  readonly observer?: RuntimeObserver;
  readonly inits?: WorkerInits;
}

/**
 * A real containerd with folders and a socket of its own, a namespace that stands for the node's network, a registry
 * with the test worker's image, and what looks after all of it.
 */
export interface Lab {
  readonly folder: string;
  readonly socketPath: string;
  readonly logFolder: string;
  /** Cgroup above the workers'. */
  readonly cgroupParent: string;
  /** Path of the namespace in which workers are reached. */
  readonly netnsPath: string;
  readonly network: VethNetwork;
  readonly caller: NetnsCaller;
  readonly registry: TestRegistry;
  /** Reference of the test worker's image. */
  readonly image: string;
  readonly containerd: OwnedProcess;
  /** SIGKILL. Workers live on. */
  killContainerd(): Promise<void>;
  startContainerd(): Promise<void>;
  /** Runs `ctr -n esb`. */
  ctr(...args: readonly string[]): Promise<string>;
  /** A runtime on this lab; started, and stopped with it. */
  runtime(options?: LabRuntimeOptions): Promise<ContainerRuntime>;
  /** Traces of workers: tasks, containers, snapshots, leases, attachments, cgroups, shims, logs. */
  leftovers(): Promise<string[]>;
  close(): Promise<void>;
}

/** Removes all workers of a runtime, at once. */
export async function destroyAll(runtime: Pick<ContainerRuntime, 'list' | 'destroy'>): Promise<void> {
  for (const worker of await runtime.list()) {
    await runtime.destroy(worker.containerId, { graceSeconds: 0 });
  }
}

/** Wish of a test for a worker. */
export function ensureRequest(
  lab: { readonly image: string },
  name: string,
  shape: Partial<WorkerShape> = {},
  request: Partial<EnsureRequest> = {},
): EnsureRequest {
  return {
    containerId: `${name}-${randomBytes(16).toString('hex')}`,
    identity: { namespace: 'default', name, uid: `uid-of-${name}`, functionName: name },
    epoch: 1,
    shapeHash: `shape-of-${name}`,
    shape: {
      image: { reference: lab.image, pullPolicy: 'IfNotPresent' },
      command: [],
      args: [],
      env: [],
      memoryMiB: 128,
      pids: 64,
      ephemeralStorageMiB: 16,
      readOnlyRootFilesystem: true,
      timeoutSeconds: 3,
      runtimeInterface: 'Emulator',
      startupTimeoutSeconds: 60,
      port: 8080,
      networkMode: 'Bridge',
      terminationGraceSeconds: 10,
      ...shape,
    },
    ...request,
  };
}

export interface LabOptions {
  /** Gives containerd a file system of its own of so many MiB, in memory, to be filled up. Default: that of /tmp. */
  readonly diskMiB?: number;
}

const LABS = tmpdir();

/** Where runc keeps the states of containers of the namespace `esb`, whichever containerd started them. */
const RUNC_STATES = '/run/containerd/runc/esb';

/** Name of a lab's control group and network namespace. The run of the tests is in the name: the run looks for leftovers. */
export function labName(kind: string): string {
  return ['esb', kind, process.env.ESB_TEST_RUN, randomBytes(4).toString('hex')].filter(Boolean).join('-');
}

/** Starts a lab. The caller closes it, also when the test fails (`afterAll`). */
export async function startLab(options: LabOptions = {}): Promise<Lab> {
  await sweep();
  const tools = toolsFolder();
  const folder = await mkdtemp(join(LABS, `${await labPrefix()}${process.pid}-`));
  // As containerd's own folders are: workers with users of their own have to get through to their files.
  await chmod(folder, 0o711);
  const name = labName('t');
  const socketPath = join(folder, 'c.sock');
  const logFolder = join(folder, 'logs');
  const hostsFolder = join(folder, 'hosts');
  const tmpFolder = join(folder, 'tmp');
  const config = join(folder, 'config.toml');
  await writeFile(config, configuration(folder, socketPath));
  await writeFile(join(folder, 'name'), name);
  if (options.diskMiB !== undefined) {
    // Taken away by `clean`, as all mounts below the folder are.
    await mkdir(join(folder, 'root'));
    await run('mount', [...['-t', 'tmpfs', '-o', `size=${options.diskMiB}m`], ...['esb-lab', join(folder, 'root')]]);
  }
  await run('ip', ['netns', 'add', name]);
  await run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
  const network = createVethNetwork(name);
  const caller = startNetnsCaller(`/run/netns/${name}`);
  const registry = await startTestRegistry();
  const image = registry.put('worker:1', await testImage());
  const runtimes: ContainerRuntime[] = [];
  let containerd: OwnedProcess | undefined;

  const ctr = async (...args: readonly string[]): Promise<string> => {
    const answer = await run(join(tools, 'ctr'), ['-a', socketPath, '-n', 'esb', ...args]);
    return answer.stdout;
  };

  const startContainerd = async (): Promise<void> => {
    containerd = await startOwnedProcess({
      program: join(tools, 'containerd'),
      args: ['--config', config, '--address', socketPath],
      logFile: join(folder, 'containerd.log'),
      env: { ...process.env, PATH: `${tools}:${process.env.PATH ?? ''}` },
    });
    await waitFor('containerd', async () => (await ctr('version')) !== '', {
      timeoutMs: 60_000,
      everyMs: 50,
    });
  };

  const lab: Lab = {
    folder,
    socketPath,
    logFolder,
    cgroupParent: `/${name}`,
    netnsPath: `/run/netns/${name}`,
    network,
    caller,
    registry,
    image,
    get containerd() {
      if (containerd === undefined) {
        throw new Error('containerd is not running');
      }
      return containerd;
    },
    async killContainerd() {
      await containerd?.kill();
      containerd = undefined;
    },
    startContainerd,
    ctr,
    async runtime(options = {}) {
      const { confinement = { cgroupParent: `/${name}` }, listenDeadlineMs: deadlineMs } = options;
      const connect: Connect = (address) =>
        address.ip === '127.0.0.1' ? connectHere(address.port) : caller.connect(address);
      const runtime = createContainerdRuntime({
        containerd: { socketPath, client: options.client },
        network: options.network ?? network,
        logs: { folder: logFolder, limits: options.logLimits },
        images: {
          maxPulls: options.maxPulls,
          hostsFolder: options.hostsFolder,
          credentials: options.credentials,
        },
        readiness: { deadlineMs, connect: options.connect ?? connect },
        etc: { hostsFolder },
        ...(options.tmpOnDisk === undefined ? {} : { tmp: { folder: tmpFolder, isWanted: options.tmpOnDisk } }),
        shims: { runcRoot: options.runcRoot, workersPerShim: options.workersPerShim },
        isolation: confinement,
        inits: options.inits,
        observer: options.observer,
        logger: silentLogger(),
      });
      runtimes.push(runtime);
      await runtime.start();
      return runtime;
    },
    async leftovers() {
      const lines = async (...args: readonly string[]): Promise<readonly string[]> =>
        (await ctr(...args)).split('\n').filter((line) => line !== '');
      const snapshots = (await lines('snapshots', 'list')).filter((line) => line.endsWith(' Active'));
      const leases = (await lines('leases', 'list', '-q')).filter((line) => line.startsWith('esb-'));
      return [
        ...(await lines('tasks', 'list', '-q')).map((id) => `task ${id}`),
        ...(await lines('containers', 'list', '-q')).map((id) => `container ${id}`),
        ...snapshots.map((line) => `snapshot ${line.split(/\s+/)[0]}`),
        ...leases.map((id) => `lease ${id}`),
        ...(await network.list()).map(({ containerId }) => `attachment ${containerId}`),
        ...(await cgroupFolders(name)).filter((path) => !path.endsWith(name)).map((path) => `cgroup ${path}`),
        ...(await shimsOf(socketPath)).map((pid) => `shim ${pid}`),
        ...(await readdir(logFolder).catch(() => [])).map((file) => `log ${file}`),
        ...(await readdir(hostsFolder).catch(() => [])).map((file) => `hosts file ${file}`),
        ...(await readdir(tmpFolder).catch(() => []))
          .filter((file) => !file.startsWith('.'))
          .map((file) => `tmp file ${file}`),
        ...(await readdir(join(folder, 'run', 'inits')).catch(() => [])).map((id) => `init ${id}`),
      ];
    },
    async close() {
      await Promise.all(runtimes.map((runtime) => runtime.stop()));
      caller.close();
      await registry.close();
      await containerd?.kill();
      await clean(folder, name);
    },
  };
  try {
    await startContainerd();
  } catch (error) {
    await lab.close();
    throw error;
  }
  return lab;
}

function configuration(folder: string, socketPath: string): string {
  return `version = 3
root = '${folder}/root'
state = '${folder}/state'
disabled_plugins = [
  'io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime',
  'io.containerd.podsandbox.controller.v1.podsandbox', 'io.containerd.nri.v1.nri',
  'io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.zfs', 'io.containerd.snapshotter.v1.blockfile', 'io.containerd.snapshotter.v1.erofs',
]
[grpc]
  address = '${socketPath}'
[ttrpc]
  address = '${socketPath}.ttrpc'
`;
}

async function connectHere(port: number): Promise<boolean> {
  try {
    await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(1000) });
    return true;
  } catch {
    return false;
  }
}

/** Processes of shims that serve this containerd. */
export async function shimsOf(socketPath: string): Promise<number[]> {
  const found: number[] = [];
  for (const entry of await readdir('/proc')) {
    const line = /^\d+$/.test(entry) ? await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '') : '';
    if (line.includes('containerd-shim') && line.split('\0').includes(socketPath)) {
      found.push(Number(entry));
    }
  }
  return found;
}

/** Every control group of a lab, in every hierarchy. */
export async function cgroupFolders(name: string): Promise<string[]> {
  const result = await run('find', ['/sys/fs/cgroup', '-type', 'd', '-path', `*/${name}*`], {
    mayFail: true,
  });
  return result.stdout.split('\n').filter((line) => line !== '');
}

/** Ends and removes everything that a lab may have left, in any state. */
async function clean(folder: string, name: string): Promise<void> {
  for (const cgroup of await cgroupFolders(name)) {
    const freezer = join(cgroup, 'freezer.state');
    await writeFile(freezer, 'THAWED', { flag: 'r+' }).catch(() => undefined);
    const processes = await readFile(join(cgroup, 'cgroup.procs'), 'utf8').catch(() => '');
    for (const pid of processes.split('\n').filter((line) => line !== '')) {
      killQuietly(Number(pid));
    }
  }
  for (const pid of await shimsOf(join(folder, 'c.sock'))) {
    killQuietly(pid);
  }
  await waitFor('the shims to end', async () => (await shimsOf(join(folder, 'c.sock'))).length === 0);
  const bundles = await readdir(join(folder, 'state/io.containerd.runtime.v2.task/esb')).catch(() => []);
  for (const id of bundles) {
    await rm(join(RUNC_STATES, id), { recursive: true, force: true });
  }
  const mounts = (await readFile('/proc/self/mounts', 'utf8'))
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => path.startsWith(`${folder}/`));
  for (const path of mounts.toReversed()) {
    await run('umount', ['-l', path], { mayFail: true });
  }
  const netns = await readdir('/run/netns').catch(() => []);
  for (const entry of netns.filter((path) => path === name || path.startsWith(`${name}-`))) {
    await run('ip', ['netns', 'delete', entry], { mayFail: true });
  }
  await waitFor('the cgroups to be empty', async () => {
    for (const cgroup of (await cgroupFolders(name)).toSorted((a, b) => b.length - a.length)) {
      await rmdir(cgroup).catch(() => undefined);
    }
    return (await cgroupFolders(name)).length === 0;
  });
  await rm(folder, { recursive: true, force: true });
}

/**
 * Prefix of the folders of labs of this process table. A lab that runs apart from the machine (`apart.sh`) cannot see
 * the processes of other ones, and would take them for dead.
 */
async function labPrefix(): Promise<string> {
  const table = /\d+/.exec(await readlink('/proc/self/ns/pid'))?.[0] ?? '';
  return `esb-lab-p${table}-`;
}

/** Cleans up after labs whose test process was killed. */
async function sweep(): Promise<void> {
  const prefix = await labPrefix();
  for (const entry of await readdir(LABS)) {
    const path = join(LABS, entry);
    const pid = entry.startsWith(prefix) ? /^\d+/.exec(entry.slice(prefix.length))?.[0] : undefined;
    if (pid === undefined || (await isAlive(pid))) {
      continue;
    }
    const name = await readFile(join(path, 'name'), 'utf8').catch(() => '');
    if (name === '') {
      await rm(path, { recursive: true, force: true });
    } else {
      await clean(path, name);
    }
  }
}

async function isAlive(pid: string): Promise<boolean> {
  return (await readdir('/proc')).includes(pid);
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // The process has ended.
  }
}
