import type { BareContainerd } from './bare-containerd.ts';
import type { BenchInstance } from './bench-instance.ts';
import type { BenchResult } from './bench-result.ts';

/** What a measurement is given. */
export interface Bench {
  readonly instance: BenchInstance;
  readonly bare: BareContainerd;
  /** 1 for the figures of the table; less for a quick look. */
  readonly scale: number;
  readonly say: (text: string) => void;
}

/** One measurement, ours and bare in turns in the same run. */
export interface Scenario {
  readonly name: string;
  run(bench: Bench): Promise<BenchResult>;
}

/** How often something is done at a scale. */
export function times(bench: Bench, full: number): number {
  return Math.max(3, Math.round(full * bench.scale));
}
