import type { Clock } from '../../common/clock.ts';
import { AbortedError, isAborted } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import type { WorkerAddress } from '../contract/runtime.ts';
import { isShared, listensOn } from './port-owner.ts';
import { type Connect, waitForPort } from './port-probe.ts';

/** What a started worker came to first. */
export type ListeningOutcome<Exit> =
  | { readonly kind: 'Listening' }
  | { readonly kind: 'Exited'; readonly exit: Exit }
  /** Neither, for as long as it was given. */
  | { readonly kind: 'Late' };

export interface ListeningWait<Exit> {
  readonly address: WorkerAddress;
  /** Its first process, which listens itself where other programs of the node may. */
  readonly pid: number;
  /** Settles when its process has ended, and rejects when the signal fires. */
  readonly exited: (signal: AbortSignal) => Promise<Exit>;
  readonly connect: Connect;
  readonly deadlineMs: number;
  readonly clock: Clock;
}

const WHAT = 'waiting for the port';

/**
 * Waits until a running worker listens, or has ended instead.
 *
 * @throws {AbortedError} when `signal` fires; whatever `exited` rejects with
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
    // The one that is not waited for ends by the signal below.
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

/** What to tell of a worker that did not listen in time. */
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
