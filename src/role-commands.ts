import type { Command } from 'commander';
import { role } from './command-run.ts';
import type { RoleContext } from './common/role-context.ts';
import { keepHeapSmall } from './common/small-heap.ts';
import { agentFlags } from './options/agent.ts';
import { controllerFlags } from './options/controller.ts';
import { eventsFlags } from './options/events.ts';
import { addFlags, type FlagGroups, type OptionsOf } from './options/flag.ts';
import { gatewayFlags } from './options/gateway.ts';
import { refuseGoneFlags } from './options/gone.ts';

function addRole<Groups extends FlagGroups>(
  program: Command,
  name: string,
  description: string,
  flags: Groups,
  run: (options: OptionsOf<Groups>, context: RoleContext) => Promise<void>,
): void {
  const command = program
    .command(name)
    .description(description)
    .action(role(name, flags, run));
  addFlags(command, flags);
  refuseGoneFlags(command);
}

/** Adds the roles: controller, gateway, events, agent. */
export function addRoles(program: Command): void {
  program.commandsGroup('Parts of ESB, as a cluster or a local instance runs them:');
  addRole(
    program,
    'controller',
    'assign workers to nodes and look after both (leader-elected)',
    controllerFlags,
    async (options, context) => {
      keepHeapSmall();
      const { runController } = await import('./controller/main.ts');
      await runController(options, context);
    },
  );
  addRole(
    program,
    'gateway',
    'serve the Lambda Invoke API for one namespace',
    gatewayFlags,
    async (options, context) => {
      const { runGateway } = await import('./gateway/main.ts');
      await runGateway(options, context);
    },
  );
  addRole(
    program,
    'events',
    'keep calls of type Event for the gateways of one namespace, and run them',
    eventsFlags,
    async (options, context) => {
      const { runEvents } = await import('./gateway/main.ts');
      await runEvents(options, context);
    },
  );
  addRole(program, 'agent', "run this node's workers", agentFlags, async (options, context) => {
    keepHeapSmall();
    const { Spawner } = await import('./common/exec/spawner.ts');
    const spawner = new Spawner({ logger: context.logger });
    // Before any other code is loaded: this process is as small as it will ever be, and both load at the same time.
    spawner.start();
    const { runAgent } = await import('./agent/main.ts');
    await runAgent(options, context, spawner);
  });
}
