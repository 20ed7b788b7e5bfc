import type { Limit } from './limits.ts';

/** A part of making a worker, or of bringing it back. */
export type StartStage = 'image' | 'network' | 'snapshot' | 'create' | 'start' | 'listen' | 'thaw';

/** Stages in the order in which a cold start goes through them; `image` and `network` at the same time. */
export const startStages: readonly StartStage[] = [
  'image',
  'network',
  'snapshot',
  'create',
  'start',
  'listen',
  'thaw',
];

/** Told of what the runtime does, for the metrics. Must not throw. */
export interface RuntimeObserver {
  /** A stage that succeeded. */
  stage(stage: StartStage, durationMs: number): void;
  /** The kernel held a worker to a limit, so many times since this was last told. */
  limitReached(limit: Limit, count: number): void;
  pullBegan(): void;
  /** @param outcome `ok` or the code of the error */
  pullEnded(durationMs: number, outcome: string): void;
}

/** Runs `work` and tells how long it took when it succeeded. */
export async function observed<T>(
  observer: RuntimeObserver | undefined,
  stage: StartStage,
  monotonic: () => number,
  work: Promise<T>,
): Promise<T> {
  const begun = monotonic();
  const result = await work;
  observer?.stage(stage, monotonic() - begun);
  return result;
}
