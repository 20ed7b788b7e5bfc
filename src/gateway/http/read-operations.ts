import type { LambdaFunction } from '../../api/lambda-function.ts';
import { LATEST } from '../../common/function-arn.ts';
import { tagsOf } from '../control/tags.ts';
import { type FunctionReference, functionArn } from '../lambda/function-name.ts';
import { lambdaShapes, type OperationName } from '../lambda/generated/operations.ts';
import { boundsError, choiceError, LambdaError, shown } from '../lambda/lambda-error.ts';
import { aliasOf, eventConfigOf, provisionedConfigOf, urlConfigOf } from './config-description.ts';
import type { FunctionCatalog } from './function-catalog.ts';
import { describeFunction } from './function-description.ts';
import { unsupported } from './unsupported-operations.ts';

/** Most functions on a page, even if more are asked for; as in Lambda. */
const MAX_PAGE = 50;
/** Bytes of JSON after which a page ends, even if more functions are asked for. A page has one function at least. */
const PAGE_BYTES = 2 ** 20;
/** Digits of the highest number of a version. */
const VERSION_DIGITS = 10;

export interface ReadInput {
  /** The function of the path. Empty for operations whose path names none. */
  readonly reference: FunctionReference;
  /** The other name in the path: an alias, a mapping. Empty for none. */
  readonly item: string;
  readonly query: Readonly<Record<string, string | undefined>>;
}

export interface ReadOperation {
  readonly name: OperationName;
  /** The right that its caller needs. */
  readonly action: 'get' | 'list';
  /** The answer: an object of the service model, in which JSON leaves out what is undefined. */
  answer(catalog: FunctionCatalog, input: ReadInput): object;
}

const get = (name: OperationName, answer: ReadOperation['answer']): ReadOperation => {
  return { name, action: 'get', answer };
};

const list = (name: OperationName, answer: ReadOperation['answer']): ReadOperation => {
  return { name, action: 'list', answer };
};

/**
 * Every operation that reads and has an answer. For features that ESB does not have, the answer is Lambda's for none.
 */
export const readOperations: readonly ReadOperation[] = [
  get('GetFunction', (catalog, { reference }) => {
    const found = catalog.find(reference);
    const { speaker } = found;
    const { spec, status } = speaker.resource;
    const tags = tagsOf(speaker.resource.metadata);
    const reserved = spec.concurrency?.reserved;
    return {
      Configuration: describeFunction(found, reference),
      Code: { RepositoryType: 'ECR', ImageUri: spec.image, ResolvedImageUri: status?.image ?? spec.image },
      Tags: Object.keys(tags).length === 0 ? undefined : tags,
      Concurrency: reserved === undefined ? undefined : { ReservedConcurrentExecutions: reserved },
    };
  }),
  get('GetFunctionConfiguration', (catalog, { reference }) => {
    return describeFunction(catalog.find(reference), reference);
  }),
  list('ListFunctions', (catalog, { query }) => {
    const version = query.FunctionVersion;
    if (version !== undefined && version !== '' && version !== 'ALL') {
      throw choiceError('functionVersion', version, lambdaShapes.FunctionVersion.enum);
    }
    const all = catalog
      .names()
      .flatMap((name) => (version === 'ALL' ? catalog.versions(name).map((each) => pageKey(name, each)) : [name]));
    const { items, nextMarker } = pageOfFunctions(catalog, all, query, (key) =>
      version === 'ALL' ? referenceOf(key) : { name: key },
    );
    return { Functions: items, NextMarker: nextMarker };
  }),
  get('ListVersionsByFunction', (catalog, { reference, query }) => {
    const { name } = reference;
    catalog.find(reference);
    const keys = catalog.versions(name).map((version) => pageKey(name, version));
    const { items, nextMarker } = pageOfFunctions(catalog, keys, query, referenceOf);
    return { Versions: items, NextMarker: nextMarker };
  }),
  get('ListAliases', (catalog, { reference, query }) => {
    catalog.find(reference);
    const version = query.FunctionVersion ?? '';
    const aliases = aliasesOf(catalog, reference.name).filter(
      (alias) => version === '' || String(alias.version) === version,
    );
    const page = pageOf(
      aliases.map((alias) => alias.name),
      query.Marker,
      query.MaxItems,
    );
    return {
      Aliases: aliases
        .filter((alias) => page.names.includes(alias.name))
        .map((alias) => aliasOf(catalog.owner(reference.name), alias, reference.name)),
      NextMarker: page.nextMarker,
    };
  }),
  get('GetAlias', (catalog, { reference, item }) => {
    const alias = aliasesOf(catalog, reference.name).find(({ name }) => name === item);
    if (alias === undefined) {
      throw notFound(`Cannot find alias arn: ${functionArn({ name: reference.name, qualifier: shown(item) })}`);
    }
    return aliasOf(catalog.owner(reference.name), alias, reference.name);
  }),
  get('GetPolicy', nothingOfFunction),
  get('ListTags', (catalog, { reference }) => ({
    Tags: tagsOf(catalog.find(reference).speaker.resource.metadata),
  })),
  get('GetFunctionConcurrency', (catalog, { reference }) => {
    const { concurrency } = catalog.find(reference).speaker.resource.spec;
    return { ReservedConcurrentExecutions: concurrency?.reserved };
  }),
  get('GetProvisionedConcurrencyConfig', (catalog, { reference, query }) => {
    const { name, qualifier } = reference;
    catalog.find({ name });
    const owner = catalog.owner(name);
    const aliases = aliasesOf(catalog, name).filter(({ provisionedWorkers }) => provisionedWorkers !== undefined);
    if (query.List === 'ALL') {
      const page = pageOf(
        aliases.map((alias) => alias.name),
        query.Marker,
        query.MaxItems,
      );
      const listed = owner === undefined ? [] : aliases.filter((alias) => page.names.includes(alias.name));
      return {
        ProvisionedConcurrencyConfigs: listed.map((alias) =>
          provisionedConfigOf(catalog, owner as LambdaFunction, alias),
        ),
        NextMarker: page.nextMarker,
      };
    }
    const alias = aliases.find((each) => each.name === qualifier);
    if (owner === undefined || alias === undefined) {
      throw new LambdaError(
        'ProvisionedConcurrencyConfigNotFoundException',
        'No Provisioned Concurrency Config found for this function',
      );
    }
    return { ...provisionedConfigOf(catalog, owner, alias), FunctionArn: undefined };
  }),
  get('GetFunctionEventInvokeConfig', (catalog, { reference }) => {
    const config = eventConfigOf(catalog.find(reference).speaker.resource, reference);
    if (config === undefined) {
      const arn = functionArn({ qualifier: '$LATEST', ...reference });
      throw notFound(`The function ${arn} doesn't have an EventInvokeConfig`);
    }
    return config;
  }),
  get('ListFunctionEventInvokeConfigs', (catalog, { reference }) => {
    const config = eventConfigOf(catalog.find(reference).speaker.resource, reference);
    return { FunctionEventInvokeConfigs: config === undefined ? [] : [config] };
  }),
  get('GetFunctionUrlConfig', (catalog, { reference }) => {
    const config = urlConfigOf(catalog, reference);
    if (config === undefined) {
      throw notFound('The resource you requested does not exist.');
    }
    return config;
  }),
  get('ListFunctionUrlConfigs', (catalog, { reference }) => {
    const config = urlConfigOf(catalog, reference);
    return { FunctionUrlConfigs: config === undefined ? [] : [config] };
  }),
  get('GetFunctionRecursionConfig', (catalog, { reference }) => {
    catalog.find(reference);
    // ESB does not detect functions that call each other in a circle.
    return { RecursiveLoop: 'Allow' };
  }),
  list('GetAccountSettings', accountSettings),
  list('ListEventSourceMappings', () => ({ EventSourceMappings: [] })),
  list('GetEventSourceMapping', () => {
    throw notFound('The resource you requested does not exist.');
  }),
  list('ListLayers', (_catalog, { query }) => {
    // GetLayerVersionByArn has the same path, and says by this that it is meant.
    if (query.find === 'LayerVersion') {
      throw unsupported('GetLayerVersionByArn');
    }
    return { Layers: [] };
  }),
  list('ListCodeSigningConfigs', () => ({ CodeSigningConfigs: [] })),
];

/** Calls at once are as many as all workers take, of which some functions may have reserved theirs. */
function accountSettings(catalog: FunctionCatalog): object {
  const names = catalog.names();
  let all = 0;
  let reservedInAll = 0;
  for (const name of names) {
    const { places, reserved } = catalog.capacityOf(name);
    all += places;
    reservedInAll += reserved;
  }
  return {
    // Code has no limits here; these are Lambda's, since some clients need the members.
    AccountLimit: {
      TotalCodeSize: 80_530_636_800,
      CodeSizeUnzipped: 262_144_000,
      CodeSizeZipped: 52_428_800,
      ConcurrentExecutions: all,
      UnreservedConcurrentExecutions: all - reservedInAll,
    },
    AccountUsage: { TotalCodeSize: 0, FunctionCount: names.length },
  };
}

/** Aliases as their function has them written, by their names: a gateway routes by them once they are in effect. */
function aliasesOf(catalog: FunctionCatalog, name: string) {
  const aliases = catalog.owner(name)?.spec.aliases ?? [];
  return aliases.toSorted((one, other) => (one.name < other.name ? -1 : 1));
}

/**
 * A version on a page: as text in the order of the functions, and of the versions of each with $LATEST first. The sign
 * between them comes before all that a name consists of.
 */
function pageKey(name: string, version: string): string {
  return `${name}+${(version === LATEST ? '' : version).padStart(VERSION_DIGITS, '0')}`;
}

/** The version of a {@link pageKey}. */
function referenceOf(key: string): FunctionReference {
  const version = Number(key.slice(-VERSION_DIGITS));
  return { name: key.slice(0, -VERSION_DIGITS - 1), qualifier: version === 0 ? LATEST : String(version) };
}

/** The answer about a feature that no function has. */
function nothingOfFunction(catalog: FunctionCatalog, { reference }: ReadInput): never {
  catalog.find(reference);
  throw notFound('The resource you requested does not exist.');
}

function notFound(message: string): LambdaError {
  return new LambdaError('ResourceNotFoundException', message);
}

interface Page {
  readonly names: readonly string[];
  /** Where the next page begins; undefined on the last one. */
  readonly nextMarker: string | undefined;
}

/**
 * Cuts a page out of a sorted list of names. The marker is the last name of the page before: functions that appear or
 * go between two pages neither repeat nor hide others.
 *
 * @param marker from the page before; undefined for the first one
 * @param maxItems as in the query
 * @throws {LambdaError} InvalidParameterValueException for an invalid marker or number
 */
export function pageOf(names: readonly string[], marker: string | undefined, maxItems: string | undefined): Page {
  const size = Math.min(MAX_PAGE, itemsOf(maxItems));
  const after = marker === undefined || marker === '' ? '' : nameOf(marker);
  const begin = names.findIndex((name) => name > after);
  const rest = begin < 0 ? [] : names.slice(begin);
  const page = rest.slice(0, size);
  const last = page.at(-1);
  return {
    names: page,
    nextMarker: last !== undefined && rest.length > size ? markerOf(last) : undefined,
  };
}

/** A page of descriptions, which ends by {@link PAGE_BYTES} as well: a function has up to a mebibyte of variables. */
function pageOfFunctions(
  catalog: FunctionCatalog,
  keys: readonly string[],
  query: ReadInput['query'],
  referenceOfKey: (key: string) => FunctionReference,
): { readonly items: readonly object[]; readonly nextMarker: string | undefined } {
  const page = pageOf(keys, query.Marker, query.MaxItems);
  const items: object[] = [];
  let bytes = 0;
  for (const key of page.names) {
    const reference = referenceOfKey(key);
    const item = describeFunction(catalog.find(reference), reference);
    items.push(item);
    bytes += Buffer.byteLength(JSON.stringify(item));
    if (bytes > PAGE_BYTES && items.length < page.names.length) {
      return { items, nextMarker: markerOf(key) };
    }
  }
  return { items, nextMarker: page.nextMarker };
}

function markerOf(name: string): string {
  return Buffer.from(name).toString('base64url');
}

function itemsOf(maxItems: string | undefined): number {
  if (maxItems === undefined || maxItems === '') {
    return MAX_PAGE;
  }
  // Text that is no number is refused as a number below the least.
  const items = /^[0-9]{1,9}$/.test(maxItems) ? Number(maxItems) : 0;
  const error = boundsError('maxItems', maxItems, { amount: items, of: 'value' }, lambdaShapes.MaxListItems);
  if (error !== undefined) {
    throw error;
  }
  return items;
}

function nameOf(marker: string): string {
  const name = Buffer.from(marker, 'base64url').toString('latin1');
  if (!/^[a-zA-Z0-9-_.+]+$/.test(name) || Buffer.from(name).toString('base64url') !== marker) {
    throw new LambdaError('InvalidParameterValueException', 'The marker is none that this service gave out.');
  }
  return name;
}
