// The supervisor as a process of its own: node local/supervisor/supervisor-process.ts. ESB_INSTANCE names its home.
import { systemClock } from '../../src/common/clock.ts';
import { createLogger } from '../../src/common/logger.ts';
import { homeAt } from '../common/home.ts';
import { INSTANCE_VARIABLE } from '../common/process-table.ts';
import { Supervisor } from './supervisor.ts';

const logger = createLogger('supervisor');
const home = homeAt(process.env[INSTANCE_VARIABLE] ?? '');
const controller = new AbortController();
for (const name of ['SIGTERM', 'SIGINT'] as const) {
  process.on(name, () => controller.abort());
}
try {
  await new Supervisor({ home, env: process.env, clock: systemClock, logger }).run(controller.signal);
  process.exit(0);
} catch (error) {
  logger.fatal({ err: error }, 'supervisor failed');
  process.exit(1);
}
