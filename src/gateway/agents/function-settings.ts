import type { LambdaWorker, LambdaWorkerSpec } from '../../api/lambda-worker.ts';

/** The settings for all calls of a function, with any of its workers. */
export interface FunctionSettings {
  readonly concurrency: LambdaWorkerSpec['concurrency'];
  readonly asyncInvoke: LambdaWorkerSpec['asyncInvoke'];
}

/** The order of workers in which the first speaks for its function. */
export interface Speaker {
  readonly name: string;
  /** RFC 3339 in UTC, as the API server writes it: its order as text is that of time. */
  readonly createdAt: string;
}

/** The part of a worker's resource that may speak for its function. */
export interface SettingsSource extends Speaker {
  readonly settings: FunctionSettings;
}

/** The function's settings in a resource. */
export function settingsSource(worker: LambdaWorker): SettingsSource {
  const { asyncInvoke, concurrency } = worker.spec;
  return {
    name: worker.metadata.name,
    createdAt: worker.metadata.creationTimestamp ?? '',
    settings: { concurrency, asyncInvoke },
  };
}

/**
 * The settings of a function: those of its oldest worker, the first by name within one second. An added worker does not
 * change the settings of its function.
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
