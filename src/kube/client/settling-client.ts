import type { Clock } from '../../common/clock.ts';
import { AbortedError } from '../../common/deadline.ts';
import { mayBeWritten } from '../api/api-error.ts';
import type { KubeClient } from '../api/types.ts';
import { type AroundWrite, wrapWrites } from './wrapped-writes.ts';

/** Milliseconds that a write on its way may go on for after its caller has given it up. */
const SETTLE_MS = 5_000;
/** Milliseconds after which a lost write counts as one that never arrives: as long as others wait for a Lease to end. */
const DOUBT_MS = 15_000;

export interface SettlingClient {
  readonly client: KubeClient;
  /** Milliseconds for which a write that was lost or given up may still arrive; 0 for none. */
  doubtMs(): number;
}

/**
 * A client whose writes end with an answer, also when their caller gives them up meanwhile: one that was given up
 * may arrive after the next leader has read what it decides by. A write that is not on its way yet is not sent any more.
 */
export function settlingClient(client: KubeClient, clock: Pick<Clock, 'monotonic' | 'setTimer'>): SettlingClient {
  let settledFrom = Number.NEGATIVE_INFINITY;
  const settle: AroundWrite = async (given, send) => {
    const { fence, signal } = given ?? {};
    const late = new AbortController();
    let timer: ReturnType<Clock['setTimer']> | undefined;
    const onAbort = (): void => {
      timer = clock.setTimer(() => late.abort(signal?.reason), SETTLE_MS);
    };
    const refuse = (): void => {
      if (signal?.aborted === true) {
        throw new AbortedError('write', signal.reason);
      }
    };
    refuse();
    signal?.addEventListener('abort', onAbort, { once: true });
    let isSent = false;
    const guard = (): void => {
      refuse();
      fence?.();
      isSent = true;
    };
    try {
      return await send({ ...(given as NonNullable<typeof given>), signal: late.signal, fence: guard });
    } catch (error) {
      if (isSent && mayBeWritten(error)) {
        settledFrom = clock.monotonic() + DOUBT_MS;
      }
      throw error;
    } finally {
      timer?.cancel();
      signal?.removeEventListener('abort', onAbort);
    }
  };
  return {
    doubtMs: () => Math.max(0, settledFrom - clock.monotonic()),
    client: wrapWrites(client, settle),
  };
}
