import { randomUUID } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, readlink, rm, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '../../src/common/logger.ts';
import type { WorkerInits } from '../../src/init/contract.ts';
import type { ContainerRuntime } from '../../src/runtime/contract/runtime.ts';
import { createDockerRuntime } from '../../src/runtime/docker/runtime.ts';
import { run } from './command.ts';
import { dockerPackages } from './docker-packages.ts';
import { cgroupFolders, labName } from './lab.ts';
import { type NetnsCaller, startNetnsCaller } from './netns-caller.ts';
import { type OwnedProcess, startOwnedProcess } from './owned-process.ts';
import { relaySockets } from './socket-relay.ts';
import { testImage } from './test-image.ts';
import { startTestRegistry, type TestRegistry } from './test-registry.ts';
import { waitFor } from './wait-for.ts';

/**
 * A real Docker engine with folders, a socket, a network and mounts of its own, a registry with the test worker's image
 * that it reaches, and what looks after all of it.
 */
export interface DockerLab {
  readonly folder: string;
  readonly socketPath: string;
  readonly logFolder: string;
  /** Cgroup above the containers'. */
  readonly cgroupParent: string;
  /** Path of the namespace in which the engine's bridges are. */
  readonly netnsPath: string;
  readonly caller: NetnsCaller;
  readonly registry: TestRegistry;
  /** Reference of the test worker's image. */
  readonly image: string;
  readonly engine: OwnedProcess;
  /** SIGKILL. Containers live on. */
  killEngine(): Promise<void>;
  startEngine(): Promise<void>;
  /** Runs `docker`. */
  docker(...args: readonly string[]): Promise<string>;
  /** A runtime on this lab; started, and stopped with it. */
  runtime(options?: { readonly listenDeadlineMs?: number; readonly inits?: WorkerInits }): Promise<ContainerRuntime>;
  /** Traces of workers: containers, volumes, cgroups, logs, notes. */
  leftovers(): Promise<string[]>;
  /** Starts a program where the engine is. */
  inside(program: string, args: readonly string[], env?: NodeJS.ProcessEnv): Promise<OwnedProcess>;
  close(): Promise<void>;
}

export interface DockerLabOptions {
  /** Socket of a containerd that the engine is to use. Default: one of its own. */
  readonly containerd?: string;
}

const LABS = tmpdir();
/** A network and mounts of its own, in which /sys shows the devices of that network and /run is empty. */
const HOLDER = `
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/cgroup
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
umount -R -l /run/cgroup
ip link set lo up
exec sleep infinity
`;

/** Starts a lab. The caller closes it, also when the test fails (`afterAll`). */
export async function startDockerLab(options: DockerLabOptions = {}): Promise<DockerLab> {
  await sweep();
  const { env } = dockerPackages();
  const folder = await mkdtemp(join(LABS, `${await labPrefix()}${process.pid}-`));
  await chmod(folder, 0o711);
  const name = labName('d');
  await writeFile(join(folder, 'name'), name);
  const config = join(folder, 'daemon.json');
  await writeFile(config, '{}');
  const socketPath = join(folder, 'docker.sock');
  const logFolder = join(folder, 'logs');
  const closers: (() => unknown)[] = [() => clean(folder, name)];
  const close = async (): Promise<void> => {
    for (const each of closers.splice(0).toReversed()) {
      await each();
    }
  };
  try {
    return await build();
  } catch (error) {
    await close();
    throw error;
  }

  async function build(): Promise<DockerLab> {
    const holder = await startOwnedProcess({
      program: 'unshare',
      args: ['--net', '--mount', '--propagation', 'private', 'sh', '-c', HOLDER],
      logFile: join(folder, 'holder.log'),
    });
    closers.push(() => holder.kill());
    await waitFor('the namespaces', async () =>
      (await readFile(`/proc/${holder.pid}/cmdline`, 'utf8')).startsWith('sleep'),
    );
    const netnsPath = `/proc/${holder.pid}/ns/net`;
    const inside: DockerLab['inside'] = (program, args, environment = process.env) =>
      startOwnedProcess({
        program: 'nsenter',
        args: ['--target', String(holder.pid), '--net', '--mount', program, ...args],
        logFile: join(folder, `${program.split('/').at(-1)}-${randomUUID().slice(0, 8)}.log`),
        env: environment,
      });
    const caller = startNetnsCaller(netnsPath);
    closers.push(() => caller.close());
    const registry = await startTestRegistry();
    closers.push(() => registry.close());
    const port = Number(registry.host.split(':')[1]);
    const socket = join(folder, 'registry.sock');
    const outside = await relaySockets(`unix:${socket}`, `tcp:127.0.0.1:${port}`);
    closers.push(() => outside.close());
    const relay = await inside(process.execPath, [
      join(import.meta.dirname, 'socket-relay.ts'),
      `tcp:127.0.0.1:${port}`,
      `unix:${socket}`,
    ]);
    closers.push(() => relay.kill());
    await waitFor('the way to the registry', () => caller.connect({ ip: '127.0.0.1', port }));
    const image = registry.put('worker:1', await testImage());

    let engine: OwnedProcess | undefined;
    const containerdPid = join(folder, 'exec', 'containerd', 'containerd.pid');
    closers.push(() => engine?.kill());
    const docker: DockerLab['docker'] = async (...args) =>
      (await run('docker', ['--host', `unix://${socketPath}`, ...args], { env })).stdout;
    const startEngine = async (): Promise<void> => {
      // A pid file of a process that was killed may name a process that lives, or one that was not waited for: the
      // engine would take it for its containerd, and wait for that.
      await rm(join(folder, 'pid'), { force: true });
      await rm(containerdPid, { force: true });
      const started = await inside(
        'dockerd',
        [
          ...['--config-file', config],
          ...['--data-root', join(folder, 'root'), '--exec-root', join(folder, 'exec')],
          ...['--pidfile', join(folder, 'pid'), '--host', `unix://${socketPath}`],
          ...['--bridge', 'none', '--cgroup-parent', `/${name}`, '--live-restore'],
          ...(options.containerd === undefined ? [] : ['--containerd', options.containerd]),
        ],
        // An engine whose containerd does not answer in time has that write its stacks there, and starts another.
        { ...env, TMPDIR: folder },
      );
      engine = started;
      await waitFor(
        'the engine',
        async () => {
          if (started.ended()) {
            throw new Error(`the engine ended:\n${started.output().slice(-4000)}`);
          }
          return (await docker('version').catch(() => '')) !== '';
        },
        { timeoutMs: 60_000, everyMs: 200 },
      ).catch((error: unknown) => {
        throw new Error(`the engine does not answer:\n${started.output().slice(-4000)}`, { cause: error });
      });
    };
    await startEngine();

    return {
      folder,
      socketPath,
      logFolder,
      cgroupParent: `/${name}`,
      netnsPath,
      caller,
      registry,
      image,
      get engine() {
        if (engine === undefined) {
          throw new Error('the engine is not running');
        }
        return engine;
      },
      async killEngine() {
        const containerd = Number(await readFile(containerdPid, 'utf8').catch(() => '0'));
        await engine?.kill();
        engine = undefined;
        // The kernel ends it with the engine.
        await waitFor('the end of its containerd', async () => containerd === 0 || (await hasEnded(containerd)));
      },
      startEngine,
      docker,
      async runtime({ inits, listenDeadlineMs: deadlineMs } = {}) {
        const runtime = createDockerRuntime({
          docker: { socketPath },
          logs: { folder: logFolder },
          readiness: { deadlineMs, connect: (address) => caller.connect(address) },
          inits,
          logger: silentLogger(),
        });
        closers.push(() => runtime.stop());
        await runtime.start();
        return runtime;
      },
      async leftovers() {
        const lines = async (...args: readonly string[]): Promise<readonly string[]> =>
          (await docker(...args)).split('\n').filter((line) => line !== '');
        const files = async (path: string): Promise<readonly string[]> =>
          await readdir(join(folder, path)).catch(() => []);
        return [
          ...(await lines('container', 'ls', '--all', '--format', '{{.Names}}')).map((id) => `container ${id}`),
          ...(await lines('volume', 'ls', '--quiet')).map((id) => `volume ${id}`),
          ...(await cgroupFolders(name)).filter((path) => !path.endsWith(name)).map((path) => `cgroup ${path}`),
          ...(await files('logs')).map((file) => `log ${file}`),
          ...(await files('docker/copied')).map((file) => `copied ${file}`),
          ...(await files('docker/epochs')).map((file) => `epoch ${file}`),
          ...(await files('run/inits')).map((id) => `init ${id}`),
        ];
      },
      inside,
      close,
    };
  }
}

/** Whether there is no such process any more, or nothing of it but its exit code. */
async function hasEnded(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return stat === undefined || /\) [ZX] /.test(stat);
}

/** Ends and removes everything that a lab may have left, in any state. Its mounts go with its processes. */
async function clean(folder: string, name: string): Promise<void> {
  for (const cgroup of await cgroupFolders(name)) {
    await writeFile(join(cgroup, 'freezer.state'), 'THAWED', { flag: 'r+' }).catch(() => undefined);
    const processes = await readFile(join(cgroup, 'cgroup.procs'), 'utf8').catch(() => '');
    for (const pid of processes.split('\n').filter((line) => line !== '')) {
      killQuietly(Number(pid));
    }
  }
  await waitFor('the processes of the lab to end', async () => {
    const found = await processesOf(folder);
    found.forEach(killQuietly);
    return found.length === 0;
  });
  await waitFor('the cgroups to be empty', async () => {
    for (const cgroup of (await cgroupFolders(name)).toSorted((a, b) => b.length - a.length)) {
      await rmdir(cgroup).catch(() => undefined);
    }
    return (await cgroupFolders(name)).length === 0;
  });
  await rm(folder, { recursive: true, force: true });
}

/**
 * Processes that were started with a path below the folder: the engine, its containerd, their shims, relays.
 */
async function processesOf(folder: string): Promise<number[]> {
  const found: number[] = [];
  for (const entry of await readdir('/proc')) {
    const line = /^\d+$/.test(entry) ? await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '') : '';
    if (line.includes(`${folder}/`) && Number(entry) !== process.pid) {
      found.push(Number(entry));
    }
  }
  return found;
}

/**
 * Prefix of the folders of labs of this process table: others cannot see whether a process of theirs lives.
 */
async function labPrefix(): Promise<string> {
  const table = /\d+/.exec(await readlink('/proc/self/ns/pid'))?.[0] ?? '';
  return `esb-docker-p${table}-`;
}

/** Cleans up after labs whose test process was killed. */
async function sweep(): Promise<void> {
  const prefix = await labPrefix();
  const processes = new Set(await readdir('/proc'));
  for (const entry of (await readdir(LABS)).filter((each) => each.startsWith(prefix))) {
    const pid = /^\d+/.exec(entry.slice(prefix.length))?.[0] ?? '';
    if (!processes.has(pid)) {
      const folder = join(LABS, entry);
      const name = await readFile(join(folder, 'name'), 'utf8').catch(() => '');
      await (name === '' ? rm(folder, { recursive: true, force: true }) : clean(folder, name));
    }
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // The process has ended.
  }
}
