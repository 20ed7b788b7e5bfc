import type { CommandContext } from '../../src/cli/command-context.ts';
import { formatJson, formatTable } from '../../src/cli/table.ts';
import { hasCode } from '../../src/common/errors.ts';
import { localCode } from '../common/error-codes.ts';
import { openHome } from '../common/home.ts';
import { type Instance, openInstance } from '../instance/instance.ts';
import type { InstanceState } from '../instance/instance-state.ts';
import type { SupervisorStatus } from '../supervisor/supervisor-client.ts';

export interface StatusOptions {
  readonly json: boolean;
}

/**
 * Shows the parts of the local instance and their health.
 *
 * @returns the exit code: 0 when everything is healthy, 1 when something is not, 3 when nothing runs
 */
export async function runStatus(options: StatusOptions, { signal, write }: CommandContext): Promise<number> {
  const home = openHome();
  const instance = await openInstance(home);
  const status = instance === undefined ? undefined : await ask(instance, signal);
  if (instance === undefined || status === undefined) {
    write(
      options.json
        ? `${JSON.stringify({ supervisor: { pid: 0 }, parts: [] })}\n`
        : instance === undefined
          ? `There is no local instance in ${home.root}; bring one up with: npm run up\n`
          : `The supervisor of the local instance in ${home.root} does not run; start it again with: npm run up\n`,
    );
    return 3;
  }
  const isHealthy = status.parts.every((part) => part.health === 'healthy');
  if (options.json) {
    write(formatJson({ home: home.root, ...status }));
  } else {
    write(
      formatTable([
        ['PART', 'HEALTH', 'PID', 'RESTARTS', 'PORTS'],
        ...status.parts.map(({ name, health, pid, restarts }) => [
          name,
          health,
          pid === 0 ? '-' : String(pid),
          String(restarts),
          portsOf(instance.state, name),
        ]),
      ]),
    );
    write(`\nkubeconfig ${home.kubeconfig}\ngateway    ${instance.gateways.join('  ')}\n`);
  }
  return isHealthy ? 0 : 1;
}

/** The ports of a part; the port for health and metrics comes last. */
function portsOf({ ports }: InstanceState, part: string): string {
  const found = [part, `${part}-peer`, `${part}-health`].flatMap((name) => ports[name] ?? []);
  return found.length === 0 ? '-' : found.join(', ');
}

async function ask(instance: Instance, signal: AbortSignal): Promise<SupervisorStatus | undefined> {
  try {
    return await instance.supervisor.status({ signal });
  } catch (error) {
    if (hasCode(error, localCode('SupervisorGone'))) {
      return undefined;
    }
    throw error;
  }
}
