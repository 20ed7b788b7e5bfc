import { LambdaClient, waitUntilFunctionActiveV2, waitUntilFunctionUpdatedV2 } from '@aws-sdk/client-lambda';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type ConformanceLab, startConformanceLab } from '../../../support/conformance-lab.ts';
import { answered, type LambdaCaller, refused } from '../../../support/lambda-caller.ts';
import { manifestList } from '../../../support/worker-manifests.ts';

const arn = 'arn:aws:lambda:us-east-1:012345678912:function';
/** More functions than a page of Lambda's has, which is 50. */
const FUNCTIONS = 60;

let lab: ConformanceLab;

beforeAll(async () => {
  lab = await startConformanceLab();
  await lab.apply('hello-1', {
    functionName: 'hello',
    timeoutSeconds: 7,
    env: [{ name: 'GREETING', value: 'good day' }],
    concurrency: { reserved: 2, queueDepth: 5 },
    asyncInvoke: {
      maximumRetryAttempts: 1,
      maximumEventAgeSeconds: 120,
      onSuccess: { functionName: 'plain' },
      onFailure: { url: 'https://letters.example/lost' },
    },
  });
  await lab.agentLab.api.kubectl(['label', 'lw', 'hello-1', 'team=blue']);
  await lab.apply('plain');
  // Functions that nothing runs for: resources are all that lists are made of.
  const many = Array.from({ length: FUNCTIONS - 2 }, (_, index) => ({
    apiVersion: 'esb.dev/v1alpha1',
    kind: 'LambdaWorker',
    metadata: { name: `many-${String(index).padStart(2, '0')}` },
    spec: { image: lab.image, desiredState: 'Absent' },
  }));
  await lab.agentLab.api.kubectl(['apply', '-f', '-'], manifestList(many));
  await lab.known(`many-${FUNCTIONS - 3}`);
}, 180_000);

afterAll(() => lab?.close());

describe.each(['javaScript', 'boto3'] as const)('of a function, %s reads', (which) => {
  let caller: LambdaCaller;
  beforeAll(() => {
    caller = lab.callers[which];
  });
  const read = async (operation: string, input: Readonly<Record<string, unknown>> = {}) =>
    answered(await caller.call(operation, input)).output;

  /** Answer of GetFunctionConfiguration for `hello`, but for the qualifier. */
  const configuration = {
    FunctionName: 'hello',
    Version: '$LATEST',
    PackageType: 'Image',
    Timeout: 7,
    MemorySize: 128,
    State: 'Active',
    LastUpdateStatus: 'Successful',
    Environment: { Variables: { GREETING: 'good day' } },
    Architectures: [process.arch === 'arm64' ? 'arm64' : 'x86_64'],
    EphemeralStorage: { Size: 16 },
    LastModified: expect.stringMatching(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}\+0000$/),
    CodeSha256: expect.stringMatching(/^[0-9a-f]{64}$/),
  };

  it.each(['hello', '123456789012:function:hello', 'arn:aws:lambda:eu-west-1:123456789012:function:hello'])(
    'its configuration by the name %s',
    async (name) => {
      const output = await read('GetFunctionConfiguration', { FunctionName: name });
      expect(output).toMatchObject({ ...configuration, FunctionArn: `${arn}:hello` });
    },
  );

  it('its configuration with a qualifier, which is then in the ARN', async () => {
    const output = await read('GetFunctionConfiguration', { FunctionName: 'hello', Qualifier: '$LATEST' });
    expect(output.FunctionArn).toBe(`${arn}:hello:$LATEST`);
  });

  it('all there is of it by GetFunction', async () => {
    const output = await read('GetFunction', { FunctionName: 'hello' });
    expect(output).toMatchObject({
      Configuration: { ...configuration, FunctionArn: `${arn}:hello` },
      Code: {
        RepositoryType: 'ECR',
        ImageUri: lab.image,
        ResolvedImageUri: expect.stringContaining('@sha256:'),
      },
      Tags: { team: 'blue' },
      Concurrency: { ReservedConcurrentExecutions: 2 },
    });
  });

  it('its reserved concurrency, and nothing where there is none', async () => {
    expect(await read('GetFunctionConcurrency', { FunctionName: 'hello' })).toEqual({
      ReservedConcurrentExecutions: 2,
    });
    expect(await read('GetFunctionConcurrency', { FunctionName: 'plain' })).toEqual({});
  });

  it('what becomes of its events', async () => {
    expect(await read('GetFunctionEventInvokeConfig', { FunctionName: 'hello' })).toMatchObject({
      FunctionArn: `${arn}:hello:$LATEST`,
      MaximumRetryAttempts: 1,
      MaximumEventAgeInSeconds: 120,
      DestinationConfig: { OnSuccess: { Destination: `${arn}:plain` }, OnFailure: {} },
    });
  });

  it('its one version, its tags, and that it has no aliases', async () => {
    const { Versions } = await read('ListVersionsByFunction', { FunctionName: 'hello' });
    expect(Versions).toMatchObject([{ Version: '$LATEST', FunctionArn: `${arn}:hello:$LATEST` }]);
    expect(await read('ListTags', { Resource: `${arn}:hello` })).toMatchObject({ Tags: { team: 'blue' } });
    expect(await read('ListAliases', { FunctionName: 'hello' })).toEqual({ Aliases: [] });
  });

  it.each([
    ['GetFunction', { FunctionName: 'nobody' }, 'nobody'],
    ['GetFunctionConfiguration', { FunctionName: 'nobody' }, 'nobody'],
    ['GetFunctionConfiguration', { FunctionName: 'hello', Qualifier: '3' }, 'hello:3'],
    ['GetFunctionConcurrency', { FunctionName: 'nobody' }, 'nobody'],
    ['GetFunctionEventInvokeConfig', { FunctionName: 'nobody' }, 'nobody'],
  ])('by %s of one that is not there, ResourceNotFoundException', async (operation, input, name) => {
    expect(refused(await caller.call(operation, input))).toMatchObject({
      error: 'ResourceNotFoundException',
      modeled: true,
      httpStatus: 404,
      type: 'User',
      message: `Function not found: ${arn}:${name}`,
    });
  });

  it('by GetProvisionedConcurrencyConfig, ProvisionedConcurrencyConfigNotFoundException', async () => {
    const input = { FunctionName: 'hello', Qualifier: '1' };
    expect(refused(await caller.call('GetProvisionedConcurrencyConfig', input))).toMatchObject({
      error: 'ProvisionedConcurrencyConfigNotFoundException',
      modeled: true,
      httpStatus: 404,
      type: 'User',
    });
  });

  it('by names that make no sense, InvalidParameterValueException', async () => {
    for (const operation of ['GetFunction', 'GetFunctionConfiguration', 'GetFunctionConcurrency']) {
      expect(refused(await caller.call(operation, { FunctionName: 'a b' }))).toMatchObject({
        error: 'InvalidParameterValueException',
        modeled: true,
        httpStatus: 400,
      });
    }
  });
});

describe('the waiters of the SDK for JavaScript', () => {
  it('find that a function is active and up to date', async () => {
    const client = new LambdaClient({
      endpoint: lab.gateway.url,
      region: 'us-east-1',
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    });
    onTestFinished(() => client.destroy());
    const options = { client, maxWaitTime: 30 };
    const input = { FunctionName: 'hello' };
    expect(await waitUntilFunctionActiveV2(options, input)).toMatchObject({ state: 'SUCCESS' });
    expect(await waitUntilFunctionUpdatedV2(options, input)).toMatchObject({ state: 'SUCCESS' });
  });
});

describe.each(['javaScript', 'boto3'] as const)('of all functions, %s reads', (which) => {
  let caller: LambdaCaller;
  beforeAll(() => {
    caller = lab.callers[which];
  });
  const names = (pages: readonly Readonly<Record<string, unknown>>[]): readonly string[] =>
    pages.flatMap(({ Functions }) =>
      (Functions as readonly { readonly FunctionName: string }[]).map(({ FunctionName }) => FunctionName),
    );

  it('a first page of 50, and where the next one begins', async () => {
    const { output } = answered(await caller.call('ListFunctions', {}));
    expect(names([output])).toHaveLength(50);
    expect(output.NextMarker).toEqual(expect.any(String));
  });

  it('every one once by the paginator', async () => {
    const found = names(await caller.pages('ListFunctions', {}));
    expect(found).toHaveLength(FUNCTIONS);
    expect(new Set(found).size).toBe(FUNCTIONS);
    expect(found).toEqual(expect.arrayContaining(['hello', 'plain', 'many-00', `many-${FUNCTIONS - 3}`]));
  });

  it('as many at a time as it asks for', async () => {
    const pages = await caller.pages('ListFunctions', { MaxItems: 7 });
    expect(pages).toHaveLength(Math.ceil(FUNCTIONS / 7));
    expect(names(pages)).toHaveLength(FUNCTIONS);
    const { output } = answered(await caller.call('ListFunctions', { MaxItems: 7 }));
    expect(names([output])).toHaveLength(7);
  });

  it('nothing by a marker that it was not given', async () => {
    expect(refused(await caller.call('ListFunctions', { Marker: 'Ä' }))).toMatchObject({
      error: 'InvalidParameterValueException',
      httpStatus: 400,
    });
  });

  it('the settings of the account', async () => {
    const { output } = answered(await caller.call('GetAccountSettings', {}));
    expect(output).toMatchObject({
      AccountLimit: { ConcurrentExecutions: FUNCTIONS, UnreservedConcurrentExecutions: FUNCTIONS - 1 },
      AccountUsage: { FunctionCount: FUNCTIONS },
    });
  });
});

describe.each(['javaScript', 'boto3'] as const)('by %s', (which) => {
  it('every operation of the service model is answered, or refused by its name with what to do instead', async () => {
    const caller = lab.callers[which];
    const modeled = await lab.callers.boto3.operations('hello');
    const operations = modeled.filter(({ name }) => caller.has(name));
    expect(operations.length).toBeGreaterThan(80);
    const wrong: string[] = [];
    const refusals: string[] = [];
    for (const { name, arguments: input } of operations) {
      const outcome = await caller.call(name, input);
      if (outcome.kind === 'answered') {
        continue;
      }
      if (outcome.code === 'UnsupportedOperationException' && outcome.httpStatus === 400) {
        refusals.push(name);
        if (!outcome.message.startsWith(`${name} is not supported.`) || !outcome.message.includes('kubectl')) {
          wrong.push(`${name} says '${outcome.message}'`);
        }
      } else if (outcome.httpStatus !== 404 || !outcome.modeled) {
        wrong.push(`${name} is refused with ${outcome.code}: ${outcome.message}`);
      }
    }
    expect(wrong).toEqual([]);
    expect(refusals).toEqual(
      expect.arrayContaining([
        ...['CreateFunction', 'DeleteFunction', 'UpdateFunctionCode', 'UpdateFunctionConfiguration'],
        ...['PublishVersion', 'CreateAlias', 'AddPermission', 'TagResource', 'UntagResource'],
        ...['PutFunctionConcurrency', 'DeleteFunctionConcurrency', 'PutFunctionEventInvokeConfig'],
        ...['CreateFunctionUrlConfig', 'CreateEventSourceMapping'],
      ]),
    );
  });

  it('a path of no operation is UnknownOperationException', async () => {
    const answer = await fetch(`${lab.gateway.url}/2015-03-31/nothing`, { method: 'POST', body: '{}' });
    expect(answer.status).toBe(404);
    expect(answer.headers.get('x-amzn-errortype')).toBe('UnknownOperationException');
    expect(await answer.json()).toMatchObject({ __type: 'UnknownOperationException', Type: 'User' });
  });
});
