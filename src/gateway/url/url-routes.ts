import { functionOfHost, isPublicUrl } from '../../api/function-url.ts';
import { calledNameOf, type LambdaFunction, type LambdaFunctionSpecUrl } from '../../api/lambda-function.ts';
import type { Informer } from '../../kube/api/types.ts';
import type { FunctionUrls } from './function-urls.ts';

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
