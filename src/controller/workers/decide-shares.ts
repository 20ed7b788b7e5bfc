/** A worker of a function with reserved concurrency, as far as shares depend on it. */
export interface ShareHolder {
  readonly uid: string;
  /** The version of the function that it runs; undefined for $LATEST. */
  readonly version: number | undefined;
  /** Calls that it takes at once, which its share is never above. */
  readonly perWorker: number;
  /** Its share; of one without a share by its assignment, all calls that it takes. */
  readonly share: number;
  /** Calls that may run there now: more than its share while a lowered share is not in force. */
  readonly inForce: number;
  /**
   * Whether its agent has confirmed the share, or is gone for so long that no call can run by it. A share is lowered only
   * then: an agent that has a larger one by then would confirm the one before.
   */
  readonly isSettled: boolean;
  /** Whether calls reach it. */
  readonly isCallable: boolean;
  /** Whether calls do not reach it only while its container comes or goes. */
  readonly isPassing: boolean;
  /** Lower is better: of equal workers the first ones get more. From {@link COLD} on there is no container. */
  readonly rank: number;
}

/** Rank of workers that a call has to start. */
export const COLD = 2;

/** A share on its way to the next one. */
type Draft = Omit<ShareHolder, 'share'> & { share: number };

/**
 * The share that each worker is to have now, so that the calls which may run at once are never more than `reserved`:
 *
 * - Shares above what is reserved are taken away, first from workers that no call reaches.
 * - An exchange takes the share of a worker that no call reaches for one that can use it, and half of the largest share
 *   for a worker that has none. A worker whose container comes or goes keeps its share where the other ones have none
 *   either: the share would go to and fro, and calls with it.
 * - Where workers of several versions are reached, each version has an equal part, as far as its workers can have that:
 *   a version that an alias has just come to name gets its calls as well.
 * - The rest is given to workers that calls reach, to those with the smallest share first. A share that is
 *   taken away is free only once it is no longer in force.
 *
 * A function whose workers have all that is reserved gets no other shares.
 */
export function decideShares(reserved: number, holders: readonly ShareHolder[]): ReadonlyMap<string, number> {
  const drafts = holders.map((holder): Draft => ({ ...holder }));
  const settled = drafts.filter(({ isSettled }) => isSettled);
  for (const draft of settled) {
    draft.share = Math.min(draft.share, draft.perWorker);
  }
  const reachable = settled.filter(({ isCallable }) => isCallable);
  const idle = settled.filter(({ isCallable }) => !isCallable);
  takeAway(reachable, takeAway(idle, sum(drafts) - reserved));
  const unused = (): number => reserved - sum(drafts);
  const wanted = (most: number): number =>
    drafts
      .filter(({ isCallable, rank }) => isCallable && rank <= most)
      .reduce((room, { perWorker, share }) => room + Math.max(0, perWorker - share), 0);
  takeAway(
    idle.filter(({ isPassing }) => !isPassing),
    wanted(COLD) - unused(),
  );
  takeAway(idle, wanted(COLD - 1) - unused());
  const versions = [...Map.groupBy(reachable, ({ version }) => version).values()];
  if (versions.length < 2) {
    split(reachable, unused());
  } else {
    balance(drafts, versions, unused());
    for (const own of unused() > 0 ? [] : versions) {
      split(own, 0);
    }
  }
  const lowered = new Set(drafts.filter((draft, index) => draft.share < (holders[index]?.share ?? 0)));
  const free = reserved - holders.reduce((total, { inForce, share }) => total + Math.max(inForce, share), 0);
  const open = reachable.filter((draft) => !lowered.has(draft));
  if (versions.length < 2) {
    give(open, free);
  } else {
    giveToVersions(drafts, open, free);
  }
  return new Map(drafts.map(({ share, uid }) => [uid, share]));
}

function sum(drafts: readonly Draft[]): number {
  return drafts.reduce((total, { share }) => total + share, 0);
}

/** Takes that many away, always from the largest shares; returns what could not be taken. */
function takeAway(drafts: readonly Draft[], count: number): number {
  let left = count;
  while (left > 0) {
    const most = Math.max(0, ...drafts.map(({ share }) => share));
    if (most === 0) {
      break;
    }
    const largest = drafts
      .filter(({ share }) => share === most)
      .toSorted(byRank)
      .toReversed();
    const next = Math.max(0, ...drafts.map(({ share }) => (share < most ? share : 0)));
    // Down to the next smaller one, or by as many as there are to take.
    const each = Math.min(most - next, Math.max(1, Math.floor(left / largest.length)));
    for (const draft of largest) {
      const taken = Math.min(each, left);
      draft.share -= taken;
      left -= taken;
    }
  }
  return left;
}

/** Halves the largest shares for workers that have none, as far as nothing else is free for these. */
function split(drafts: readonly Draft[], unused: number): void {
  let waiting = drafts.filter(({ perWorker, share }) => share === 0 && perWorker > 0).length - Math.max(0, unused);
  while (waiting > 0) {
    const largest = drafts.toSorted((one, other) => other.share - one.share || byRank(one, other))[0];
    if (largest === undefined || largest.share < 2) {
      return;
    }
    const half = Math.floor(largest.share / 2);
    largest.share -= half;
    waiting -= half;
  }
}

/**
 * Takes shares from the version that has most for the one that has least, until they are even or no other has room.
 *
 * @param versions reachable workers of each
 * @param unused shares that the version with least will be given without that
 */
function balance(drafts: readonly Draft[], versions: readonly (readonly Draft[])[], unused: number): void {
  const parts = versions.map((own) => ({ ...partOf(drafts, own), most: sum(own), taken: 0 }));
  // Numbers of versions alone: there may be 100,000 shares, and 1,000 workers.
  for (let left = unused; ; left -= 1) {
    const poorest = leastOf(parts, ({ room, total }) => (room > 0 ? total : Number.POSITIVE_INFINITY));
    const richest = leastOf(parts, ({ most, taken, total }) => (taken < most ? -total : Number.POSITIVE_INFINITY));
    if (poorest === undefined || (left <= 0 && (richest === undefined || richest.total - poorest.total < 2))) {
      break;
    }
    if (left <= 0 && richest !== undefined) {
      richest.taken += 1;
      richest.total -= 1;
    }
    poorest.total += 1;
    poorest.room -= 1;
  }
  for (const { own, taken } of parts) {
    takeAway(own, taken);
  }
}

/** Gives that many, always to the version that has least, and in that to the smallest share. */
function giveToVersions(drafts: readonly Draft[], open: readonly Draft[], count: number): void {
  const versions = Map.groupBy(open.toSorted(byRank), ({ version }) => version);
  const parts = [...versions.values()].map((own) => ({ ...partOf(drafts, own), given: 0 }));
  for (let left = count; left > 0; left -= 1) {
    const poorest = leastOf(parts, ({ room, total }) => (room > 0 ? total : Number.POSITIVE_INFINITY));
    if (poorest === undefined) {
      break;
    }
    poorest.given += 1;
    poorest.total += 1;
    poorest.room -= 1;
  }
  for (const { given, own } of parts) {
    give(own, given);
  }
}

/**
 * Some workers of one version, the shares that all of its workers have, and how many more these can have.
 *
 * @param own at least one
 */
function partOf(drafts: readonly Draft[], own: readonly Draft[]) {
  return {
    own,
    total: sum(drafts.filter(({ version }) => version === own[0]?.version)),
    room: own.reduce((room, { perWorker, share }) => room + perWorker - share, 0),
  };
}

/** The item with the least value, the first of equal ones; undefined where all are infinite. */
function leastOf<T>(items: readonly T[], measure: (item: T) => number): T | undefined {
  let least: T | undefined;
  let value = Number.POSITIVE_INFINITY;
  for (const item of items) {
    const own = measure(item);
    if (own < value) {
      least = item;
      value = own;
    }
  }
  return least;
}

/** Gives that many, always to the smallest shares. */
function give(drafts: readonly Draft[], count: number): void {
  let left = count;
  while (left > 0) {
    const open = drafts.filter(({ perWorker, share }) => share < perWorker);
    const least = Math.min(...open.map(({ share }) => share));
    const smallest = open.filter(({ share }) => share === least).toSorted(byRank);
    if (smallest.length === 0) {
      return;
    }
    const next = Math.min(...open.map(({ perWorker, share }) => (share > least ? share : perWorker)));
    const each = Math.min(next - least, Math.max(1, Math.floor(left / smallest.length)));
    for (const draft of smallest) {
      const given = Math.min(each, left);
      draft.share += given;
      left -= given;
    }
  }
}

function byRank(one: Draft, other: Draft): number {
  return one.rank - other.rank || (one.uid < other.uid ? -1 : 1);
}
