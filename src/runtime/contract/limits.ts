export type Limit = keyof LimitHits;
/** How often the kernel held a worker to its limits since it was started. */
export interface LimitHits {
  /** Processes or threads that it was refused. */
  readonly processes: number;
  /** Processes of it that were ended for want of memory. */
  readonly memory: number;
}
