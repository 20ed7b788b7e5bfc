import { formatTable } from './table.ts';

/** Times of the stages of a call, in milliseconds, as the gateway reports them. */
export interface InvokeTimings {
  readonly queue: number;
  readonly wake: number;
  readonly run: number;
  /** `warm`, `resumed` or `cold`; empty where the gateway does not say. */
  readonly start: string;
}

/**
 * The timings in `Server-Timing` and `X-Esb-Start` of an answer; undefined where these are missing, as with
 * `--no-timing-headers` or for a call that did not run.
 */
export function timingsOf(serverTiming: string | undefined, start: string | undefined): InvokeTimings | undefined {
  const durations = new Map<string, number>();
  for (const [, name = '', duration = ''] of (serverTiming ?? '').matchAll(/(\w+);dur=([\d.]+)/g)) {
    durations.set(name, Number(duration));
  }
  const queue = durations.get('queue');
  const wake = durations.get('wake');
  const run = durations.get('run');
  return queue === undefined || wake === undefined || run === undefined
    ? undefined
    : { queue, wake, run, start: start ?? '' };
}

/**
 * A table of the stages.
 *
 * @param totalMs milliseconds from the request to the end of the answer, measured here
 */
export function timingTable(timings: InvokeTimings, totalMs: number): string {
  const rest = Math.max(0, totalMs - timings.queue - timings.wake - timings.run);
  const rows: readonly (readonly [string, number, string])[] = [
    ['queue', timings.queue, ''],
    ['wake', timings.wake, timings.start],
    ['run', timings.run, ''],
    ['network', rest, 'with gateway and agent'],
  ];
  const numbers = rows.map(([, milliseconds]) => milliseconds.toFixed(1));
  const width = Math.max(...numbers.map((number) => number.length));
  return formatTable(
    rows.map(([name, , note], row) => [`  ${name}`, `${(numbers[row] ?? '').padStart(width)} ms`, note]),
  );
}
