import { functionUrlHost } from '../api/function-url.ts';
import type { LambdaNode } from '../api/lambda-node.ts';
import type { Informer } from '../kube/api/types.ts';
import { type ControlClient, FunctionWriter, type FunctionWriterOptions } from './control/function-writer.ts';
import { FunctionCatalog, type FunctionCatalogOptions } from './http/function-catalog.ts';
import type { FunctionUrls } from './url/function-urls.ts';

export interface GatewayFunctionsOptions
  extends Pick<FunctionCatalogOptions, 'invoker' | 'view' | 'book'>,
    Omit<FunctionWriterOptions, 'client' | 'isHandMade' | 'book'> {
  readonly nodes: Pick<Informer<LambdaNode>, 'cache'>;
  /** Domain of function URLs; absent where none are served. */
  readonly urls?: Pick<FunctionUrls, 'domain'>;
  /** The account that writes; absent where callers may not. */
  readonly control?: ControlClient;
}

/** The functions of a gateway as callers read them, and as they write them where that is let. */
export function createGatewayFunctions(options: GatewayFunctionsOptions): {
  readonly catalog: FunctionCatalog;
  readonly writer?: FunctionWriter;
} {
  const { book, control, invoker, namespace, nodes, urls, view } = options;
  const catalog = new FunctionCatalog({
    invoker,
    view,
    book,
    architectureOf: (name) => nodes.cache.get({ name })?.status?.versions?.architecture,
    urlOf: ({ metadata, status }) =>
      urls === undefined ? status?.url : `https://${functionUrlHost(metadata.name, namespace, urls.domain)}/`,
  });
  if (control === undefined) {
    return { catalog };
  }
  const isHandMade = (name: string): boolean => catalog.isHandMade(name);
  return { catalog, writer: new FunctionWriter({ ...options, client: control, isHandMade }) };
}
