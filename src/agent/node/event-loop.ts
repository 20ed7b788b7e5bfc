import { monitorEventLoopDelay } from 'node:perf_hooks';

/** Seconds by which the event loop was late since the last reading. */
export interface EventLoopDelay {
  readonly mean: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/**
 * Milliseconds between two samples. A stall counts from the time at which a sample was due. The usual 10 ms would find
 * shorter stalls, at ten times the processor time of an idle agent.
 */
const resolutionMs = 100;

/**
 * Watches how late the event loop is. Returns a function that reads the figures and begins a new period. A period
 * begins with its first sample, so that a stall within the resolution after a reading is not seen.
 */
export function watchEventLoop(): () => EventLoopDelay {
  const histogram = monitorEventLoopDelay({ resolution: resolutionMs });
  histogram.enable();
  // The histogram holds the time between two samples, in nanoseconds.
  const seconds = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e9 - resolutionMs / 1e3);
  return () => {
    const { count, max, mean } = histogram;
    const [p50, p99] = [histogram.percentile(50), histogram.percentile(99)];
    histogram.reset();
    return count === 0
      ? { mean: 0, p50: 0, p99: 0, max: 0 }
      : { mean: seconds(mean), p50: seconds(p50), p99: seconds(p99), max: seconds(max) };
  };
}
