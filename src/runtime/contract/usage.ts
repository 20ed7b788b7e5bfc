/** Figures of a worker by the kernel, at one moment. */
export interface WorkerUsage {
  /** Microseconds of processor time since its container was made. */
  readonly cpuUs: number;
  /** Bytes of its working set: what it holds, without file pages that were not read of late. As the kubelet counts. */
  readonly memoryBytes: number;
  /** Milliseconds since the epoch. */
  readonly takenAt: number;
}
