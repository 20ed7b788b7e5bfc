import type { InitNews, InitPhase } from '../../init/contract.ts';

/** Milliseconds for which a container may run without a connected init. */
const patienceMs = 5_000;

/** Knowledge of the init of a container. Of no meaning where the emulator of the image serves. */
export type InitSight =
  /** None is connected; one is waited for since then, in monotonic milliseconds. */
  | { readonly kind: 'Away'; readonly since: number }
  | {
      readonly kind: 'Connected';
      readonly phase: InitPhase;
      /** Whether it may be frozen. */
      readonly idle: boolean;
    };

/** The word of an init, or of the loss of it. */
export type InitWord = Omit<InitNews, 'containerId'>;

/** The call of an earlier run of the agent that has not ended by that word; undefined for none. */
export function foundCall({ found }: InitWord): string | undefined {
  return found.find(({ ended }) => !ended)?.requestId;
}

/** Knowledge of an init after a word of it. The same object where nothing is new. */
export function heard(before: InitSight, word: InitWord, now: number): InitSight {
  const { state } = word;
  const isConnected = before.kind === 'Connected';
  if (state === undefined) {
    return isConnected ? { kind: 'Away', since: now } : before;
  }
  const { idle, phase } = state;
  const isSame = isConnected && before.phase === phase && before.idle === idle;
  return isSame ? before : { kind: 'Connected', phase, idle };
}

/** The wait for an init begins now, where none is connected: its container runs, maybe again. */
export function awaited(init: InitSight, now: number): InitSight {
  return init.kind === 'Away' ? { kind: 'Away', since: now } : init;
}

/** Monotonic milliseconds from which on one that is away is given up; infinite for one that is connected. */
export function givenUpAt(init: InitSight): number {
  return init.kind === 'Away' ? init.since + patienceMs : Number.POSITIVE_INFINITY;
}

/** Whether its runtime takes the next call. */
export function takesCall(init: InitSight): boolean {
  return init.kind === 'Connected' && init.phase === 'Ready';
}
