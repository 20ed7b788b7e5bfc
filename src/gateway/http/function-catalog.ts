import type { FunctionEntry } from '../agents/fleet-view.ts';
import type { Invoker } from '../invoker.ts';
import type { FunctionReference } from '../lambda/function-name.ts';
import type { DescribedWorker } from './function-description.ts';

export interface FunctionCatalogOptions {
  readonly invoker: Pick<Invoker, 'find'>;
  readonly functionNames: () => Iterable<string>;
  /** The processor of a node, such as `amd64`, where it is known. */
  readonly architectureOf: (nodeName: string) => string | undefined;
}

export interface CatalogFunction {
  /** The worker that speaks for it. */
  readonly speaker: DescribedWorker;
  readonly workers: FunctionEntry['workers'];
}

/** The functions of a gateway, for the operations that read. */
export class FunctionCatalog {
  readonly #options: FunctionCatalogOptions;

  constructor(options: FunctionCatalogOptions) {
    this.#options = options;
  }

  /** Names of all functions, sorted by their characters. */
  names(): readonly string[] {
    return [...this.#options.functionNames()].toSorted((one, other) => (one < other ? -1 : 1));
  }

  /**
   * The function of a reference.
   *
   * @throws {LambdaError} ResourceNotFoundException, or ServiceException (503) where the function may exist
   */
  find(reference: FunctionReference): CatalogFunction {
    const { invoker, architectureOf } = this.#options;
    const { speaker, workers } = invoker.find(reference);
    const { resource } = speaker;
    const nodeName = resource.status?.assignment?.nodeName;
    return { speaker: { resource, architecture: nodeName && architectureOf(nodeName) }, workers };
  }
}
