/** Runs one seed in this thread, which from then on keeps the agent's files in memory. */
import { installHooks, type SourceChange } from './hooks.ts';
import type { SimulationResult } from './simulation.ts';

export interface RunRequest {
  readonly seed: number;
  readonly steps: number;
  /** Whether there are workers of interface `Lambda`. Default by the seed. */
  readonly inits?: boolean | undefined;
  readonly changes?: readonly SourceChange[];
}

let installed = false;

export async function runOne({ changes = [], inits, seed, steps }: RunRequest): Promise<SimulationResult> {
  if (!installed) {
    installHooks(changes);
    installed = true;
  }
  const { Simulation } = await import('./simulation.ts');
  return await new Simulation(seed, inits).run(steps);
}
