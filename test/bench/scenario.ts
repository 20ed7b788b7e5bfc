import type { BareContainerd } from './bare-containerd.ts';
import type { BenchInstance } from './bench-instance.ts';
import type { BenchResult } from './bench-result.ts';

/** Input of a measurement. */
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
  /** The group that it is measured with; without one it is among those of a plain `npm run bench`. */
  readonly group?: string;
  /** Options of the agent that it is measured with; it gets an instance of its own where there are any. */
  readonly agentOptions?: readonly string[];
  run(bench: Bench): Promise<BenchResult | readonly BenchResult[]>;
}

/** How often something is done at a scale. */
export function times(bench: Bench, full: number): number {
  return Math.max(3, Math.round(full * bench.scale));
}

/** Input of a measurement on a cluster of its own. */
export type ClusterBench = Pick<Bench, 'scale' | 'say'>;

/** One measurement of the controller: an API server and simulated agents, without an instance. */
export interface ClusterScenario {
  readonly name: string;
  readonly group: string;
  run(bench: ClusterBench): Promise<BenchResult | readonly BenchResult[]>;
}

/** How many workers on how many nodes: 10,000 on 100 in a full run, always a hundred on each. */
export function fleetSize({ scale }: ClusterBench): {
  readonly workers: number;
  readonly agents: number;
  readonly workersPerNode: number;
} {
  const agents = Math.max(5, Math.round(100 * scale));
  return { workers: 100 * agents, agents, workersPerNode: 130 };
}
