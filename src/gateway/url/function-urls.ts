import { functionOfHost, isPublicUrl } from '../../api/function-url.ts';
import { calledNameOf, type LambdaFunction, type LambdaFunctionSpecUrl } from '../../api/lambda-function.ts';
import { EsbError } from '../../common/errors.ts';
import { type IpRange, parseIpRange, singleAddress } from '../../common/net/ip-range.ts';
import type { Informer } from '../../kube/api/types.ts';
import type { GatewayConfig } from '../../options/gateway.ts';
import { nameOfHost } from '../access/access.ts';
import type { RateLimit } from '../lambda/caller-rate.ts';
import { PublicNamespace, type PublicNamespaceOptions } from './public-namespace.ts';

/** A name of the domain name system, in small letters and without a dot at its end. */
const DOMAIN = /^(?!.{190})[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$/;

/** The URLs that the operator wants served. */
export interface FunctionUrls {
  /** Domain of all of them. */
  readonly domain: string;
  /**
   * Whether the operator lets functions of the namespace have URLs that everybody may call; undefined until that is
   * known.
   */
  readonly isPublic: () => boolean | undefined;
  /** Looks again whether it does, where that was not done a moment ago and a request would be refused. Never rejects. */
  readonly look: () => Promise<void>;
  /** Of each address. */
  readonly rate: RateLimit;
  /** Addresses of proxies in front. */
  readonly proxies: readonly IpRange[];
}

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

/**
 * The names that `--host` gives, for which requests of the Lambda API may be signed.
 *
 * @throws {EsbError} `InvalidArgument` for a text that is no name, or one of function URLs
 */
export function hostsOf({ callers, urls }: Pick<GatewayConfig, 'callers' | 'urls'>): readonly string[] {
  return callers.hosts.map((host) => {
    const name = nameOfHost(host);
    if (!DOMAIN.test(name)) {
      throw new EsbError(`--host: '${host}' is not a name such as gateway.example.com`, { code: 'InvalidArgument' });
    }
    if (urls.domain !== undefined && name.endsWith(`.${urls.domain}`)) {
      throw new EsbError(`--host: ${name} is a host of function URLs, by --function-url-domain ${urls.domain}`, {
        code: 'InvalidArgument',
      });
    }
    return name;
  });
}

/** The function behind a URL. */
export interface UrlRoute {
  readonly functionName: string;
  readonly url: LambdaFunctionSpecUrl;
  /** Whether everybody may call it by the label of the namespace, which has not been read yet. */
  readonly isUndecided: boolean;
}

export interface UrlRoutesOptions extends Pick<FunctionUrls, 'domain' | 'isPublic'> {
  readonly functions: Pick<Informer<LambdaFunction>, 'cache'>;
  /** The LambdaFunction that has a name for callers. */
  readonly holderOf: (functionName: string) => LambdaFunction | undefined;
  readonly namespace: string;
}

/** The functions of a namespace by the hosts of their URLs. */
export class UrlRoutes {
  readonly #options: UrlRoutesOptions;

  constructor(options: UrlRoutesOptions) {
    this.#options = options;
  }

  /** The function that a host means; undefined where there is none that may be called by URL. */
  find(host: string): UrlRoute | undefined {
    const { domain, functions, holderOf, isPublic, namespace } = this.#options;
    const name = functionOfHost(host, namespace, domain);
    const found = name === undefined ? undefined : functions.cache.get({ namespace, name });
    const url = found?.spec.url;
    if (found === undefined || url === undefined) {
      return undefined;
    }
    const functionName = calledNameOf(found);
    // Another resource of its name opens no function whose author has not asked for that.
    if (holderOf(functionName)?.metadata.uid !== found.metadata.uid) {
      return undefined;
    }
    const isLet = isPublicUrl(found) ? isPublic() : true;
    return isLet === false ? undefined : { functionName, url, isUndecided: isLet === undefined };
  }
}
