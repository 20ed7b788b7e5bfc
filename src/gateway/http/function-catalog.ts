import { speakerOf } from '../../api/function-settings.ts';
import { type KeptProperties, keptPropertiesOf } from '../../api/kept-properties.ts';
import {
  calledNameOf,
  functionOwnerOf,
  type LambdaFunction,
  presentTemplateOf,
  TEMPLATE_ANNOTATION,
  templateHashOf,
  type WorkerTemplate,
  withSettings,
} from '../../api/lambda-function.ts';
import type { LambdaVersion } from '../../api/lambda-version.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { LATEST, versionText } from '../../common/function-arn.ts';
import type { FleetView, FunctionEntry } from '../agents/fleet-view.ts';
import { NO_DRAW, type VersionBook } from '../agents/version-book.ts';
import type { Invoker } from '../dispatch/invoker.ts';
import { type FunctionReference, functionArn } from '../lambda/function-name.ts';
import { LambdaError } from '../lambda/lambda-error.ts';

/** A resource beside the processor of its node, as the node names it (`amd64`), where that is known. */
export interface DescribedWorker {
  readonly resource: LambdaWorker;
  readonly architecture?: string | undefined;
}

export interface FunctionCatalogOptions {
  readonly invoker: Pick<Invoker, 'find'>;
  readonly view: Pick<FleetView, 'function' | 'functionNames'>;
  readonly book: VersionBook;
  /** The processor of a node, such as `amd64`, where it is known. */
  readonly architectureOf: (nodeName: string) => string | undefined;
  /** The URL of a function that has one; undefined where it is not served. */
  readonly urlOf?: (owner: LambdaFunction) => string | undefined;
}

export interface CatalogFunction {
  /** The worker that speaks for it. */
  readonly speaker: DescribedWorker;
  /** Workers of the version that is named. */
  readonly workers: readonly DescribedWorker[];
  /** Calls that the workers of all versions take at once. */
  readonly places: number;
  /** Purpose of the function, or of the version that is named. */
  readonly description: string;
  /** The version that is named, as it was published; undefined for $LATEST. */
  readonly published: LambdaVersion | undefined;
  /** The LambdaFunction where $LATEST of it is meant. */
  readonly owner?: LambdaFunction | undefined;
  /** Of the owner's template, in place of one that is made for each description. */
  readonly templateHash?: string | undefined;
  /** Properties of the LambdaFunction that have no meaning here. */
  readonly kept?: KeptProperties;
}

/** The functions of a gateway, for the operations that read. */
export class FunctionCatalog {
  readonly #options: FunctionCatalogOptions;
  /** Informers replace objects that change. */
  readonly #hashes = new WeakMap<WorkerTemplate, string>();

  constructor(options: FunctionCatalogOptions) {
    this.#options = options;
  }

  /** Names of all functions, sorted by their characters. */
  names(): readonly string[] {
    const { book, view } = this.#options;
    // Workers of a version alone, whose LambdaFunction is gone, are no function.
    const isServed = (name: string): boolean => (view.function(name)?.byVersion.get(undefined) ?? []).length > 0;
    const served = [...view.functionNames()].filter((name) => isServed(name) && !this.#isLeftOver(name));
    return [...new Set([...served, ...book.names()])].toSorted((one, other) => (one < other ? -1 : 1));
  }

  /** Qualifiers of the versions of a function, $LATEST first. */
  versions(name: string): readonly string[] {
    return [LATEST, ...this.#options.book.versions(name).map(({ spec }) => versionText(spec.version))];
  }

  hasVersion(name: string, version: number): boolean {
    return this.#options.book.version(name, version) !== undefined;
  }

  /** Tells apart templates whose workers would differ; made once of each object. */
  hashOf(template: WorkerTemplate): string {
    const hash = this.#hashes.get(template) ?? templateHashOf(template);
    this.#hashes.set(template, hash);
    return hash;
  }

  /** Calls that the workers of a function take at once, and how many of these are reserved for it. */
  capacityOf(name: string): { readonly places: number; readonly reserved: number } {
    const { book, view } = this.#options;
    const entry = view.function(name);
    const owner = book.function(name);
    const spec = owner === undefined ? entry?.speaker.resource.spec : withSettings(owner, owner.spec.template.spec);
    const places = entry?.places ?? 0;
    return { places, reserved: Math.min(places, spec?.concurrency?.reserved ?? 0) };
  }

  /** The LambdaFunction of a name; undefined where its workers are made by hand. */
  owner(name: string): LambdaFunction | undefined {
    return this.#options.book.function(name);
  }

  /** The URL of a function that has one; undefined where it is not served. */
  urlOf(owner: LambdaFunction): string | undefined {
    return this.#options.urlOf?.(owner);
  }

  /** The workers of a version. */
  workersOf(name: string, version: number): readonly LambdaWorker[] {
    const workers = this.#options.view.function(name)?.byVersion.get(version) ?? [];
    return workers.map(({ resource }) => resource);
  }

  /** Whether workers serve the function that no LambdaFunction owns. */
  isHandMade(name: string): boolean {
    return ownersOf(this.#options.view.function(name)).some((owner) => owner === undefined);
  }

  /**
   * The function of a reference.
   *
   * @param written the LambdaFunction as it was just written, where the caches of the gateway may be older
   * @throws {LambdaError} ResourceNotFoundException, or ServiceException (503) where the function may exist
   */
  find(reference: FunctionReference, written?: LambdaFunction): CatalogFunction {
    const { architectureOf, book, invoker, view } = this.#options;
    const { name, qualifier } = reference;
    if (written === undefined && this.#isLeftOver(name)) {
      throw new LambdaError('ResourceNotFoundException', `Function not found: ${functionArn(reference)}`);
    }
    const found = book.resolve(name, qualifier, () => NO_DRAW);
    const version = found.kind === 'Version' ? found.version : undefined;
    const published = version === undefined ? undefined : book.version(name, version);
    const known = written ?? book.function(name);
    const owner = found.kind === 'Latest' ? known : undefined;
    // A version that was published, and a template, are there without workers too.
    const isWritten = published !== undefined || owner !== undefined;
    const entry = isWritten ? view.function(name) : invoker.find(reference).entry;
    const workers = entry?.byVersion.get(version) ?? [];
    const speaker = speakerOf(workers) ?? entry?.speaker;
    const templateHash = owner === undefined ? undefined : this.hashOf(owner.spec.template);
    const resource = resourceOf(workers, published, owner, known, templateHash) ?? speaker?.resource;
    if (resource === undefined) {
      throw new LambdaError('ResourceNotFoundException', `Function not found: ${functionArn(reference)}`);
    }
    const nodeName = speaker?.resource.status?.assignment?.nodeName;
    return {
      speaker: { resource, architecture: nodeName && architectureOf(nodeName) },
      workers,
      places: entry?.places ?? 0,
      description: (published ?? known)?.spec.description ?? '',
      published,
      owner,
      templateHash,
      kept: known === undefined ? {} : keptPropertiesOf(known.metadata),
    };
  }

  /** Whether the workers of a name are those of a LambdaFunction that is gone: the controller deletes them. */
  #isLeftOver(name: string): boolean {
    const { book, view } = this.#options;
    const owners = ownersOf(view.function(name));
    return book.isCurrent && book.function(name) === undefined && owners.length > 0 && !owners.includes(undefined);
  }
}

/** Uids of the LambdaFunctions that own the workers of a name; undefined for those made by hand. */
function ownersOf(entry: FunctionEntry | undefined): readonly (string | undefined)[] {
  const workers = [...(entry?.byVersion.values() ?? [])].flat();
  return workers.map(({ resource }) => functionOwnerOf(resource.metadata)?.uid);
}

/**
 * The worker by which a function or a version is described: one as it would be made, where its author is known.
 *
 * @param owner where $LATEST of it is meant
 * @param known the LambdaFunction in any case
 * @param templateHash of the owner's template
 */
function resourceOf(
  workers: readonly DescribedWorker[],
  published: LambdaVersion | undefined,
  owner: LambdaFunction | undefined,
  known: LambdaFunction | undefined,
  templateHash: string | undefined,
): LambdaWorker | undefined {
  if (published !== undefined) {
    const { metadata, spec } = published;
    const { functionName, template, version } = spec;
    const settled = known === undefined ? template.spec : withSettings(known, template.spec);
    return { metadata, spec: { ...settled, functionName, version } } as LambdaWorker;
  }
  if (owner !== undefined) {
    const { metadata, spec } = owner;
    const hash = presentTemplateOf(owner, templateHash);
    const updated = workers.find(({ resource }) => resource.metadata.annotations?.[TEMPLATE_ANNOTATION] === hash);
    const image = updated?.resource.status?.image;
    return {
      metadata,
      spec: { ...withSettings(owner, spec.template.spec), functionName: calledNameOf(owner) },
      status: image === undefined ? {} : { image },
    } as LambdaWorker;
  }
  return speakerOf(workers)?.resource;
}
