import { AbortedError, DeadlineError } from '../../common/deadline.ts';
import { EsbError, errnoOf, messageOf } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';

/** Codes that are passed on as they are. */
const KNOWN: readonly string[] = ['AddressesExhausted', 'DiskFull', 'NetworkFailed'];

/** Converts any error into one of those that a node's network promises. */
export function networkFailure(what: string, error: unknown): EsbError {
  if (error instanceof AbortedError || error instanceof DeadlineError) {
    return error;
  }
  if (error instanceof EsbError && KNOWN.includes(error.code)) {
    return error;
  }
  const full = errnoOf(error) === 'ENOSPC' || errnoOf(error) === 'EDQUOT';
  return new EsbError(`${what}: ${messageOf(error)}`, {
    code: full ? 'DiskFull' : 'NetworkFailed',
    retryable: true,
    cause: error,
  });
}

/** The health of a network with an error. */
export function unhealthy(error: EsbError): Health {
  const cause = error.code === 'NetworkFailed' ? error.cause : undefined;
  const reason = cause instanceof EsbError && cause.code === 'PluginMissing' ? cause.code : error.code;
  return { ok: false, reason: reason === 'NetworkFailed' ? 'AttachFailed' : reason, message: error.message };
}
