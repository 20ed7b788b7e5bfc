import type { ErrorCode } from '../../common/error-codes.ts';
import { EsbError, hasCode } from '../../common/errors.ts';

/**
 * containerd's words for an unreachable registry. There is no code for that, so the text decides, and only about the
 * name of a reason.
 */
const UNREACHABLE =
  /dial tcp|connection refused|connection reset|no such host|i\/o timeout|network is unreachable|no route to host|TLS handshake|x509:|unexpected EOF|: EOF$|Client\.Timeout/;
/** Codes of errors that are not containerd's words about a pull. */
const OWN: ReadonlySet<string> = new Set<ErrorCode>([
  'Aborted',
  'DeadlineExceeded',
  'ImageInvalid',
  'ImageWrongPlatform',
  'RegistryUnreachable',
  'RuntimeUnavailable',
]);
const PLAIN_HTTP = /HTTP response to HTTPS client/;
const NOT_FOUND = /: not found$|manifest unknown|name unknown/;
const DENIED =
  /insufficient_scope|authorization failed|unauthorized|access denied|403 Forbidden|401 Unauthorized|no basic auth credentials/i;
const WRONG_PLATFORM = /no match for platform|no matching manifest for|does not match the specified platform/;

/** The error for a condition, from the failure of a pull. */
export function pullError(reference: string, error: unknown): EsbError {
  const failure = EsbError.from(error);
  const text = failure.message;
  const as = (code: ErrorCode, message: string): EsbError =>
    new EsbError(`pulling ${reference}: ${message}`, { code, cause: error });
  if (OWN.has(failure.code)) {
    return failure;
  }
  if (failure.code === 'DiskFull') {
    return as('DiskFull', 'the disk of the node is full');
  }
  if (DENIED.test(text)) {
    return as('ImagePullFailed', 'the registry refuses the credentials, or wants some: see spec.imagePullSecrets');
  }
  if (PLAIN_HTTP.test(text)) {
    return as(
      'RegistryUnreachable',
      'the registry speaks plain HTTP, which is not used unless a hosts.toml for it in certs.d says so (with Docker: insecure-registries of the engine)',
    );
  }
  if (UNREACHABLE.test(text)) {
    return as('RegistryUnreachable', `the registry does not answer: ${withoutPrefix(text)}`);
  }
  if (WRONG_PLATFORM.test(text)) {
    return as('ImageWrongPlatform', `the image is not made for this node: ${withoutPrefix(text)}`);
  }
  if (hasCode(failure, 'NotFound') || NOT_FOUND.test(text)) {
    return as('ImageNotFound', 'the registry has no such image');
  }
  return as('ImagePullFailed', withoutPrefix(text));
}

function withoutPrefix(text: string): string {
  return text.replace(/^(?:containerd Transfer\.Transfer|docker pull \S+): /, '');
}

/** Adds what may have been the cause to the error of a refused pull. */
export function withHints(error: unknown, hints: readonly string[]): unknown {
  return hasCode(error, 'ImagePullFailed') && hints.length > 0
    ? new EsbError(`${error.message}; ${hints.join('; ')}`, { code: error.code, retryable: true, cause: error })
    : error;
}
