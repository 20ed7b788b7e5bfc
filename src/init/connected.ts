import type { Timer } from '../common/clock.ts';
import type { InitState } from './contract.ts';
import type { FoundCalls } from './found-calls.ts';
import type { InitConnection } from './init-connection.ts';
import type { Hello } from './messages.ts';

/** A connection, and how far its init has come with what it knows. */
export interface Connected {
  readonly connection: InitConnection;
  /** Its end, after which no word of it comes. */
  readonly ended: PromiseWithResolvers<void>;
  /** With the monotonic milliseconds at which it came. */
  hello: (Hello & { readonly at: number }) | undefined;
  state: InitState | undefined;
  /** Calls from before the connection that the init has named. */
  readonly named: Set<string>;
  readonly found: FoundCalls;
  unasked: Timer | undefined;
  whole: boolean;
  /** Runs until the init has named itself, and from then on until it has named all that it knows. */
  late: Timer;
  /** Whether words of the present read are news. */
  hasNews: boolean;
  /** Where the calls of the worker come, as the init was told. */
  share: 'Untold' | 'Alone' | 'Beside';
}

/** A connection whose init has not said a word. `late` ends it where that stays so. */
export function newConnection(connection: InitConnection, found: FoundCalls, late: Timer): Connected {
  return {
    connection,
    ended: Promise.withResolvers(),
    hello: undefined,
    state: undefined,
    named: new Set(),
    found,
    unasked: undefined,
    whole: false,
    late,
    hasNews: false,
    share: 'Untold',
  };
}
