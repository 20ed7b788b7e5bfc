import type { AccessAction } from '../access/access.ts';
import { type FunctionReference, functionArn } from '../lambda/function-name.ts';
import { constraintError, LambdaError } from '../lambda/lambda-error.ts';
import type { FunctionCatalog } from './function-catalog.ts';
import { describeFunction, lambdaTime, tagsOf } from './function-description.ts';
import { pageOf } from './page.ts';
import { NOTHING, unsupported } from './unsupported-operations.ts';

/** The input of an operation. */
export interface ReadInput {
  /** The function of the path. Empty for operations whose path names none. */
  readonly reference: FunctionReference;
  /** The other name in the path: an alias, a mapping. Empty for none. */
  readonly item: string;
  readonly query: Readonly<Record<string, string | undefined>>;
}

/** An operation that reads. */
export interface ReadOperation {
  /** As SDKs name it. */
  readonly name: string;
  /** Path, with `:name` for the function and `:item` for anything else. */
  readonly url: string;
  /** The right that its caller needs. */
  readonly action: Exclude<AccessAction, 'invoke'>;
  /**
   * The answer, an object of the service model.
   *
   * @throws {LambdaError}
   */
  answer(catalog: FunctionCatalog, input: ReadInput): object;
}

const FUNCTION = '/2015-03-31/functions/:name';

/**
 * Every operation that reads and has an answer. For features that ESB does not have, the answer is Lambda's for none.
 */
export const readOperations: readonly ReadOperation[] = [
  {
    name: 'GetFunction',
    url: FUNCTION,
    action: 'get',
    answer(catalog, { reference }) {
      const { speaker, workers } = catalog.find(reference);
      const { spec, status } = speaker.resource;
      const tags = tagsOf(speaker.resource);
      const reserved = spec.concurrency?.reserved;
      return {
        Configuration: describeFunction(speaker, workers, reference),
        Code: {
          RepositoryType: 'ECR',
          ImageUri: spec.image,
          ResolvedImageUri: status?.image ?? spec.image,
        },
        ...(Object.keys(tags).length === 0 ? {} : { Tags: tags }),
        ...(reserved === undefined ? {} : { Concurrency: { ReservedConcurrentExecutions: reserved } }),
      };
    },
  },
  {
    name: 'GetFunctionConfiguration',
    url: `${FUNCTION}/configuration`,
    action: 'get',
    answer(catalog, { reference }) {
      const { speaker, workers } = catalog.find(reference);
      return describeFunction(speaker, workers, reference);
    },
  },
  {
    name: 'ListFunctions',
    url: '/2015-03-31/functions',
    action: 'list',
    answer(catalog, { query }) {
      const version = query.FunctionVersion;
      if (version !== undefined && version !== '' && version !== 'ALL') {
        throw constraintError('functionVersion', version, 'Member must satisfy enum value set: [ALL]');
      }
      const page = pageOf(catalog.names(), query.Marker, query.MaxItems);
      return {
        Functions: page.names.map((name) => {
          const { speaker, workers } = catalog.find({ name });
          return describeFunction(speaker, workers, version === 'ALL' ? { name, qualifier: '$LATEST' } : { name });
        }),
        ...(page.nextMarker === undefined ? {} : { NextMarker: page.nextMarker }),
      };
    },
  },
  {
    name: 'ListVersionsByFunction',
    url: `${FUNCTION}/versions`,
    action: 'get',
    answer(catalog, { reference, query }) {
      const { speaker, workers } = catalog.find(reference);
      const page = pageOf(['$LATEST'], undefined, query.MaxItems);
      return {
        Versions: page.names.map((qualifier) =>
          describeFunction(speaker, workers, { name: reference.name, qualifier }),
        ),
      };
    },
  },
  {
    name: 'ListAliases',
    url: `${FUNCTION}/aliases`,
    action: 'get',
    answer(catalog, { reference }) {
      catalog.find(reference);
      return { Aliases: [] };
    },
  },
  {
    name: 'GetAlias',
    url: `${FUNCTION}/aliases/:item`,
    action: 'get',
    answer(_catalog, { reference, item }) {
      throw notFound(`Cannot find alias arn: ${functionArn({ name: reference.name, qualifier: item })}`);
    },
  },
  {
    name: 'GetPolicy',
    url: `${FUNCTION}/policy`,
    action: 'get',
    answer: nothingOfFunction,
  },
  {
    name: 'ListTags',
    url: '/2017-03-31/tags/:name',
    action: 'get',
    answer: (catalog, { reference }) => ({ Tags: tagsOf(catalog.find(reference).speaker.resource) }),
  },
  {
    name: 'GetFunctionConcurrency',
    url: '/2019-09-30/functions/:name/concurrency',
    action: 'get',
    answer(catalog, { reference }) {
      const reserved = catalog.find(reference).speaker.resource.spec.concurrency?.reserved;
      return reserved === undefined ? {} : { ReservedConcurrentExecutions: reserved };
    },
  },
  {
    name: 'GetProvisionedConcurrencyConfig',
    url: '/2019-09-30/functions/:name/provisioned-concurrency',
    action: 'get',
    answer(catalog, { reference, query }) {
      catalog.find(query.List === 'ALL' ? reference : { name: reference.name });
      if (query.List === 'ALL') {
        return { ProvisionedConcurrencyConfigs: [] };
      }
      throw new LambdaError(
        'ProvisionedConcurrencyConfigNotFoundException',
        'No Provisioned Concurrency Config found for this function',
      );
    },
  },
  {
    name: 'GetFunctionEventInvokeConfig',
    url: '/2019-09-25/functions/:name/event-invoke-config',
    action: 'get',
    answer(catalog, { reference }) {
      const config = eventConfig(catalog, reference);
      if (config === undefined) {
        const arn = functionArn({ qualifier: '$LATEST', ...reference });
        throw notFound(`The function ${arn} doesn't have an EventInvokeConfig`);
      }
      return config;
    },
  },
  {
    name: 'ListFunctionEventInvokeConfigs',
    url: '/2019-09-25/functions/:name/event-invoke-config/list',
    action: 'get',
    answer(catalog, { reference }) {
      const config = eventConfig(catalog, reference);
      return { FunctionEventInvokeConfigs: config === undefined ? [] : [config] };
    },
  },
  {
    name: 'GetFunctionUrlConfig',
    url: '/2021-10-31/functions/:name/url',
    action: 'get',
    answer: nothingOfFunction,
  },
  {
    name: 'ListFunctionUrlConfigs',
    url: '/2021-10-31/functions/:name/urls',
    action: 'get',
    answer(catalog, { reference }) {
      catalog.find(reference);
      return { FunctionUrlConfigs: [] };
    },
  },
  {
    name: 'GetFunctionRecursionConfig',
    url: '/2024-08-31/functions/:name/recursion-config',
    action: 'get',
    answer(catalog, { reference }) {
      catalog.find(reference);
      // ESB does not detect functions that call each other in a circle.
      return { RecursiveLoop: 'Allow' };
    },
  },
  {
    name: 'GetAccountSettings',
    url: '/2016-08-19/account-settings',
    action: 'list',
    answer: accountSettings,
  },
  {
    name: 'ListEventSourceMappings',
    url: '/2015-03-31/event-source-mappings',
    action: 'list',
    answer: () => ({ EventSourceMappings: [] }),
  },
  {
    name: 'GetEventSourceMapping',
    url: '/2015-03-31/event-source-mappings/:item',
    action: 'list',
    answer() {
      throw notFound('The resource you requested does not exist.');
    },
  },
  {
    name: 'ListLayers',
    url: '/2018-10-31/layers',
    action: 'list',
    answer(_catalog, { query }) {
      // GetLayerVersionByArn has the same path, and says by this that it is meant.
      if (query.find === 'LayerVersion') {
        throw unsupported('GetLayerVersionByArn', NOTHING);
      }
      return { Layers: [] };
    },
  },
  {
    name: 'ListCodeSigningConfigs',
    url: '/2020-04-22/code-signing-configs',
    action: 'list',
    answer: () => ({ CodeSigningConfigs: [] }),
  },
];

/** Calls at once are as many as there are workers, of which some functions may have reserved theirs. */
function accountSettings(catalog: FunctionCatalog): object {
  const names = catalog.names();
  let all = 0;
  let reservedInAll = 0;
  for (const name of names) {
    const { speaker, workers } = catalog.find({ name });
    all += workers.length;
    reservedInAll += Math.min(workers.length, speaker.resource.spec.concurrency?.reserved ?? 0);
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

function eventConfig(catalog: FunctionCatalog, reference: FunctionReference): object | undefined {
  const { metadata, spec } = catalog.find(reference).speaker.resource;
  const { asyncInvoke } = spec;
  if (asyncInvoke === undefined) {
    return undefined;
  }
  const { functionName, url } = asyncInvoke.onFailure ?? {};
  const destination = functionName === undefined ? url : functionArn({ name: functionName });
  return {
    // In seconds since 1970, as the protocol writes times that its model calls timestamps.
    LastModified: Date.parse(metadata.creationTimestamp ?? lambdaTime(undefined)) / 1000,
    FunctionArn: functionArn({ qualifier: '$LATEST', ...reference }),
    MaximumRetryAttempts: asyncInvoke.maximumRetryAttempts,
    MaximumEventAgeInSeconds: asyncInvoke.maximumEventAgeSeconds,
    DestinationConfig: {
      OnSuccess: {},
      OnFailure: destination === undefined ? {} : { Destination: destination },
    },
  };
}

/** The answer about a feature that no function has. */
function nothingOfFunction(catalog: FunctionCatalog, { reference }: ReadInput): never {
  catalog.find(reference);
  throw notFound('The resource you requested does not exist.');
}

function notFound(message: string): LambdaError {
  return new LambdaError('ResourceNotFoundException', message);
}
