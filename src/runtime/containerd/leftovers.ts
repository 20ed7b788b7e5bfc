import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { lstat, readdir, readFile, rm, rmdir, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { EsbError, errnoOf, messageOf } from '../../common/errors.ts';
import { type CommandRunner, systemCommandRunner } from '../../common/exec/command-runner.ts';
import { seesSameFolder } from './mount-namespace.ts';

export interface LeftoversOptions {
  /** Socket of the containerd whose things these are; its shims name it, and name their sockets after it. */
  readonly socketPath: string;
  readonly namespace: string;
  /** Where runc keeps the states of this node alone; absent when that folder is shared and thus nobody's. */
  readonly runcRoot?: string | undefined;
  /** Default `/proc`. */
  readonly procFolder?: string;
  /** Where shims listen; containerd has it fixed, whatever its own folders are. Default `/run/containerd/s`. */
  readonly shimSocketFolder?: string;
  readonly runner?: CommandRunner | undefined;
}

/** A shim of this containerd, found by its command line. */
export interface ShimProcess {
  readonly pid: number;
  /** The container that it was started for. */
  readonly containerId: string;
}

/** Whose shims are looked for. */
interface ShimOwner {
  readonly socketPath: string;
  readonly namespace: string;
}

/** The root file system of a container as it is mounted. */
export interface RootMount {
  readonly containerId: string;
  readonly path: string;
}

/** Command lines read in one turn of the event loop; each takes some ten microseconds. */
const PROCESSES_PER_TURN = 64;
const UMOUNT_DEADLINE_MS = 10_000;
/** Milliseconds of age before which the folder of a task may belong to a creation that containerd has under way. */
const LEAST_BUNDLE_AGE_MS = 10_000;

/**
 * What containers leave on a machine outside of containerd's own records: processes of shims, the sockets that they
 * listened on, states of runc, mounts. Several nodes may share a machine, so everything is told apart by the socket of
 * containerd as its shims see it, by its snapshots' folder, or by a folder of this node alone; what cannot be is not looked
 * at.
 */
export class Leftovers {
  readonly #options: LeftoversOptions;
  readonly #proc: string;
  readonly #socketFolder: string;
  readonly #runner: CommandRunner;

  constructor(options: LeftoversOptions) {
    this.#options = options;
    this.#proc = options.procFolder ?? '/proc';
    this.#socketFolder = options.shimSocketFolder ?? '/run/containerd/s';
    this.#runner = options.runner ?? systemCommandRunner;
  }

  /** Every shim of this containerd's namespace that stays; those that only start or delete one are left out. */
  async shims(): Promise<readonly ShimProcess[]> {
    const found: ShimProcess[] = [];
    const pids = (await readdir(this.#proc)).filter((name) => /^\d+$/.test(name));
    for (const [index, pid] of pids.entries()) {
      const containerId = shimOf(this.#commandLine(pid), this.#options);
      if (containerId !== undefined && seesSameFolder(this.#proc, pid, dirname(this.#options.socketPath))) {
        found.push({ pid: Number(pid), containerId });
      }
      if (index % PROCESSES_PER_TURN === PROCESSES_PER_TURN - 1) {
        await turn();
      }
    }
    return found;
  }

  /** Parents of processes: the shims that serve them. */
  async parents(pids: readonly number[]): Promise<ReadonlySet<number>> {
    const parents = new Set<number>();
    for (const [index, pid] of pids.entries()) {
      const parent = parentOf(this.#read(join(this.#proc, String(pid), 'stat')));
      if (parent !== undefined) {
        parents.add(parent);
      }
      if (index % PROCESSES_PER_TURN === PROCESSES_PER_TURN - 1) {
        await turn();
      }
    }
    return parents;
  }

  /** Those of the containers whose shim has left its socket. The names of others' sockets say nothing of whose they are. */
  async sockets(containerIds: Iterable<string>): Promise<readonly string[]> {
    const present = new Set(await entries(this.#socketFolder));
    return [...containerIds].filter((id) => this.#socketNames(id).some((name) => present.has(name)));
  }

  /** Containers with a state of runc; none when that folder is shared with others. */
  async runcStates(): Promise<readonly string[]> {
    const folder = this.#runcFolder();
    return folder === undefined ? [] : await entries(folder);
  }

  /**
   * Root file systems that are mounted.
   *
   * @param snapshots folder of containerd's snapshots, which the upper layer of each of its mounts lies in
   */
  async mounts(snapshots: string): Promise<readonly RootMount[]> {
    const table = await readFile(join(this.#proc, 'self', 'mountinfo'), 'utf8');
    return rootMountsIn(table, { snapshots, namespace: this.#options.namespace });
  }

  /** Removes what a container that is no more has left, its processes excepted. Nothing there is success. */
  async remove(containerId: string, snapshots: string | undefined): Promise<void> {
    const mounts = snapshots === undefined ? [] : await this.mounts(snapshots);
    for (const { path } of mounts.filter((mount) => mount.containerId === containerId)) {
      await this.#unmount(path);
      await this.#removeBundleOf(path);
    }
    const states = this.#runcFolder();
    if (states !== undefined) {
      await rm(join(states, containerId), { recursive: true, force: true });
    }
    for (const name of this.#socketNames(containerId)) {
      const path = join(this.#socketFolder, name);
      const found = await lstat(path).catch(() => undefined);
      if (found?.isSocket() === true && !(await isListening(path))) {
        await rm(path, { force: true });
      }
    }
  }

  /**
   * Removes the folder of a task that containerd has forgotten, with the root file system that may still be mounted in it.
   *
   * @param error what the creation of a task ended with
   * @returns false, with nothing done, when that tells of no such folder, and for one that is young or that a shim works
   *   on: containerd may be at it
   * @throws {EsbError} `UnmountFailed`
   */
  async removeBundle(containerId: string, error: unknown): Promise<boolean> {
    const bundle = leftBundleOf(error, this.#options.namespace, containerId);
    if (bundle === undefined) {
      return false;
    }
    const found = await stat(bundle).catch(() => undefined);
    // containerd's own folders may not be there for the agent to see.
    if (found === undefined || Date.now() - found.mtimeMs < LEAST_BUNDLE_AGE_MS) {
      return false;
    }
    for (const pid of (await readdir(this.#proc)).filter((name) => /^\d+$/.test(name))) {
      if (isShimAtWork(this.#commandLine(pid), this.#options, containerId)) {
        return false;
      }
    }
    const rootfs = join(bundle, 'rootfs');
    const table = await readFile(join(this.#proc, 'self', 'mountinfo'), 'utf8');
    for (const path of table.split('\n').map((line) => line.split(' ')[4])) {
      if (path === rootfs) {
        await this.#unmount(rootfs);
      }
    }
    await this.#removeBundleOf(rootfs);
    return true;
  }

  async #unmount(path: string): Promise<void> {
    const result = await this.#runner.run({
      program: 'umount',
      args: [path],
      signal: AbortSignal.timeout(UMOUNT_DEADLINE_MS),
    });
    if (result.code !== 0) {
      throw new EsbError(`${path} cannot be unmounted: ${result.stderr.trim()}`, {
        code: 'UnmountFailed',
        retryable: true,
      });
    }
  }

  /** Removes the bundle that a root file system was mounted in, over which the next shim would stumble. */
  async #removeBundleOf(rootfs: string): Promise<void> {
    try {
      // Fails when anything else is mounted there: then nothing below may be touched.
      await rmdir(rootfs);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') {
        throw error;
      }
    }
    await rm(dirname(rootfs), { recursive: true, force: true });
  }

  #socketNames(containerId: string): readonly string[] {
    const { socketPath, namespace } = this.#options;
    return [shimSocketName(socketPath, namespace, containerId)];
  }

  #runcFolder(): string | undefined {
    const { runcRoot, namespace } = this.#options;
    return runcRoot === undefined ? undefined : join(runcRoot, namespace);
  }

  #commandLine(pid: string): readonly string[] {
    return this.#read(join(this.#proc, pid, 'cmdline')).split('\0');
  }

  /** Empty for a process that is gone since the folder was read. Synchronous: each is a copy out of memory. */
  #read(path: string): string {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return '';
    }
  }
}

/**
 * File name of the socket that the shim of a container listens on (`CreateSocketAddress` of containerd's `pkg/shim`): a
 * hash of containerd's own socket, the namespace and the container or the group of containers.
 */
export function shimSocketName(socketPath: string, namespace: string, containerId: string): string {
  return createHash('sha256')
    .update(join(socketPath, namespace, containerId))
    .digest('hex');
}

/** The container that a command line is the lasting shim of; undefined for everything else. */
export function shimOf(commandLine: readonly string[], owner: ShimOwner): string | undefined {
  // `… start` and `… delete` run for moments only.
  const isLasting = !commandLine.includes('start') && !commandLine.includes('delete');
  return isLasting ? containerOf(commandLine, owner) : undefined;
}

/** Whether a command line is a shim of that container, be it to start, to run or to delete it. */
export function isShimAtWork(commandLine: readonly string[], owner: ShimOwner, containerId: string): boolean {
  return containerOf(commandLine, owner) === containerId;
}

function containerOf(commandLine: readonly string[], owner: ShimOwner): string | undefined {
  const value = (flag: string): string | undefined => {
    const index = commandLine.indexOf(flag);
    return index < 0 ? undefined : commandLine[index + 1];
  };
  const isOurs =
    (commandLine[0] ?? '').includes('containerd-shim') &&
    value('-namespace') === owner.namespace &&
    value('-address') === owner.socketPath;
  return isOurs ? value('-id') : undefined;
}

/**
 * The folder of a task that containerd has no memory of and that is in the way of a new one, from the error that its
 * `Tasks.Create` ends with then; undefined for every other error. A task that containerd does know is told in other words.
 *
 * containerd leaves one when its cleanup after a dead shim fails, and takes it away only at its own next start.
 */
export function leftBundleOf(error: unknown, namespace: string, containerId: string): string | undefined {
  const path = /mkdir (\/\S+): file exists/.exec(messageOf(error))?.[1];
  return path?.endsWith(`/io.containerd.runtime.v2.task/${namespace}/${containerId}`) === true
    ? path
    : undefined;
}

/** The parent in `/proc/<pid>/stat`. The name of the program, in brackets before it, may hold anything. */
export function parentOf(stat: string): number | undefined {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const parent = Number(fields[1]);
  return Number.isInteger(parent) && parent > 0 ? parent : undefined;
}

/** Root file systems of containers in a `mountinfo` whose upper layer lies in the given folder of snapshots. */
export function rootMountsIn(
  table: string,
  owner: { readonly snapshots: string; readonly namespace: string },
): readonly RootMount[] {
  const shape = new RegExp(`/io\\.containerd\\.runtime\\.v2\\.task/${owner.namespace}/([^/]+)/rootfs$`);
  return table.split('\n').flatMap((line) => {
    const path = line.split(' ')[4] ?? '';
    const containerId = shape.exec(path)?.[1];
    const isOurs = line.includes(`upperdir=${owner.snapshots}/`);
    return containerId !== undefined && isOurs ? [{ containerId, path }] : [];
  });
}

/** Whether anybody accepts connections on a socket; only a plain refusal says that nobody does. */
async function isListening(path: string): Promise<boolean> {
  const done = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.once('connect', () => done.resolve(true));
  socket.once('error', (error) => done.resolve(errnoOf(error) !== 'ECONNREFUSED'));
  try {
    return await done.promise;
  } finally {
    socket.destroy();
  }
}

async function entries(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      return [];
    }
    throw error;
  }
}
