import { Limiter } from '../../common/limiter.ts';

/** Groups take the lowest free number, so that leftovers of killed shims are used again and do not pile up. */
const GROUP_PREFIX = 'esb-';

/** Annotation of a container's spec that names its group to containerd's shim for runc. */
export const SHIM_GROUP_ANNOTATION = 'io.containerd.runc.v2.group';

interface Member {
  readonly group: string;
  leaving: boolean;
}

/**
 * Groups of workers that share a shim. A shim ends with its last container, so no worker joins a group all of whose
 * members are about to leave. Labels of the containers hold the groups, and are read at the start.
 */
export class ShimGroups {
  readonly #size: number;
  readonly #members = new Map<string, Member>();
  readonly #changes = new Map<string, Limiter>();

  /** @param size most workers of one shim; 1 for a shim each */
  constructor(size: number) {
    this.#size = size;
  }

  /** Adds members of an earlier run of the agent. */
  adopt(members: Iterable<{ readonly containerId: string; readonly group: string }>): void {
    for (const { containerId, group } of members) {
      if (group !== '' && !this.#members.has(containerId)) {
        this.#members.set(containerId, { group, leaving: false });
      }
    }
  }

  /** The group of a container that is about to be made; undefined for a shim of its own. */
  join(containerId: string): string | undefined {
    if (this.#size <= 1) {
      return undefined;
    }
    const group = this.#roomy() ?? this.#unused();
    this.#members.set(containerId, { group, leaving: false });
    return group;
  }

  /**
   * Runs `work`, which makes or deletes the task of a container, one at a time for each group. Of two shims that start
   * for one group at once, the second takes the socket of the first, on which no shim listens yet, for a stale one: the
   * first is lost with its containers. A task that is made during the deletion of the last other one would get a shim
   * that is about to end.
   */
  async inTurn<T>(containerId: string, work: () => Promise<T>): Promise<T> {
    const group = this.#members.get(containerId)?.group;
    if (group === undefined) {
      return await work();
    }
    const changes = this.#changes.get(group) ?? new Limiter(1);
    this.#changes.set(group, changes);
    return await changes.run(work);
  }

  /** Marks a container that is about to be removed. */
  leave(containerId: string): void {
    const member = this.#members.get(containerId);
    if (member !== undefined) {
      member.leaving = true;
    }
  }

  /** Drops a container that was removed. */
  left(containerId: string): void {
    if (this.#members.get(containerId)?.leaving === true) {
      this.#members.delete(containerId);
    }
  }

  /** The fullest group with a free place. */
  #roomy(): string | undefined {
    const groups = new Map<string, { all: number; staying: number }>();
    for (const { group, leaving } of this.#members.values()) {
      const { all, staying } = groups.get(group) ?? { all: 0, staying: 0 };
      groups.set(group, { all: all + 1, staying: staying + (leaving ? 0 : 1) });
    }
    const [fullest] = [...groups]
      .filter(([, { all, staying }]) => staying > 0 && all < this.#size)
      .toSorted(([, a], [, b]) => b.all - a.all);
    return fullest?.[0];
  }

  #unused(): string {
    const used = new Set([...this.#members.values()].map(({ group }) => group));
    for (let number = 1; ; number += 1) {
      const group = `${GROUP_PREFIX}${number}`;
      if (!used.has(group)) {
        return group;
      }
    }
  }
}
