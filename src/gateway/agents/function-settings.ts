import type { LambdaWorker, LambdaWorkerSpec } from '../../api/lambda-worker.ts';

/** What holds for all calls of a function, whichever worker serves them. */
export interface FunctionSettings {
  readonly concurrency: LambdaWorkerSpec['concurrency'];
  readonly asyncInvoke: LambdaWorkerSpec['asyncInvoke'];
}

/** What decides which worker speaks for a function. */
export interface Speaker {
  readonly name: string;
  /** RFC 3339 in UTC, as the API server writes it: its order as text is that of time. */
  readonly createdAt: string;
}

/** The part of a worker's resource that may speak for its function. */
export interface SettingsSource extends Speaker {
  readonly settings: FunctionSettings;
}

/** What a resource says of its function. */
export function settingsSource(worker: LambdaWorker): SettingsSource {
  const { asyncInvoke, concurrency } = worker.spec;
  return {
    name: worker.metadata.name,
    createdAt: worker.metadata.creationTimestamp ?? '',
    settings: { concurrency, asyncInvoke },
  };
}

/**
 * The settings of a function: those of its oldest worker, the first by name among those of one second. The others are not looked at, so that a
 * worker that is added does not change what holds for its function.
 */
export function settingsOf(sources: readonly SettingsSource[]): FunctionSettings {
  const [first, ...others] = sources;
  if (first === undefined) {
    return { concurrency: undefined, asyncInvoke: undefined };
  }
  return others.reduce((speaker, other) => (isBefore(other, speaker) ? other : speaker), first).settings;
}

/** Whether one of two workers speaks for their function rather than the other. */
export function isBefore(one: Speaker, other: Speaker): boolean {
  return one.createdAt === other.createdAt ? one.name < other.name : one.createdAt < other.createdAt;
}
