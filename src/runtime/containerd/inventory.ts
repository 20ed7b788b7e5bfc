import { containerLabels } from '../../api/label.ts';
import type { CallOptions } from '../../common/deadline.ts';
import type { NodeInventory, Trace, TraceKind } from '../contract/inventory.ts';
import { snapshotterPlugin } from '../images/node-images.ts';
import { FILES_KEY_PREFIX } from '../images/user-files.ts';
import type { ContainerdParts } from './parts.ts';
import { isStandIn } from './remove.ts';

/**
 * Takes the inventory of a node. `busy` is read before and after everything else.
 *
 * @param known containers from other sources, for leftovers that only a container's name leads to
 */
export async function takeNodeInventory(
  parts: ContainerdParts,
  busy: () => Iterable<string>,
  known: ReadonlySet<string>,
  options: CallOptions,
): Promise<NodeInventory> {
  const { cgroups, client, inits, leftovers, logs, tmp } = parts;
  const under = new Set(busy());
  // Before the containers: a container that goes meanwhile takes its output along.
  const writers = new Set(await logs.writers());
  const [records, tasks, snapshots, leases, groups, shims, states, plugin, initialized, files] = await Promise.all([
    client.containers.list(options),
    client.tasks.list(options),
    client.snapshots.list(options),
    client.leases.list(options),
    cgroups.list(),
    leftovers.shims(),
    leftovers.runcStates(),
    snapshotterPlugin(parts, options),
    inits?.list() ?? [],
    tmp.files?.list() ?? [],
  ]);
  const folder = plugin?.exports.root;
  const mounts = folder === undefined ? [] : await leftovers.mounts(folder);
  const standIns = records.filter((record) => isOwnName(record.id) && isStandIn(record)).map(({ id }) => id);
  const containers = new Set(records.map(({ id }) => id)).difference(new Set(standIns));
  const running = new Set(idsOf(tasks));
  // Committed snapshots are layers of images.
  const uncommitted = snapshots.filter(({ kind }) => kind !== 'COMMITTED');
  const traces = [
    ...named('task', [...running]),
    ...named('container', standIns),
    ...named(
      'snapshot',
      uncommitted.map(({ name }) => name),
    ),
    ...named(
      'lease',
      leases.map(({ id }) => id).filter((id) => id.startsWith(FILES_KEY_PREFIX)),
    ),
    ...named('cgroup', groups),
    ...named('mount', idsOf(mounts)),
    ...named('runc_state', states),
    ...named('init', initialized),
    ...named('tmp', files),
  ];
  // A shim may serve many containers, under the name of the first, which may be long gone.
  const idle = shims.filter(({ containerId }) => !containers.has(containerId) && !running.has(containerId));
  if (idle.length > 0) {
    const serving = await leftovers.parents(tasks.map(({ pid }) => pid));
    traces.push(...named('shim', idsOf(idle.filter(({ pid }) => !serving.has(pid)))));
  }
  const served = containers.union(running).union(new Set(idsOf(shims)));
  const suspects = new Set([...known, ...idsOf(traces)]).difference(served);
  traces.push(...named('shim_socket', await leftovers.sockets(suspects)));
  const uids = new Set(records.map(({ labels }) => labels[containerLabels.uid] ?? ''));
  return { containers, uids, busy: under.union(new Set(busy())), traces, writers };
}

function idsOf(things: readonly { readonly containerId: string }[]): string[] {
  return things.map(({ containerId }) => containerId);
}

function named(kind: TraceKind, ids: readonly string[]): Trace[] {
  return ids.filter(isOwnName).map((containerId) => ({ kind, containerId }));
}

/**
 * Whether the agent gives such a name: to a container (its worker's name and a hash) or while it reads the files of an
 * image. Everything else in the namespace, of people or of containerd, is left alone.
 */
export function isOwnName(name: string): boolean {
  return name.startsWith(FILES_KEY_PREFIX) || /-[0-9a-f]{32}$/.test(name);
}
