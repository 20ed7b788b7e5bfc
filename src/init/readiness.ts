import { abortable } from '../common/deadline.ts';
import type { InitNews, InitState } from './contract.ts';
import { InitFailedError } from './init-failed-error.ts';

/** Where a worker is on its way to its first call. */
export type Readiness =
  | { readonly kind: 'Waiting' }
  | { readonly kind: 'Ready'; readonly state: InitState }
  | { readonly kind: 'Failed'; readonly error: InitFailedError };

/** How far a worker is by the news of its init. One that is stopping has told all, and its process ends. */
export function readinessBy({ state, breach }: Pick<InitNews, 'state' | 'breach'>): Readiness {
  if (breach !== undefined) {
    return { kind: 'Failed', error: InitFailedError.broken(breach) };
  }
  if (state?.phase === 'Failed') {
    const fault = state.fault ?? { errorType: 'Runtime.Unknown', message: 'the initialization failed' };
    return { kind: 'Failed', error: InitFailedError.of(fault) };
  }
  return state?.phase === 'Ready' ? { kind: 'Ready', state } : { kind: 'Waiting' };
}

/**
 * Resolves once the init of a container says that it is ready.
 *
 * @param told the container as its init has reported it last
 * @param subscribe has `look` called at each news of any init
 * @throws {InitFailedError} see {@link readinessBy}
 * @throws {AbortedError} when `signal` fires
 */
export function waitUntilReady(
  told: () => Pick<InitNews, 'containerId' | 'state' | 'breach'>,
  signal: AbortSignal,
  subscribe: (look: () => void) => () => void,
): Promise<InitState> {
  return abortable(`wait for the init of ${told().containerId}`, signal, (resolve, reject) => {
    const look = (): void => {
      const readiness = readinessBy(told());
      if (readiness.kind !== 'Waiting') {
        stop();
        if (readiness.kind === 'Ready') {
          resolve(readiness.state);
        } else {
          reject(readiness.error);
        }
      }
    };
    const stop = subscribe(look);
    look();
    return stop;
  });
}
