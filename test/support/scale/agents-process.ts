/**
 * Simulated agents in one process: `agents-process.ts FILE`, with an {@link AgentsFile} in JSON. Begins to call workers
 * at SIGUSR2, and stops at the next. Ends at SIGTERM.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { NodeAmounts } from '../../../src/api/lambda-node.ts';
import { createLogger } from '../../../src/common/logger.ts';
import { type SimulatedAgent, startSimulatedAgent } from './simulated-agent.ts';

export interface AgentsFile {
  /** Folder below which each agent has its own. */
  readonly folder: string;
  readonly capacity: NodeAmounts;
  readonly nodes: readonly { readonly name: string; readonly kubeconfig: string }[];
}

async function main(file: string): Promise<void> {
  const { folder, capacity, nodes } = JSON.parse(await readFile(file, 'utf8')) as AgentsFile;
  const logger = createLogger('simulated-agents', 'warn');
  const terminated = Promise.withResolvers<void>();
  process.once('SIGTERM', () => terminated.resolve());
  // Nothing else keeps the process while the API server is not connected: an agent has its server for that.
  const alive = setInterval(() => undefined, 60_000);
  const agents: SimulatedAgent[] = [];
  for (const { name, kubeconfig } of nodes) {
    const own = join(folder, name);
    await mkdir(join(own, 'state', 'workers'), { recursive: true });
    agents.push(await startSimulatedAgent({ nodeName: name, kubeconfig, folder: own, capacity, logger }));
  }
  process.on('SIGUSR2', () => {
    for (const { calls } of agents) {
      calls.toggle();
    }
  });
  await terminated.promise;
  clearInterval(alive);
  await Promise.all(agents.map((agent) => agent.stop()));
}

await main(process.argv[2] ?? '');
