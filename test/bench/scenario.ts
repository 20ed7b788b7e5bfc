import { ScaleCluster } from '../support/scale/scale-cluster.ts';
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

/** Input of a measurement without an instance. */
export interface ClusterBench extends Pick<Bench, 'scale' | 'say'> {
  /** Rejects when the measurement is to end early. */
  readonly interrupted: Promise<never>;
}

/** One measurement without an instance: the controller on an API server with simulated agents, or a part alone. */
export interface ClusterScenario {
  readonly name: string;
  readonly group: string;
  run(bench: ClusterBench): Promise<BenchResult | readonly BenchResult[]>;
}

/** How many workers on how many nodes. */
export interface FleetSize {
  readonly workers: number;
  readonly agents: number;
}

/** Measures on a cluster of its own, with reservations: 10,000 workers on 100 nodes in a full run, a hundred on each. */
export async function onFleet<Result>(
  { scale, interrupted }: ClusterBench,
  measure: (cluster: ScaleCluster, size: FleetSize) => Promise<Result>,
): Promise<Result> {
  const agents = Math.max(5, Math.round(100 * scale));
  const cluster = await ScaleCluster.up({ agents, workersPerNode: 130, reserves: true });
  try {
    return await Promise.race([measure(cluster, { workers: 100 * agents, agents }), interrupted]);
  } finally {
    await cluster.down();
  }
}
