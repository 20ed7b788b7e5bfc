import type { InitNews, InitPhase } from '../../init/contract.ts';

/** Milliseconds for which a container may run without its init, after it was connected to this run of the agent. */
const lostMs = 5_000;
/**
 * Milliseconds for which a container may run without its init, before this run of the agent has heard it: each init of
 * a node connects again then, on a machine that may hold up the agent itself for seconds, and the memory of a worker
 * that is given up is gone.
 */
const awaitedMs = 20_000;
/** Milliseconds of a run for which an init may not be ready: the longest start that a resource may ask for, and some more. */
const unreadyMs = 960_000;

/** Knowledge of the init of a container. Of no meaning where the emulator of the image serves. */
export type InitSight =
  /** None is connected; one is waited for since then, in monotonic milliseconds. */
  | {
      readonly kind: 'Away';
      readonly since: number;
      /** Whether the init was connected to this run of the agent. */
      readonly lost?: true;
      /** Found by this run of the agent, and not known to have been frozen by one before: a call may be in it. */
      readonly unheard?: true;
    }
  | {
      readonly kind: 'Connected';
      readonly phase: InitPhase;
      /** Monotonic milliseconds since which it is ready, or is not. */
      readonly since: number;
      /** Monotonic milliseconds at which it connected. */
      readonly from: number;
      /** Whether it may be frozen. */
      readonly idle: boolean;
      /** Calls that its runtime has shown to take at once. */
      readonly places: number;
      /** Places of these that calls hold which ran out of time. */
      readonly held: number;
      /** Calls of an earlier run of the agent that have not ended. */
      readonly found: number;
    };

/** The word of an init, or of the loss of it. */
export type InitWord = Omit<InitNews, 'containerId'>;

/** The call of an earlier run of the agent that has not ended by that word; undefined for none. */
export function foundCall({ found }: InitWord): string | undefined {
  return found.requestId;
}

/** Knowledge of an init after a word of it. The same object where nothing is new. */
export function heard(before: InitSight, word: InitWord, now: number): InitSight {
  const { state } = word;
  if (state === undefined) {
    return before.kind === 'Connected' ? { kind: 'Away', since: now, lost: true } : before;
  }
  const { held = 0, idle, phase, places = 1 } = state;
  const found = word.found.running;
  const isSame =
    before.kind === 'Connected' &&
    before.phase === phase &&
    before.idle === idle &&
    before.places === places &&
    before.held === held &&
    before.found === found;
  const from = before.kind === 'Connected' ? before.from : now;
  const since = sinceOf(before, phase, now);
  return isSame ? before : { kind: 'Connected', phase, since, from, idle, places, held, found };
}

/** Since when an init in that phase is ready, or is not. */
function sinceOf(before: InitSight, phase: InitPhase, now: number): number {
  return before.kind === 'Connected' && (before.phase === 'Ready') === (phase === 'Ready') ? before.since : now;
}

/** The wait for an init that is away or not ready begins now: its container runs, maybe again after a freeze. */
export function awaited(init: InitSight, now: number): InitSight {
  if (init.kind === 'Connected') {
    return init.phase === 'Ready' ? init : { ...init, since: now };
  }
  return init.lost === true ? { kind: 'Away', since: now, lost: true } : { kind: 'Away', since: now };
}

/** Monotonic milliseconds from which on one that is away or not ready is given up; infinite for one that is ready. */
export function givenUpAt(init: InitSight): number {
  if (init.kind === 'Away') {
    return init.since + (init.lost === true ? lostMs : awaitedMs);
  }
  return init.phase === 'Ready' ? Number.POSITIVE_INFINITY : init.since + unreadyMs;
}

/** Why it is given up then. */
export function givenUpFor(init: InitSight): string {
  return init.kind === 'Away' ? 'its init does not connect' : 'its init does not become ready';
}

/** Whether its runtime takes the next call. */
export function takesCall(init: InitSight): boolean {
  return init.kind === 'Connected' && init.phase === 'Ready';
}
