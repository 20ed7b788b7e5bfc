import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { LambdaError } from '../lambda/lambda-error.ts';

/**
 * Domains without public name servers (RFC 6761, RFC 6762, RFC 8375, and ICANN's `internal`); `svc` is Kubernetes' own.
 */
const PRIVATE_DOMAIN = /\.(?:localhost|local|internal|test|example|invalid|home\.arpa|svc)\.?$/i;

/**
 * Refuses requests that a web page of another origin makes a browser send. Such a page has no proof of its own: it uses
 * the browser's client certificate, or the browser's place in a network without authentication.
 *
 * @param onLoopback whether the gateway listens on the loopback alone. A public name that leads there is refused then:
 *   a page of that name would count as the gateway's own, and read its answers (DNS rebinding)
 * @throws {LambdaError} AccessDeniedException
 */
export function refuseForeignPage(
  { headers }: { readonly headers: IncomingHttpHeaders },
  onLoopback: boolean,
): void {
  const { host = '', origin } = headers;
  const site = headers['sec-fetch-site'];
  const isOwnSite = site === undefined || site === 'same-origin' || site === 'none';
  if (!isOwnSite || (origin !== undefined && !isOriginOf(origin, host))) {
    throw new LambdaError(
      'AccessDeniedException',
      'Web pages of other origins may not call without a signature or a token.',
    );
  }
  if (onLoopback && !isPrivateHost(host)) {
    throw new LambdaError(
      'AccessDeniedException',
      `The gateway is not known as ${host.slice(0, 256)}: call it by its address or as localhost.`,
    );
  }
}

function isOriginOf(origin: string, host: string): boolean {
  return URL.canParse(origin) && new URL(origin).host.toLowerCase() === host.toLowerCase();
}

/** Whether a host is an address, or a name that no public name server can answer for. */
function isPrivateHost(host: string): boolean {
  const name = host.replace(/:\d*$/, '');
  const isAddress = isIP(name) !== 0 || (name.startsWith('[') && name.endsWith(']'));
  return isAddress || !name.includes('.') || PRIVATE_DOMAIN.test(name);
}
