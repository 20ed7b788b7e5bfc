import { join } from 'node:path';
import { EsbError } from '../../src/common/errors.ts';
import { silentLogger } from '../../src/common/logger.ts';
import type { Home } from '../common/home.ts';

/** The agent's default socket. */
const DEFAULT_SOCKET = '/var/run/docker.sock';
const REMOVE_DEADLINE_MS = 60_000;

/** Socket of the Docker engine that the agents of an instance use; undefined with containerd. */
export function dockerSocketOf(agentOptions: readonly string[]): string | undefined {
  return optionValue(agentOptions, '--runtime-type') === 'docker'
    ? (optionValue(agentOptions, '--docker-socket') ?? DEFAULT_SOCKET)
    : undefined;
}

/**
 * An engine's network is on the first node alone, and an engine has room for one agent.
 *
 * @throws {EsbError} `InvalidArgument`
 */
export function checkEngine(agentOptions: readonly string[], nodes: number): void {
  if (dockerSocketOf(agentOptions) !== undefined && nodes > 1) {
    throw new EsbError(`${nodes} nodes cannot share one Docker engine: bring up one with --runtime-type=docker`, {
      code: 'InvalidArgument',
    });
  }
}

/** Removes the workers that an instance left on a Docker engine, and their network. Returns the leftovers, in words. */
export async function removeEngineWorkers(home: Home, socketPath: string): Promise<string[]> {
  const { createDockerRuntime } = await import('../../src/runtime/docker/runtime.ts');
  const runtime = createDockerRuntime({
    docker: { socketPath },
    logs: { folder: join(home.node('node-1').agent, 'logs') },
    logger: silentLogger(),
  });
  try {
    return await runtime.leave({ deadlineMs: REMOVE_DEADLINE_MS });
  } finally {
    await runtime.stop();
  }
}

/** Options come as `--name=value`, or as two. The last one counts. */
function optionValue(options: readonly string[], name: string): string | undefined {
  let value: string | undefined;
  for (const [index, option] of options.entries()) {
    if (option === name) {
      value = options[index + 1];
    } else if (option.startsWith(`${name}=`)) {
      value = option.slice(name.length + 1);
    }
  }
  return value;
}
