import { AbortedError } from '../../common/deadline.ts';

/** Lets a bounded number of requests through at a time, in the order in which they came. */
export interface ConcurrencyLimiter {
  /**
   * Waits for a place; the function that it gives leaves it again and may be called more than once.
   *
   * @throws {AbortedError} when `signal` fires before there is a place
   */
  enter(signal: AbortSignal): Promise<() => void>;
}

export function createConcurrencyLimiter(places: number): ConcurrencyLimiter {
  // A set keeps the order of arrival and gives up a place in the middle in constant time.
  const waiting = new Set<() => void>();
  let inside = 0;

  const leaver = (): (() => void) => {
    let left = false;
    return () => {
      if (left) {
        return;
      }
      left = true;
      const [next] = waiting;
      if (next === undefined) {
        inside--;
      } else {
        waiting.delete(next);
        next();
      }
    };
  };

  return {
    enter(signal) {
      if (signal.aborted) {
        return Promise.reject(new AbortedError('a wait for a connection', signal.reason));
      }
      if (inside < places) {
        inside++;
        return Promise.resolve(leaver());
      }
      const entered = Promise.withResolvers<() => void>();
      const admit = (): void => {
        signal.removeEventListener('abort', giveUp);
        entered.resolve(leaver());
      };
      const giveUp = (): void => {
        waiting.delete(admit);
        entered.reject(new AbortedError('a wait for a connection', signal.reason));
      };
      waiting.add(admit);
      signal.addEventListener('abort', giveUp, { once: true });
      return entered.promise;
    },
  };
}
