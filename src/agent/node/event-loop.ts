import { monitorEventLoopDelay } from 'node:perf_hooks';

/** Seconds by which the event loop was late since it was asked last. */
export interface EventLoopDelay {
  readonly mean: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/**
 * Milliseconds between two samples. A stall counts with the part of it that lies after a sample was due, so the usual
 * 10 ms would catch shorter ones; they would also take ten times the processor time of an idle agent that this does.
 */
const resolutionMs = 100;

/**
 * Watches how late the event loop is. Gives what asks for the figures, which begins a new period: with its first sample, so
 * a stall within the resolution after that is not seen.
 */
export function watchEventLoop(): () => EventLoopDelay {
  const histogram = monitorEventLoopDelay({ resolution: resolutionMs });
  histogram.enable();
  // What is recorded is the time between two samples, in nanoseconds.
  const seconds = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e9 - resolutionMs / 1e3);
  return () => {
    const delay =
      histogram.count === 0
        ? { mean: 0, p50: 0, p99: 0, max: 0 }
        : {
            mean: seconds(histogram.mean),
            p50: seconds(histogram.percentile(50)),
            p99: seconds(histogram.percentile(99)),
            max: seconds(histogram.max),
          };
    histogram.reset();
    return delay;
  };
}
