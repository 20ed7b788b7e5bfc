import type { CallOptions } from '../../common/deadline.ts';
import type { ContainerdClient } from '../../containerd/containerd-client.ts';
import type { NodeInventory, Trace, TraceKind } from '../contract/inventory.ts';
import { FILES_KEY_PREFIX } from '../images/user-files.ts';
import type { WorkerCgroups } from './cgroups.ts';
import type { Leftovers } from './leftovers.ts';
import { containerOfLease, isStandIn } from './remove.ts';

export interface NodeInventoryOptions {
  readonly client: ContainerdClient;
  readonly cgroups: Pick<WorkerCgroups, 'list'>;
  readonly host: Leftovers;
  /** Uids of workers with kept output. */
  readonly writers: () => Promise<readonly string[]>;
  readonly uidOf: (labels: Readonly<Record<string, string>>) => string;
  /** Folder of containerd's snapshots. */
  readonly snapshotFolder: (options: CallOptions) => Promise<string | undefined>;
}

/**
 * Takes the inventory of a node. `busy` is read before and after everything else.
 *
 * @param known containers from other sources, for leftovers that only a container's name leads to
 */
export async function takeNodeInventory(
  parts: NodeInventoryOptions,
  busy: () => Iterable<string>,
  known: ReadonlySet<string>,
  options: CallOptions,
): Promise<NodeInventory> {
  const { client, cgroups, host } = parts;
  const under = new Set(busy());
  // Before the containers: a container that goes meanwhile takes its output along.
  const writers = new Set(await parts.writers());
  const [records, tasks, snapshots, leases, groups, shims, states, folder] = await Promise.all([
    client.containers.list(options),
    client.tasks.list(options),
    client.snapshots.list(options),
    client.leases.list(options),
    cgroups.list(),
    host.shims(),
    host.runcStates(),
    parts.snapshotFolder(options),
  ]);
  const mounts = folder === undefined ? [] : await host.mounts(folder);
  const standIns = new Set(records.filter((record) => isOwnName(record.id) && isStandIn(record)).map(({ id }) => id));
  const containers = new Set(records.map(({ id }) => id).filter((id) => !standIns.has(id)));
  const running = new Set(tasks.map(({ containerId }) => containerId));
  const named = (kind: TraceKind, ids: Iterable<string>): Trace[] =>
    [...ids].filter(isOwnName).map((containerId) => ({ kind, containerId }));
  const traces = [
    ...named('task', running),
    ...named('container', standIns),
    ...named(
      'snapshot',
      // Committed snapshots are layers of images.
      snapshots.filter(({ kind }) => kind !== 'COMMITTED').map(({ name }) => name),
    ),
    ...named(
      'lease',
      leases.flatMap(({ id }) => containerOfLease(id) ?? (id.startsWith(FILES_KEY_PREFIX) ? [id] : [])),
    ),
    ...named('cgroup', groups),
    ...named(
      'mount',
      mounts.map(({ containerId }) => containerId),
    ),
    ...named('runc_state', states),
  ];
  // A shim may serve many containers, under the name of the first, which may be long gone.
  const idle = shims.filter(({ containerId }) => !containers.has(containerId) && !running.has(containerId));
  if (idle.length > 0) {
    const serving = await host.parents(tasks.map(({ pid }) => pid));
    traces.push(
      ...named(
        'shim',
        idle.filter(({ pid }) => !serving.has(pid)).map(({ containerId }) => containerId),
      ),
    );
  }
  const served = new Set(shims.map(({ containerId }) => containerId));
  const suspects = new Set(
    [...known, ...traces.map(({ containerId }) => containerId)].filter(
      (id) => !containers.has(id) && !running.has(id) && !served.has(id),
    ),
  );
  traces.push(...named('shim_socket', await host.sockets(suspects)));
  for (const id of busy()) {
    under.add(id);
  }
  const uids = new Set(records.map(({ labels }) => parts.uidOf(labels)));
  return { containers, uids, busy: under, traces, writers };
}

/**
 * Whether the agent gives such a name: to a container (its worker's name and a hash, of 8 digits in earlier versions)
 * or while it reads the files of an image. Everything else in the namespace, of people or of containerd, is left alone.
 */
export function isOwnName(name: string): boolean {
  return name.startsWith(FILES_KEY_PREFIX) || /-([0-9a-f]{32}|[0-9a-f]{8})(-[0-9a-z]+)?$/.test(name);
}
