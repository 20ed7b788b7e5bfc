/** Values of one kind, in the order measured. */
export type Sample = readonly number[];

/** The usual three quantiles. */
export interface Distribution {
  readonly n: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

/** The smallest value that at least `share` of the sample does not exceed (nearest rank). */
export function quantile(sample: Sample, share: number): number {
  const sorted = sample.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

export function distributionOf(sample: Sample): Distribution {
  return {
    n: sample.length,
    p50: quantile(sample, 0.5),
    p95: quantile(sample, 0.95),
    p99: quantile(sample, 0.99),
  };
}
