import { EsbError, hasCode } from '../common/errors.ts';

/**
 * What containerd says of a registry that it could not talk to. It gives no code for it, so the text has to decide; it
 * decides about a reason's name only.
 */
const UNREACHABLE =
  /dial tcp|connection refused|connection reset|no such host|i\/o timeout|network is unreachable|no route to host|TLS handshake|x509:|HTTP response to HTTPS client|unexpected EOF|Client\.Timeout/;
const NOT_FOUND = /: not found$|manifest unknown|name unknown/;
const DENIED =
  /insufficient_scope|authorization failed|unauthorized|access denied|403 Forbidden|401 Unauthorized/i;
const WRONG_PLATFORM = /no match for platform/;

/** Turns the failure of a pull into the error that a condition shows. */
export function pullError(reference: string, error: unknown): EsbError {
  const failure = EsbError.from(error);
  const text = failure.message;
  const as = (code: string, message: string, retryable: boolean): EsbError =>
    new EsbError(`pulling ${reference}: ${message}`, { code, retryable, cause: error });
  if (['Aborted', 'DeadlineExceeded', 'RuntimeUnavailable'].includes(failure.code)) {
    return failure;
  }
  if (failure.code === 'DiskFull') {
    return as('DiskFull', 'the disk of the node is full', true);
  }
  if (DENIED.test(text)) {
    return as(
      'ImagePullFailed',
      'the registry refuses the credentials, or wants some: see spec.imagePullSecrets',
      true,
    );
  }
  if (UNREACHABLE.test(text)) {
    return as('RegistryUnreachable', `the registry does not answer: ${withoutPrefix(text)}`, true);
  }
  if (WRONG_PLATFORM.test(text)) {
    return as('ImageInvalid', `the image is not made for this node: ${withoutPrefix(text)}`, false);
  }
  if (hasCode(failure, 'NotFound') || NOT_FOUND.test(text)) {
    return as('ImageNotFound', 'the registry has no such image', true);
  }
  return as('ImagePullFailed', withoutPrefix(text), true);
}

function withoutPrefix(text: string): string {
  return text.replace(/^containerd Transfer\.Transfer: /, '');
}
