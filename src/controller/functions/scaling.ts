import type { AutoScaling } from '../../api/lambda-function.ts';

/**
 * Milliseconds for which nothing shrinks after a controller began to lead, or first heard a gateway of the namespace:
 * gateways find a new leader within a few seconds, and what it does not know yet is no lack of calls.
 */
export const GRACE_MS = 30_000;
/**
 * Workers by which a function grows in a second, and at once after a rest. Lambda's bound is 1,000 for each function in
 * ten seconds. The rate is the same. The API server of a small cluster gets the thousand in ten parts, so that other
 * functions have their turn between them.
 */
const GROWTH_PER_SECOND = 100;
/**
 * Milliseconds over which calls are averaged to divide `maxWorkers`. Calls shift between the versions of an alias all the
 * time: a worker that followed those of the moment would be made and deleted without an end.
 */
const SHARE_MS = 10_000;
/** Part of a worker by which the average falls before that worker goes over to another version. */
const SHARE_SLACK = 0.5;
/** Milliseconds until a function that has grown by as much as it may is looked at again. */
const GROWTH_LOOK_MS = 1_000;
/** Milliseconds until a function with a version that is short of workers is looked at again. */
const SHARE_LOOK_MS = 1_000;
const NOTHING: LoadMemory = { kept: new Map(), awaited: new Map(), shares: new Map() };

/** $LATEST, or one version. */
export interface ScaleGroup {
  /** Undefined for $LATEST. */
  readonly version: number | undefined;
  /** Workers that it has, be there calls or not. */
  readonly floor: number;
  /** Whether callers can name it, so that it has spare workers. */
  readonly isServing: boolean;
  /** Calls that one worker takes at once. */
  readonly perWorker: number;
  /** Workers that are there and stay, as far as nothing else is decided. */
  readonly present: number;
  /** Calls in all gateways now, those that run and those that wait. */
  readonly calls: number;
  /** The most at once since the last look; at least {@link ScaleGroup.calls}. */
  readonly peak: number;
  /** The versions whose calls come here once an alias changes. */
  readonly inherits: readonly Inheritance[];
}

export interface Inheritance {
  readonly version: number | undefined;
  /** How many of 1,000 of its calls. */
  readonly permille: number;
}

export interface ScaleInput extends AutoScaling {
  /** Calls that may run at once, of all versions together; infinite for as many as workers take. */
  readonly reserved: number;
  /** $LATEST first. */
  readonly groups: readonly ScaleGroup[];
  /** Whether gateways of the namespace tell their load. */
  readonly isHeard: boolean;
}

/** Workers that were busy at once, and the time until which they are kept for that. */
interface Kept {
  readonly busy: number;
  /** Monotonic milliseconds. */
  readonly until: number;
}

/** Busy workers of a version: on average, and since the last look. */
interface Share {
  readonly average: number;
  readonly busy: number;
  /** Monotonic milliseconds of the last look. */
  readonly at: number;
}

/** Load of a function so far, as it counts for later plans. */
interface LoadMemory {
  /** By version, the most busy workers first: a later entry counts once those before it are over. */
  readonly kept: ReadonlyMap<number | undefined, readonly Kept[]>;
  /** Workers for calls that an alias was to bring, by version, the most busy first. */
  readonly awaited: ReadonlyMap<number | undefined, readonly Kept[]>;
  readonly shares: ReadonlyMap<number | undefined, Share>;
}

/** Memory of a function from one look to the next. */
export interface ScaleState extends LoadMemory {
  /** By version, as they were wished last. */
  readonly wanted: ReadonlyMap<number | undefined, number>;
  /** Workers by which the function could grow at once, and when that was so, in monotonic milliseconds. */
  readonly growth: { readonly left: number; readonly at: number };
}

export interface ScalePlan {
  /** Workers wanted, by version. */
  readonly wanted: ReadonlyMap<number | undefined, number>;
  /** Workers among them from which each version is as wished. Calls that come and go change nothing of it. */
  readonly enough: ReadonlyMap<number | undefined, number>;
  readonly state: ScaleState;
  /** Milliseconds after which another look changes something, though nothing else has; undefined for none. */
  readonly lookAfterMs: number | undefined;
}

/**
 * Decides how many workers each version has. Each has its floor, one for as many calls as a worker takes, and its
 * spares. Workers that were busy at once stay until the delay is over. Where `maxWorkers` does not suffice for all
 * versions, one for each with calls comes first, then floors, then one for each, then calls and spares by the average
 * of some seconds, then calls that an alias is to bring, then workers that are there, then calls of now, then spares,
 * then those that are kept; in each step the version that has fewest comes first. A version that an alias is to give
 * calls of others has workers for them before. While no gateway is heard, nothing grows or shrinks but for floors and
 * bounds.
 *
 * @param state of the last look in this term of the controller; undefined for none
 * @param now monotonic milliseconds
 */
export function planScale(state: ScaleState | undefined, input: ScaleInput, now: number): ScalePlan {
  const { groups, isHeard, maxWorkers, spareWorkers } = input;
  const memory = memoryOf(state, input, now);
  const inherited = (group: ScaleGroup): number => inheritedBy(group, memory.kept);
  const kept = (version: number | undefined): Kept | undefined =>
    mostFirst([...(memory.kept.get(version) ?? []), ...(memory.awaited.get(version) ?? [])])[0];
  const busy = (group: ScaleGroup): number => (group.isServing && isHeard ? busyWith(group, group.calls, input) : 0);
  const spare = ({ isServing }: ScaleGroup): number => (isServing ? spareWorkers : 0);
  const keptBusy = ({ isServing, version }: ScaleGroup): number => (isServing ? (kept(version)?.busy ?? 0) : 0);
  const all = (group: ScaleGroup): number => Math.max(busy(group), keptBusy(group)) + spare(group);
  const had = ({ present, version }: ScaleGroup): number => state?.wanted.get(version) ?? present;
  const share = (group: ScaleGroup): number => {
    const { average = 0 } = memory.shares.get(group.version) ?? {};
    return Math.max(Math.ceil(average), Math.min(had(group), Math.ceil(average + SHARE_SLACK)));
  };
  const given = allot(
    groups.map(() => 0),
    maxWorkers,
    [
      groups.map((group) => Math.min(1, busy(group))),
      groups.map(({ floor }) => floor),
      groups.map(({ isServing }) => (isServing ? 1 : 0)),
      groups.map((group) => Math.min(share(group), all(group))),
      groups.map((group) => Math.min(share(group) + spare(group), all(group))),
      groups.map((group) => Math.min(inherited(group) + spare(group), all(group))),
      groups.map((group) => Math.min(had(group), all(group))),
      groups.map(busy),
      groups.map((group) => busy(group) + spare(group)),
      groups.map(all),
    ],
  );
  const before = groups.map((group, at) => Math.min(given[at] ?? 0, had(group)));
  const left = Math.min(
    GROWTH_PER_SECOND,
    state === undefined ? GROWTH_PER_SECOND : state.growth.left + ((now - state.growth.at) / 1_000) * GROWTH_PER_SECOND,
  );
  const bounded = allot(before, sum(before) + Math.floor(left), [given]);
  const grown = sum(bounded) - sum(before);
  const wanted = new Map(groups.map(({ version }, at) => [version, bounded[at] ?? 0]));
  const waits = [
    ...(sum(bounded) < sum(given) ? [GROWTH_LOOK_MS] : []),
    // Averages change while calls do not.
    ...(groups.length > 1 && groups.some((group, at) => (given[at] ?? 0) < busy(group)) ? [SHARE_LOOK_MS] : []),
    ...groups.flatMap((group) => {
      const first = kept(group.version);
      // Workers for inherited calls stay until the alias has changed, which brings a look.
      const least = Math.max(busy(group), inherited(group));
      return isHeard && first !== undefined && first.busy > least ? [Math.max(1, first.until - now)] : [];
    }),
  ];
  const enough = new Map(
    groups.map((group) => {
      const least = Math.max(group.floor, spare(group) + inherited(group));
      // A version that callers can name and that gets no worker is not as wished.
      const one = group.isServing ? 1 : 0;
      return [group.version, Math.max(one, Math.min(least, wanted.get(group.version) ?? 0))];
    }),
  );
  return {
    wanted,
    enough,
    // Silence is no sign of few calls: all workers that are there count again from the first word on.
    state: { ...(isHeard ? memory : NOTHING), wanted, growth: { left: left - grown, at: now } },
    lookAfterMs: waits.length === 0 ? undefined : Math.min(...waits),
  };
}

/** State after the same plan, with the load of now remembered. Load that changes between two plans counts for the next. */
export function withLoad(state: ScaleState, input: ScaleInput, now: number): ScaleState {
  return { ...state, ...(input.isHeard ? memoryOf(state, input, now) : NOTHING) };
}

function memoryOf(state: LoadMemory | undefined, input: ScaleInput, now: number): LoadMemory {
  const { delayMs, groups } = input;
  const kept = new Map(groups.map((group) => [group.version, keptOf(state, group, input, now)]));
  // Apart from those that were busy: a version with a part of the calls already would inherit from itself without an end.
  const awaited = new Map(
    groups.map((group) => {
      const next = { busy: inheritedBy(group, kept), until: now + delayMs };
      return [group.version, keeping(state?.awaited.get(group.version) ?? [], next, now)];
    }),
  );
  const shares = new Map(groups.map((group) => [group.version, shareOf(state, group, input, now)]));
  return { kept, awaited, shares };
}

/** Workers for calls that come to a version once an alias changes. */
function inheritedBy({ inherits }: ScaleGroup, kept: LoadMemory['kept']): number {
  return Math.ceil(
    sum(inherits.map(({ permille, version }) => ((kept.get(version)?.[0]?.busy ?? 0) * permille) / 1_000)),
  );
}

/** Workers that calls keep busy. Those beyond the reserved concurrency wait, however many workers there are. */
function busyWith({ perWorker }: ScaleGroup, calls: number, { reserved }: ScaleInput): number {
  return Math.ceil(Math.min(calls, reserved) / perWorker);
}

/** Busy workers that count, those of now included. At the first look all that are there count. */
function keptOf(state: LoadMemory | undefined, group: ScaleGroup, input: ScaleInput, now: number): readonly Kept[] {
  const { calls, peak, present, version } = group;
  const { delayMs, isHeard, spareWorkers } = input;
  const all = { busy: Math.max(0, present - spareWorkers), until: now + Math.max(delayMs, GRACE_MS) };
  const former = (isHeard ? state?.kept.get(version) : undefined) ?? [all];
  const most = isHeard ? busyWith(group, Math.max(calls, peak), input) : 0;
  return keeping(former, { busy: most, until: now + delayMs }, now);
}

/** At the first look workers that are there count as busy. */
function shareOf(state: LoadMemory | undefined, group: ScaleGroup, input: ScaleInput, now: number): Share {
  // A long backlog is over with its last call, and not only once its average is.
  const busy = Math.min(input.maxWorkers, busyWith(group, group.calls, input));
  const former = state?.shares.get(group.version);
  if (former === undefined) {
    return { average: Math.max(busy, group.present - input.spareWorkers), busy, at: now };
  }
  const rest = Math.exp((former.at - now) / SHARE_MS);
  return { average: former.busy + (former.average - former.busy) * rest, busy, at: now };
}

/** The entries that count, with one more. */
function keeping(former: readonly Kept[], next: Kept, now: number): readonly Kept[] {
  return mostFirst([
    ...former.filter(({ busy, until }) => until > now && (busy > next.busy || until > next.until)),
    ...(next.busy === 0 ? [] : [next]),
  ]);
}

function mostFirst(entries: readonly Kept[]): readonly Kept[] {
  return entries.toSorted((one, other) => other.busy - one.busy);
}

/**
 * Gives workers out in steps: each group gets up to its part of the step while there is room, the one that has fewest
 * first.
 *
 * @param given workers that the groups have already
 * @param most workers of all groups together
 */
function allot(given: readonly number[], most: number, steps: readonly (readonly number[])[]): readonly number[] {
  let result = [...given];
  for (const step of steps) {
    const parts = step.map((part, at) => Math.max(part, result[at] ?? 0));
    if (sum(parts) <= most) {
      result = parts;
      continue;
    }
    for (let room = most - sum(result); room > 0; room -= 1) {
      const fewest = Math.min(...result.filter((has, at) => has < (parts[at] ?? 0)));
      const at = result.findIndex((has, index) => has === fewest && has < (parts[index] ?? 0));
      result[at] = fewest + 1;
    }
  }
  return result;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
