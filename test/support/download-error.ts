import { messageOf } from '../../src/common/errors.ts';

/**
 * Error of a test that downloads, which names the settings of its program that the environment does not have: a
 * test that was started from an emptied environment fails for want of them.
 */
export function downloadError(
  what: string,
  cause: unknown,
  settings: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Error {
  const unset = settings.filter((name) => env[name] === undefined);
  const hint = unset.length === 0 ? '' : `\nSettings that the environment does not have: ${unset.join(', ')}`;
  return new Error(`${what}: ${messageOf(cause)}${hint}`, { cause });
}
