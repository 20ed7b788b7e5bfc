import { connect } from 'node:net';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import type { WorkerAddress } from '../contract/runtime.ts';

/** Tries once to open a connection; resolves to whether it was accepted. */
export type Connect = (address: WorkerAddress, signal: AbortSignal) => Promise<boolean>;

/** Bound of one attempt: a worker on this node answers sooner or not at all. */
const CONNECT_TIMEOUT_MS = 1000;
/** Milliseconds between attempts by age: a cold start must not wait for a timer. */
const PACE: readonly { readonly untilMs: number; readonly everyMs: number }[] = [
  { untilMs: 250, everyMs: 1 },
  { untilMs: 2000, everyMs: 5 },
];
const LATE_PACE_MS = 25;

/** TCP from this process. */
export const tcpConnect: Connect = ({ ip, port }, signal) => {
  const done = Promise.withResolvers<boolean>();
  const socket = connect({ host: ip, port });
  const end = (open: boolean): void => {
    signal.removeEventListener('abort', abort);
    socket.destroy();
    done.resolve(open);
  };
  const abort = (): void => end(false);
  signal.addEventListener('abort', abort, { once: true });
  socket.setTimeout(CONNECT_TIMEOUT_MS, () => end(false));
  socket.once('connect', () => end(true));
  socket.once('error', () => end(false));
  return done.promise;
};

/**
 * Waits until a program listens, without a deadline.
 *
 * @throws {AbortedError} when `signal` fires
 */
export async function waitForPort(
  address: WorkerAddress,
  connectOnce: Connect,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const begun = clock.monotonic();
  while (!(await connectOnce(address, signal))) {
    const age = clock.monotonic() - begun;
    await sleep(clock, PACE.find(({ untilMs }) => age < untilMs)?.everyMs ?? LATE_PACE_MS, signal);
  }
}
