import type { LambdaWorker } from '../../api/lambda-worker.ts';
import type { Invoker } from '../invoker.ts';
import { type FunctionReference, functionArn } from '../lambda/function-name.ts';
import { LambdaError } from '../lambda/lambda-error.ts';
import { type DescribedWorker, speakerOf } from './function-description.ts';

export interface FunctionCatalogOptions {
  readonly invoker: Pick<Invoker, 'find'>;
  /** Names of all functions, in any order. */
  readonly functionNames: () => Iterable<string>;
  /** The resource of a worker as last watched. */
  readonly resourceOf: (workerName: string) => LambdaWorker | undefined;
  /** The processor of a node, such as `amd64`, where it is known. */
  readonly architectureOf: (nodeName: string) => string | undefined;
}

/** A function as its resources have it. */
export interface CatalogFunction {
  /** The worker that speaks for it. */
  readonly speaker: DescribedWorker;
  readonly workers: readonly DescribedWorker[];
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
    const found = this.#describe(this.#options.invoker.find(reference).workers);
    if (found === undefined) {
      throw new LambdaError('ResourceNotFoundException', `Function not found: ${functionArn(reference)}`);
    }
    return found;
  }

  #describe(entries: readonly { readonly name: string }[]): CatalogFunction | undefined {
    const { resourceOf, architectureOf } = this.#options;
    const workers = entries.flatMap(({ name }): DescribedWorker[] => {
      const resource = resourceOf(name);
      const nodeName = resource?.status?.assignment?.nodeName;
      return resource === undefined
        ? []
        : [{ resource, architecture: nodeName === undefined ? undefined : architectureOf(nodeName) }];
    });
    const speaker = speakerOf(workers);
    return speaker === undefined ? undefined : { speaker, workers };
  }
}
