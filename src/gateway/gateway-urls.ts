import { EsbError } from '../common/errors.ts';
import { parseIpRange, singleAddress } from '../common/net/ip-range.ts';
import type { GatewayConfig } from '../options/gateway.ts';
import { PublicNamespace, type PublicNamespaceOptions } from './url/public-namespace.ts';
import type { FunctionUrls } from './url/url-routes.ts';

/** A name of the domain name system, in small letters and without a dot at its end. */
const DOMAIN = /^(?!.{190})[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$/;

/**
 * The function URLs that the flags ask for; undefined for none.
 *
 * @throws {EsbError} `InvalidArgument`
 */
export function createFunctionUrls(
  { burst, domain, proxies, rate }: GatewayConfig['urls'],
  options: PublicNamespaceOptions,
): { readonly settings: FunctionUrls; readonly namespace: PublicNamespace } | undefined {
  if (domain === undefined) {
    return undefined;
  }
  if (!DOMAIN.test(domain)) {
    throw new EsbError(`--function-url-domain: '${domain}' is not a domain such as fn.example.com`, {
      code: 'InvalidArgument',
    });
  }
  const namespace = new PublicNamespace(options);
  return {
    namespace,
    settings: {
      domain,
      isPublic: () => namespace.isPublic,
      look: () => namespace.look(),
      rate: { perSecond: rate, burst: burst ?? Math.max(1, rate) },
      proxies: proxies.map((range) => parseIpRange(range.includes('/') ? range : singleAddress(range))),
    },
  };
}
