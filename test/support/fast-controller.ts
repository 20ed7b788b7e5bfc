/**
 * `esb controller` with a clock that goes faster, for tests that kill it:
 *
 *   node fast-controller.ts TIMES [FLAG...]
 */
import { createLogger } from '../../src/common/logger.ts';
import { runController } from '../../src/controller/main.ts';
import { controllerFlags } from '../../src/options/controller.ts';
import { fastClock } from './fast-clock.ts';
import { optionsOf } from './options.ts';

const [times = '1', ...flags] = process.argv.slice(2);
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await runController(
  optionsOf(controllerFlags, flags),
  { signal: stop.signal, logger: createLogger('controller') },
  fastClock(Number(times)),
);
