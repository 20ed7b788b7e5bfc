import { type Clock, systemClock, type Timer } from '../common/clock.ts';

/** A step that the user waits for. */
export interface Step {
  /** Replaces the text of the step while it lasts: a count, a file, the thing that it waits for. */
  note(text: string): void;
}

/** The duration of a named step. */
export interface StepTiming {
  readonly name: string;
  readonly milliseconds: number;
}

/** Shows the progress to a user: one line at the end of a step, and a sign of life while it lasts. */
export interface Progress {
  /** Runs `work`; writes its line at the end, and its present text every few seconds. */
  step<T>(name: string, work: (step: Step) => Promise<T>): Promise<T>;
  /** Writes one line. */
  say(line: string): void;
  /** Steps that have succeeded, in order. */
  readonly timings: readonly StepTiming[];
}

export interface ProgressOptions {
  /** Takes the lines. */
  readonly write: (text: string) => void;
  /** Milliseconds between two signs of life of one step. Default 5,000. */
  readonly intervalMs?: number;
  /** Steps shorter than this many milliseconds get no line of their own. Default 0. */
  readonly quietBelowMs?: number;
  readonly clock?: Clock;
}

const DEFAULT_INTERVAL_MS = 5_000;

/** Progress in plain lines, good for terminals and logs alike. */
export function createProgress(options: ProgressOptions): Progress {
  const clock = options.clock ?? systemClock;
  const intervalMs = options.intervalMs ?? DEFAULT_INTERVAL_MS;
  const timings: StepTiming[] = [];
  return {
    timings,
    say: (line) => options.write(`${line}\n`),
    async step(name, work) {
      const began = clock.monotonic();
      let note = '';
      let timer: Timer | undefined;
      const tick = (): void => {
        const elapsed = formatDuration(clock.monotonic() - began);
        options.write(`  … ${name}${note === '' ? '' : `: ${note}`} (${elapsed})\n`);
        timer = clock.setTimer(tick, intervalMs);
      };
      timer = clock.setTimer(tick, intervalMs);
      try {
        const result = await work({
          note: (text) => {
            note = text;
          },
        });
        const milliseconds = clock.monotonic() - began;
        timings.push({ name, milliseconds });
        if (milliseconds >= (options.quietBelowMs ?? 0)) {
          options.write(`  ✓ ${name} (${formatDuration(milliseconds)})\n`);
        }
        return result;
      } catch (error) {
        options.write(`  ✗ ${name} (${formatDuration(clock.monotonic() - began)})\n`);
        throw error;
      } finally {
        timer.cancel();
      }
    },
  };
}

/** A duration for people: `85 ms`, `3.2 s`, `2 min 5 s`. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 1_000) {
    return `${Math.round(milliseconds)} ms`;
  }
  if (milliseconds < 60_000) {
    return `${(milliseconds / 1_000).toFixed(1)} s`;
  }
  const seconds = Math.round(milliseconds / 1_000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}
