import { flushCompileCache } from 'node:module';
import type { OptionValues } from 'commander';
import type { CommandContext, InstanceOpener } from './cli/command-context.ts';
import { isAborted } from './common/deadline.ts';
import { EsbError, messageOf } from './common/errors.ts';
import { createLogger } from './common/logger.ts';
import type { RoleContext } from './common/role-context.ts';
import { type FlagGroups, type OptionsOf, readOptions } from './options/flag.ts';
import { logLevel } from './options/shared.ts';

/** Exit codes of commands that return none. */
export const exitCodes = { ok: 0, failed: 1, usage: 2 } as const;
/** Milliseconds after which a role has surely loaded all its code. */
const flushAfterMs = 5_000;
const signalNumbers = { SIGINT: 2, SIGTERM: 15 } as const;

/** The first SIGTERM or SIGINT fires `signal`, the second ends the process at once. */
function watchSignals(): { readonly signal: AbortSignal; readonly received: () => number | undefined } {
  const controller = new AbortController();
  let received: number | undefined;
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => {
      if (received !== undefined) {
        process.exit(128 + signalNumbers[name]);
      }
      received = signalNumbers[name];
      controller.abort(new EsbError(`received ${name}`, { code: 'Aborted' }));
    });
  }
  return { signal: controller.signal, received: () => received };
}

/**
 * The action of a command that is a role: runs the role until it ends, and ends the process. A role that was asked to
 * stop and stopped has succeeded.
 */
export function role<Groups extends FlagGroups>(
  name: string,
  flags: Groups,
  run: (options: OptionsOf<Groups>, context: RoleContext) => Promise<void>,
): (given: OptionValues) => Promise<void> {
  return async (given) => {
    const logger = createLogger(name, String(given[logLevel.attributeName()]));
    const { signal } = watchSignals();
    process.on('unhandledRejection', (error) => {
      logger.fatal({ err: error }, 'unhandled rejection');
      process.exit(exitCodes.failed);
    });
    setTimeout(flushCompileCache, flushAfterMs).unref();
    try {
      await run(readOptions(flags, given), { signal, logger });
      process.exit(exitCodes.ok);
    } catch (error) {
      if (signal.aborted && isAborted(error)) {
        process.exit(exitCodes.ok);
      }
      logger.fatal({ err: error }, 'role failed');
      fail(error);
    }
  };
}

/** Runs a command of an operator. A number that the command returns is the exit code. */
export async function command(
  run: (context: CommandContext) => Promise<unknown>,
  openInstance?: InstanceOpener,
): Promise<void> {
  const { signal, received } = watchSignals();
  try {
    const code = await run({ signal, openInstance, write: (text) => void process.stdout.write(text) });
    const interrupted = received();
    const own = typeof code === 'number' ? code : exitCodes.ok;
    process.exit(interrupted === undefined ? own : 128 + interrupted);
  } catch (error) {
    const interrupted = received();
    if (interrupted !== undefined && isAborted(error)) {
      process.exit(128 + interrupted);
    }
    fail(error);
  }
}

function fail(error: unknown): never {
  if (error instanceof EsbError) {
    process.stderr.write(`esb: ${error.message}\n`);
    for (let { cause } = error; cause !== undefined; cause = cause instanceof Error ? cause.cause : undefined) {
      const text = messageOf(cause);
      if (!error.message.includes(text)) {
        process.stderr.write(`  because: ${text}\n`);
      }
    }
  } else {
    process.stderr.write(`esb: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  }
  process.exit(exitCodes.failed);
}
