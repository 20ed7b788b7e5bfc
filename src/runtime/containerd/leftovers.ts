import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { lstat, readdir, readFile, rm, rmdir, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { EsbError, errnoOf, messageOf, undefinedIfNoFile } from '../../common/errors.ts';
import { type CommandRunner, systemCommandRunner } from '../../common/exec/command-runner.ts';
import {
  commandLines,
  containerOf,
  inTurns,
  parentOfProcess,
  type ShimOwner,
  seesSameFolder,
  shimOf,
} from './shim-process.ts';

/** Shims name the socket of their containerd, and name their own sockets after it. */
export interface LeftoversOptions extends ShimOwner {
  /** Folder of runc's states of this node alone; absent when nodes share that folder. */
  readonly runcRoot?: string | undefined;
  /** Default `/proc`. */
  readonly procFolder?: string;
  /** Folder of the sockets of shims, which containerd's own settings do not move. Default `/run/containerd/s`. */
  readonly shimSocketFolder?: string;
  readonly runner?: CommandRunner | undefined;
}

/** A shim of this containerd, found by its command line. */
export interface ShimProcess {
  readonly pid: number;
  /** Container that the shim was started for. */
  readonly containerId: string;
}

/** The root file system of a container as it is mounted. */
export interface RootMount {
  readonly containerId: string;
  readonly path: string;
}

const UMOUNT_DEADLINE_MS = 10_000;
/** Milliseconds of age below which the folder of a task may belong to a creation under way. */
const LEAST_BUNDLE_AGE_MS = 10_000;

/**
 * Leftovers of containers outside of containerd's records: processes of shims, their sockets, states of runc, mounts.
 * Several nodes may share a machine. A leftover counts as this node's by the socket of containerd as its shim sees it,
 * by the folder of containerd's snapshots, or by a folder of this node alone; all others are left alone.
 */
export class Leftovers {
  readonly #options: LeftoversOptions;
  readonly #proc: string;
  readonly #socketFolder: string;
  readonly #runner: CommandRunner;
  /** Folder of runc's states; undefined where nodes share one. */
  readonly #states: string | undefined;

  constructor(options: LeftoversOptions) {
    this.#options = options;
    this.#proc = options.procFolder ?? '/proc';
    this.#socketFolder = options.shimSocketFolder ?? '/run/containerd/s';
    this.#runner = options.runner ?? systemCommandRunner;
    this.#states = options.runcRoot === undefined ? undefined : join(options.runcRoot, options.namespace);
  }

  /** The lasting shims of this containerd's namespace, without those that only start or delete one. */
  async shims(): Promise<readonly ShimProcess[]> {
    const found: ShimProcess[] = [];
    for await (const [pid, commandLine] of commandLines(this.#proc)) {
      const containerId = shimOf(commandLine, this.#options);
      if (containerId !== undefined && seesSameFolder(this.#proc, pid, dirname(this.#options.socketPath))) {
        found.push({ pid, containerId });
      }
    }
    return found;
  }

  /** Parents of processes: the shims that serve them. */
  async parents(pids: readonly number[]): Promise<ReadonlySet<number>> {
    const parents = new Set<number>();
    for await (const parent of inTurns(pids, (pid) => parentOfProcess(this.#proc, pid))) {
      parents.add(parent ?? 0);
    }
    return parents;
  }

  /** The given containers that have a stale shim socket. Sockets of grouped shims do not carry a container id. */
  async sockets(containerIds: Iterable<string>): Promise<readonly string[]> {
    const present = new Set(await entries(this.#socketFolder));
    return [...containerIds].filter((id) => present.has(this.#socketName(id)));
  }

  /** Containers with a state of runc; none when nodes share that folder. */
  async runcStates(): Promise<readonly string[]> {
    return this.#states === undefined ? [] : await entries(this.#states);
  }

  /**
   * Mounted root file systems.
   *
   * @param snapshots folder of containerd's snapshots, with the upper layer of each of its mounts
   */
  async mounts(snapshots: string): Promise<readonly RootMount[]> {
    return rootMountsIn(await this.#mountTable(), { snapshots, namespace: this.#options.namespace });
  }

  /** Removes the leftovers of a removed container but its processes. None is success. */
  async remove(containerId: string, snapshots: string | undefined): Promise<void> {
    const mounts = snapshots === undefined ? [] : await this.mounts(snapshots);
    for (const { path } of mounts.filter((mount) => mount.containerId === containerId)) {
      await this.#unmount(path);
      await this.#removeBundleOf(path);
    }
    if (this.#states !== undefined) {
      await rm(join(this.#states, containerId), { recursive: true, force: true });
    }
    const path = join(this.#socketFolder, this.#socketName(containerId));
    const found = await lstat(path).catch(() => undefined);
    if (found?.isSocket() === true && !(await isListening(path))) {
      await rm(path, { force: true });
    }
  }

  /**
   * Removes the folder of a task that containerd has forgotten, with the root file system that may be mounted there.
   *
   * @param error failure of the creation of a task
   * @returns false, with nothing done, when the error names no such folder, and for a folder that is young or that a shim
   *   works on: containerd may be using it
   * @throws {EsbError} `UnmountFailed`
   */
  async removeBundle(containerId: string, error: unknown): Promise<boolean> {
    const bundle = leftBundleOf(error, this.#options.namespace, containerId);
    if (bundle === undefined) {
      return false;
    }
    const found = await stat(bundle).catch(() => undefined);
    // The agent may not see containerd's own folders.
    if (found === undefined || Date.now() - found.mtimeMs < LEAST_BUNDLE_AGE_MS) {
      return false;
    }
    for await (const [, commandLine] of commandLines(this.#proc)) {
      if (containerOf(commandLine, this.#options) === containerId) {
        return false;
      }
    }
    const rootfs = join(bundle, 'rootfs');
    for (const path of (await this.#mountTable()).split('\n').map((line) => line.split(' ')[4])) {
      if (path === rootfs) {
        await this.#unmount(rootfs);
      }
    }
    await this.#removeBundleOf(rootfs);
    return true;
  }

  async #mountTable(): Promise<string> {
    return await readFile(join(this.#proc, 'self', 'mountinfo'), 'utf8');
  }

  async #unmount(path: string): Promise<void> {
    const result = await this.#runner.run({
      program: 'umount',
      // With the file at /tmp of the worker.
      args: ['--recursive', path],
      signal: AbortSignal.timeout(UMOUNT_DEADLINE_MS),
    });
    if (result.code !== 0) {
      throw new EsbError(`${path} cannot be unmounted: ${result.stderr.trim()}`, { code: 'UnmountFailed' });
    }
  }

  /** Removes the bundle around a root file system: the next shim would fail on the folder. */
  async #removeBundleOf(rootfs: string): Promise<void> {
    // Fails when anything else is mounted there: then everything below is left alone.
    await undefinedIfNoFile(rmdir(rootfs));
    await rm(dirname(rootfs), { recursive: true, force: true });
  }

  #socketName(containerId: string): string {
    return shimSocketName(this.#options.socketPath, this.#options.namespace, containerId);
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

/**
 * The folder of a forgotten task that is in the way of a new one, from the error of `Tasks.Create`; undefined for every
 * other error. containerd reports a task that it knows in other words.
 *
 * containerd leaves such a folder when its cleanup after a dead shim fails, and removes the folder only at its next start.
 */
export function leftBundleOf(error: unknown, namespace: string, containerId: string): string | undefined {
  const path = /mkdir (\/\S+): file exists/.exec(messageOf(error))?.[1];
  return path?.endsWith(`/io.containerd.runtime.v2.task/${namespace}/${containerId}`) === true ? path : undefined;
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

/** Whether a process accepts connections on a socket; only a plain refusal means no. */
async function isListening(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    return errnoOf(error) !== 'ECONNREFUSED';
  } finally {
    socket.destroy();
  }
}

async function entries(folder: string): Promise<readonly string[]> {
  return (await undefinedIfNoFile(readdir(folder))) ?? [];
}
