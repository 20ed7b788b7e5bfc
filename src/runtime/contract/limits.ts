export type Limit = keyof LimitHits;
/** Counts of a worker's hits of its limits since its start. */
export interface LimitHits {
  /** Processes or threads that the kernel refused. */
  readonly processes: number;
  /** Processes that the kernel ended for want of memory. */
  readonly memory: number;
}
