import type { Clock } from '../../common/clock.ts';
import { AbortedError, isAborted } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import type { WorkerAddress } from '../contract/runtime.ts';
import { isShared, listensOn } from './port-owner.ts';
import { type Connect, waitForPort } from './port-probe.ts';

/** First event of a started worker. */
export type ListeningOutcome<Exit> =
  | { readonly kind: 'Listening' }
  | { readonly kind: 'Exited'; readonly exit: Exit }
  /** Neither before the deadline. */
  | { readonly kind: 'Late' };

export interface ListeningWait<Exit> {
  readonly address: WorkerAddress;
  /** First process, which listens itself where other programs of the node may listen. */
  readonly pid: number;
  /** Settles when the first process has ended; rejects when the signal fires. */
  readonly exited: (signal: AbortSignal) => Promise<Exit>;
  readonly connect: Connect;
  readonly deadlineMs: number;
  readonly clock: Clock;
}

const WHAT = 'waiting for the port';

/**
 * Waits until a running worker listens or ends.
 *
 * @throws {AbortedError} when `signal` fires; errors of `exited`
 */
export async function waitUntilListening<Exit>(
  wait: ListeningWait<Exit>,
  signal: AbortSignal,
): Promise<ListeningOutcome<Exit>> {
  const { address, clock, connect, deadlineMs, pid } = wait;
  const connectOwn: Connect = isShared(address)
    ? async (to, ended) => (await connect(to, ended)) && (await listensOn(pid, to.port))
    : connect;
  const controller = new AbortController();
  const giveUp = (): void => controller.abort(new AbortedError(WHAT, signal.reason));
  signal.addEventListener('abort', giveUp, { once: true });
  let late = false;
  const timer = clock.setTimer(() => {
    late = true;
    controller.abort(new AbortedError(WHAT));
  }, deadlineMs);
  try {
    if (signal.aborted) {
      throw new AbortedError(WHAT, signal.reason);
    }
    const listening = waitForPort(address, connectOwn, clock, controller.signal).then(
      () => ({ kind: 'Listening' }) as const,
    );
    const exited = wait.exited(controller.signal).then((exit) => ({ kind: 'Exited', exit }) as const);
    // The signal below ends the slower of the two.
    exited.catch(() => undefined);
    return await Promise.race([listening, exited]);
  } catch (error) {
    if (late && isAborted(error)) {
      return { kind: 'Late' };
    }
    throw error;
  } finally {
    timer.cancel();
    controller.abort(new AbortedError(WHAT));
    signal.removeEventListener('abort', giveUp);
  }
}

/** The error for a worker that did not listen in time. */
export function notListening(
  containerId: string,
  { address, deadlineMs }: Pick<ListeningWait<unknown>, 'address' | 'deadlineMs'>,
  output: string,
): EsbError {
  const last = output.trim();
  return new EsbError(
    `nothing listens on port ${address.port} of ${containerId} after ${Math.round(deadlineMs / 1000)} s: is spec.port the port of the emulator, and does the command begin with the emulator?${last === '' ? '' : ` Its last output: ${last}`}`,
    { code: 'NotListening' },
  );
}
