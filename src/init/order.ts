import type { Clock } from '../common/clock.ts';
import type { InitRequest } from './contract.ts';
import { linesFrame, MAX_FRAME_BYTES } from './frames.ts';
import { ARRIVAL_WINDOW_BYTES, MAX_BUFFERED_BYTES } from './sent-call.ts';

/** Milliseconds that a call has at least to reach a runtime. */
const LEAST_WAIT_MS = 1_000;

/** Milliseconds by which the kernel's monotonic clock, which all processes of a node have, is ahead of this process's. */
const KERNEL_AHEAD_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** The frame by which a call begins. */
export function orderFrame(request: InitRequest, clock: Pick<Clock, 'monotonic'>): Buffer {
  const { requestId, payload, timeoutMs, boundMs, functionArn, version, clientContext, traceId, arrival } = request;
  // A call that reaches its runtime later could not end within the bound.
  const waitMs = Math.max(LEAST_WAIT_MS, boundMs - timeoutMs - LEAST_WAIT_MS);
  return linesFrame('I', {
    id: requestId,
    size: payload.length,
    timeoutMs,
    beginByMs: Math.ceil(clock.monotonic() + KERNEL_AHEAD_MS + waitMs),
    version,
    functionArn,
    clientContext,
    traceId,
    ...(arrival === undefined ? {} : { window: ARRIVAL_WINDOW_BYTES }),
  });
}

/** Why an init would not take a call, and end the connection for it. */
export function mistakeIn(
  { requestId, payload, timeoutMs }: InitRequest,
  order: Buffer,
  known: boolean,
): string | undefined {
  if (!/^[A-Za-z0-9._-]{1,255}$/.test(requestId)) {
    return 'the request id is none that a runtime takes';
  }
  if (known) {
    return 'a call with this request id is under way in the worker';
  }
  if (payload.length > MAX_BUFFERED_BYTES || order.length > MAX_FRAME_BYTES) {
    return 'the event or its context is larger than a runtime takes';
  }
  return Number.isSafeInteger(timeoutMs) && timeoutMs > 0 ? undefined : 'the time limit is no number of milliseconds';
}
