import type { Limit } from './limits.ts';

/** A stage of a worker's start or wake. */
export type StartStage = 'image' | 'network' | 'snapshot' | 'tmp' | 'create' | 'start' | 'listen' | 'thaw';

/** Stages in the order of a cold start; those before `create` run at the same time. */
export const startStages: readonly StartStage[] = [
  'image',
  'network',
  'snapshot',
  'tmp',
  'create',
  'start',
  'listen',
  'thaw',
];

/** Observer of the runtime's work, for the metrics. Methods must not throw. */
export interface RuntimeObserver {
  /** A stage that succeeded. */
  stage(stage: StartStage, durationMs: number): void;
  /** The kernel held a worker to a limit `count` times since the last report. */
  limitReached(limit: Limit, count: number): void;
  pullBegan(): void;
  /** @param outcome `ok` or the code of the error */
  pullEnded(durationMs: number, outcome: string): void;
}
