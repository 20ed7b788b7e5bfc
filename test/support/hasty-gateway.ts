import { createProgram } from '../../src/command-line.ts';
import { role } from '../../src/command-run.ts';
import { type GatewayTimes, runGateway } from '../../src/gateway/main.ts';
import { gatewayFlags } from '../../src/options/gateway.ts';

/** `esb gateway` with the same flags, but that it waits 2 s where every other gateway waits 20 or 30. */
const times: GatewayTimes = {
  patience: { headMs: 2_000, unreadMs: 2_000, checkEveryMs: 500 },
  maxWaitMs: 2_000,
};

const program = createProgram();
program.commands
  .find((command) => command.name() === 'gateway')
  ?.action(role('gateway', gatewayFlags, (config, context) => runGateway(config, context, times)));
await program.parseAsync();
