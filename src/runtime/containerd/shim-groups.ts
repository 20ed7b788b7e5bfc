/** Groups are numbered anew from the lowest on, so that what a killed shim leaves is used again and not piled up. */
const GROUP_PREFIX = 'esb-';

/** Annotation of a container's spec by which containerd's shim for runc is told which ones it is to serve together. */
export const SHIM_GROUP_ANNOTATION = 'io.containerd.runc.v2.group';

interface Member {
  readonly group: string;
  leaving: boolean;
}

/**
 * Which workers share a shim. A shim ends with the last of its containers, so nobody joins a group all of whose members
 * are about to leave. Kept in the containers' labels; what is here is read from them at the start.
 */
export class ShimGroups {
  readonly #size: number;
  readonly #members = new Map<string, Member>();
  /** The last change of each group that is under way. */
  readonly #turns = new Map<string, Promise<void>>();

  /** @param size how many workers share a shim at most; 1 for none */
  constructor(size: number) {
    this.#size = size;
  }

  /** Members that an earlier run of the agent has made. */
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
   * Does `work`, which makes or deletes the task of a container, after that of every other member of its group. Two shims
   * that are started for one group in the same moment: the second takes a socket on which nobody listens yet for one that
   * was left behind, and the first is lost with what it serves. A task that is made while the last other one is deleted
   * is given to a shim that is about to end.
   */
  async inTurn<T>(containerId: string, work: () => Promise<T>): Promise<T> {
    const group = this.#members.get(containerId)?.group;
    if (group === undefined) {
      return await work();
    }
    const before = this.#turns.get(group);
    const over = Promise.withResolvers<void>();
    this.#turns.set(group, over.promise);
    try {
      await before;
      return await work();
    } finally {
      over.resolve();
      if (this.#turns.get(group) === over.promise) {
        this.#turns.delete(group);
      }
    }
  }

  /** It is about to be removed. */
  leave(containerId: string): void {
    const member = this.#members.get(containerId);
    if (member !== undefined) {
      member.leaving = true;
    }
  }

  /** Nothing is left of it. */
  left(containerId: string): void {
    if (this.#members.get(containerId)?.leaving === true) {
      this.#members.delete(containerId);
    }
  }

  /** The fullest that takes another. */
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
