import type { NodeInventory, TraceKind } from '../../runtime/contract/inventory.ts';

/** Kinds of what may be left behind; also a label of metrics. */
export type LeftoverKind = TraceKind | 'mark' | 'record' | 'log' | 'veth';

/** Something on the node that nothing known accounts for. */
export interface Leftover {
  readonly kind: LeftoverKind;
  /** Id of a container, uid of a worker, or name of an interface. */
  readonly name: string;
  /** The remover: the runtime, in order with other work on the container; the fleet; or the network. */
  readonly owner: 'Container' | 'Worker' | 'Network';
}

/** All that the node holds. */
export interface HostState {
  readonly inventory: NodeInventory;
  /** Uids that have a mark of calls in flight. */
  readonly marks: readonly string[];
  /** Uids that have a record on disk. */
  readonly records: readonly string[];
  /** Interfaces on the bridges of the workers. */
  readonly ports: readonly string[];
}

/** Things that the agent knows. */
export interface KnownState {
  /** Uids of workers that have an actor. */
  readonly uids: ReadonlySet<string>;
  /** Interfaces that results of CNI tell of. */
  readonly interfaces: ReadonlySet<string>;
}

/**
 * Compares the things on the node with the known ones. A container's own records count as known here: whether a
 * container should be there is for the fleet to say, which asks the API first. Containers with work under way are left
 * out. The rest may still be in the making, so one look says little.
 */
export function audit(host: HostState, known: KnownState): readonly Leftover[] {
  const { containers, busy, traces, uids, writers } = host.inventory;
  const ofContainers = traces
    .filter(({ containerId }) => !containers.has(containerId) && !busy.has(containerId))
    .map(({ kind, containerId }): Leftover => ({ kind, name: containerId, owner: 'Container' }));
  const ofWorkers = (kind: 'mark' | 'record' | 'log', names: readonly string[]): readonly Leftover[] =>
    names
      // A container that waits for its resource may still need all of them.
      .filter((uid) => !known.uids.has(uid) && !uids.has(uid))
      .map((name) => ({ kind, name, owner: 'Worker' }));
  const ofNetwork = host.ports
    .filter((port) => !known.interfaces.has(port))
    .map((name): Leftover => ({ kind: 'veth', name, owner: 'Network' }));
  return [
    ...ofContainers,
    ...ofWorkers('mark', host.marks),
    ...ofWorkers('record', host.records),
    ...ofWorkers('log', [...writers]),
    ...ofNetwork,
  ];
}

/**
 * Tells leftovers apart from what is only on its way: there at two looks in a row or more, the first of them long
 * enough ago.
 */
export class Sightings {
  readonly #minAgeMs: (leftover: Leftover) => number;
  readonly #since = new Map<string, number>();

  /** @param minAgeMs milliseconds between the first look at one and the one at which it is due */
  constructor(minAgeMs: (leftover: Leftover) => number) {
    this.#minAgeMs = minAgeMs;
  }

  /**
   * Takes note of one look.
   *
   * @param now milliseconds on a clock that never steps
   * @returns those that are to be removed
   */
  due(found: readonly Leftover[], now: number): readonly Leftover[] {
    const keys = new Set(found.map(keyOf));
    for (const key of this.#since.keys()) {
      if (!keys.has(key)) {
        this.#since.delete(key);
      }
    }
    return found.filter((each) => {
      const key = keyOf(each);
      const since = this.#since.get(key);
      if (since === undefined) {
        this.#since.set(key, now);
        return false;
      }
      return now - since >= this.#minAgeMs(each);
    });
  }
}

function keyOf({ kind, name }: Leftover): string {
  return `${kind} ${name}`;
}
