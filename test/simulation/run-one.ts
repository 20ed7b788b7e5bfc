/** Runs one seed in this thread, which from then on keeps the agent's files in memory. */
import { installHooks, type SourceChange } from './hooks.ts';
import type { SimulationOptions, SimulationResult } from './simulation.ts';

export interface RunRequest extends SimulationOptions {
  readonly seed: number;
  readonly steps: number;
  readonly changes?: readonly SourceChange[];
}

let installed = false;

export async function runOne({ changes = [], seed, steps, ...options }: RunRequest): Promise<SimulationResult> {
  if (!installed) {
    installHooks(changes);
    installed = true;
  }
  const { Simulation } = await import('./simulation.ts');
  return await new Simulation(seed, options).run(steps);
}
