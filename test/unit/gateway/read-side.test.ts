import {
  GetAccountSettingsCommand,
  GetAliasCommand,
  GetFunctionCommand,
  GetFunctionConcurrencyCommand,
  GetFunctionConfigurationCommand,
  GetFunctionEventInvokeConfigCommand,
  GetFunctionUrlConfigCommand,
  GetPolicyCommand,
  GetProvisionedConcurrencyConfigCommand,
  ListAliasesCommand,
  ListEventSourceMappingsCommand,
  ListFunctionEventInvokeConfigsCommand,
  ListFunctionsCommand,
  ListFunctionUrlConfigsCommand,
  ListLayersCommand,
  ListProvisionedConcurrencyConfigsCommand,
  ListTagsCommand,
  ListVersionsByFunctionCommand,
  paginateListFunctions,
  waitUntilFunctionActiveV2,
  waitUntilFunctionUpdatedV2,
} from '@aws-sdk/client-lambda';
import { describe, expect, it } from 'vitest';
import { type Access, createOpenAccess } from '../../../src/gateway/access/access.ts';
import { LambdaError } from '../../../src/gateway/lambda/lambda-error.ts';
import { type GatewayLab, type GatewayLabOptions, gatewayLab } from '../../support/gateway-lab.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

const arn = 'arn:aws:lambda:us-east-1:012345678912:function:hello';

/** A gateway with the function `hello`, of two workers, and the function `other`. */
async function readLab(options?: GatewayLabOptions): Promise<GatewayLab> {
  const lab = await gatewayLab(options);
  lab.workers.put(
    workerFixture({
      name: 'hello-a',
      metadata: {
        labels: { team: 'red', 'esb.dev/lambda-function': 'hello' },
        creationTimestamp: '2026-11-01T00:00:00Z',
      },
      spec: {
        functionName: 'hello',
        concurrency: { reserved: 1, queueDepth: 10 },
        asyncInvoke: {
          maximumRetryAttempts: 1,
          maximumEventAgeSeconds: 120,
          onSuccess: { url: 'https://letters.example/done' },
          onFailure: { functionName: 'other' },
        },
      },
      status: { phase: 'Paused', image: 'registry.example/hello@sha256:00' },
    }),
  );
  lab.workers.put(
    workerFixture({
      name: 'hello-b',
      metadata: { creationTimestamp: '2026-11-02T00:00:00Z' },
      spec: { functionName: 'hello', timeoutSeconds: 900 },
      status: { phase: 'Running' },
    }),
  );
  lab.workers.put(workerFixture({ name: 'other', status: { phase: 'Absent' } }));
  return lab;
}

describe('GetFunction', () => {
  it('tells what the oldest worker says, its image, its labels and its concurrency', async () => {
    const { client } = await readLab();
    const answer = await client.send(new GetFunctionCommand({ FunctionName: 'hello' }));
    expect(answer).toMatchObject({
      Configuration: { FunctionName: 'hello', FunctionArn: arn, Timeout: 3, State: 'Active' },
      Code: { ImageUri: 'registry.example/hello:1', ResolvedImageUri: 'registry.example/hello@sha256:00' },
      Tags: { team: 'red' },
      Concurrency: { ReservedConcurrentExecutions: 1 },
      $metadata: { httpStatusCode: 200, requestId: expect.stringMatching(/^[0-9a-f-]{36}$/) },
    });
  });

  it('takes every form of the name, and gives a qualifier back in the ARN', async () => {
    const { client } = await readLab();
    for (const name of [`${arn}:$LATEST`, 'hello:$LATEST', '123456789012:function:hello:$LATEST']) {
      const { Configuration } = await client.send(new GetFunctionCommand({ FunctionName: name }));
      expect(Configuration?.FunctionArn).toBe(`${arn}:$LATEST`);
    }
  });

  it.each([
    ['nobody', undefined, 404, 'ResourceNotFoundException'],
    ['hello', 'blue', 404, 'ResourceNotFoundException'],
    ['hel lo', undefined, 400, 'InvalidParameterValueException'],
  ])('refuses %s with qualifier %s', async (name, qualifier, status, error) => {
    const { client } = await readLab();
    await expect(
      client.send(
        new GetFunctionCommand({
          FunctionName: name,
          ...(qualifier === undefined ? {} : { Qualifier: qualifier }),
        }),
      ),
    ).rejects.toMatchObject({ name: error, $metadata: { httpStatusCode: status } });
  });

  it('satisfies the waiters of the SDK', async () => {
    const { client } = await readLab();
    const wait = { client, maxWaitTime: 5 };
    expect((await waitUntilFunctionActiveV2(wait, { FunctionName: 'hello' })).state).toBe('SUCCESS');
    expect((await waitUntilFunctionUpdatedV2(wait, { FunctionName: 'hello' })).state).toBe('SUCCESS');
  });
});

it('GetFunctionConfiguration is the configuration of GetFunction', async () => {
  const { client } = await readLab();
  const { Configuration } = await client.send(new GetFunctionCommand({ FunctionName: 'hello' }));
  const { $metadata, ...configuration } = await client.send(
    new GetFunctionConfigurationCommand({ FunctionName: 'hello' }),
  );
  expect($metadata.httpStatusCode).toBe(200);
  expect(configuration).toEqual(Configuration);
});

it('ListFunctions gives all of them, page by page', async () => {
  const lab = await readLab();
  for (let index = 0; index < 60; index += 1) {
    lab.workers.put(workerFixture({ name: `many-${index}` }));
  }
  const pages: (string | undefined)[][] = [];
  for await (const page of paginateListFunctions({ client: lab.client, pageSize: 25 }, {})) {
    pages.push((page.Functions ?? []).map(({ FunctionName }) => FunctionName));
  }
  expect(pages.map(({ length }) => length)).toEqual([25, 25, 12]);
  expect(new Set(pages.flat()).size).toBe(62);
});

describe('what a function does not have is answered as in Lambda', () => {
  it.each([
    ['GetPolicy', new GetPolicyCommand({ FunctionName: 'hello' }), 'ResourceNotFoundException'],
    ['GetAlias', new GetAliasCommand({ FunctionName: 'hello', Name: 'blue' }), 'ResourceNotFoundException'],
    ['GetFunctionUrlConfig', new GetFunctionUrlConfigCommand({ FunctionName: 'hello' }), 'ResourceNotFoundException'],
    [
      'GetProvisionedConcurrencyConfig',
      new GetProvisionedConcurrencyConfigCommand({ FunctionName: 'hello', Qualifier: '1' }),
      'ProvisionedConcurrencyConfigNotFoundException',
    ],
    [
      'GetFunctionEventInvokeConfig',
      new GetFunctionEventInvokeConfigCommand({ FunctionName: 'other' }),
      'ResourceNotFoundException',
    ],
  ])('by %s', async (_name, command, error) => {
    const { client } = await readLab();
    await expect(client.send(command as GetPolicyCommand)).rejects.toMatchObject({
      name: error,
      $metadata: { httpStatusCode: 404 },
    });
  });

  it.each([
    ['ListAliases', new ListAliasesCommand({ FunctionName: 'hello' }), { Aliases: [] }],
    [
      'ListFunctionUrlConfigs',
      new ListFunctionUrlConfigsCommand({ FunctionName: 'hello' }),
      { FunctionUrlConfigs: [] },
    ],
    [
      'ListProvisionedConcurrencyConfigs',
      new ListProvisionedConcurrencyConfigsCommand({ FunctionName: 'hello' }),
      { ProvisionedConcurrencyConfigs: [] },
    ],
    ['ListEventSourceMappings', new ListEventSourceMappingsCommand({}), { EventSourceMappings: [] }],
    ['ListLayers', new ListLayersCommand({}), { Layers: [] }],
  ])('by %s', async (_name, command, answer) => {
    const { client } = await readLab();
    expect(await client.send(command as ListAliasesCommand)).toMatchObject(answer);
  });
});

it('ListVersionsByFunction knows the one version that there is', async () => {
  const { client } = await readLab();
  const { Versions } = await client.send(new ListVersionsByFunctionCommand({ FunctionName: 'hello' }));
  expect(Versions).toMatchObject([{ Version: '$LATEST', FunctionArn: `${arn}:$LATEST` }]);
});

it('ListTags gives the labels', async () => {
  const { client } = await readLab();
  expect((await client.send(new ListTagsCommand({ Resource: arn }))).Tags).toEqual({ team: 'red' });
});

it('GetFunctionConcurrency gives what is reserved, and nothing where nothing is', async () => {
  const { client } = await readLab();
  const of = async (name: string) =>
    (await client.send(new GetFunctionConcurrencyCommand({ FunctionName: name }))).ReservedConcurrentExecutions;
  expect(await of('hello')).toBe(1);
  expect(await of('other')).toBeUndefined();
});

it('GetFunctionEventInvokeConfig and its list give what is said of events', async () => {
  const { client } = await readLab();
  const config = {
    FunctionArn: `${arn}:$LATEST`,
    MaximumRetryAttempts: 1,
    MaximumEventAgeInSeconds: 120,
    LastModified: new Date('2026-11-01T00:00:00Z'),
  };
  const input = { FunctionName: 'hello' };
  const told = await client.send(new GetFunctionEventInvokeConfigCommand(input));
  expect(told).toMatchObject(config);
  expect(told.DestinationConfig).toEqual({
    OnSuccess: {},
    OnFailure: { Destination: 'arn:aws:lambda:us-east-1:012345678912:function:other' },
  });
  const list = await client.send(new ListFunctionEventInvokeConfigsCommand(input));
  expect(list.FunctionEventInvokeConfigs).toMatchObject([config]);
});

it('lists go on where workers of a version outlive their function', async () => {
  const lab = await readLab();
  const settings = await lab.client.send(new GetAccountSettingsCommand({}));
  const before = await lab.client.send(new ListFunctionsCommand({}));
  await lab.addWorker('odd', { version: 3 });
  await lab.addWorker('odd-one', { functionName: 'odd', version: 4 });
  expect((await lab.client.send(new ListFunctionsCommand({}))).Functions).toEqual(before.Functions);
  expect((await lab.client.send(new ListFunctionsCommand({ FunctionVersion: 'ALL' }))).Functions).toHaveLength(
    before.Functions?.length ?? 0,
  );
  expect((await lab.client.send(new GetAccountSettingsCommand({}))).AccountUsage).toEqual(settings.AccountUsage);
  await expect(lab.client.send(new GetFunctionCommand({ FunctionName: 'odd' }))).rejects.toMatchObject({
    name: 'ResourceNotFoundException',
  });
});

it('GetAccountSettings counts functions and workers', async () => {
  const { client } = await readLab();
  expect(await client.send(new GetAccountSettingsCommand({}))).toMatchObject({
    AccountLimit: { ConcurrentExecutions: 3, UnreservedConcurrentExecutions: 2 },
    AccountUsage: { FunctionCount: 2 },
  });
});

it('nothing is said before the API server has been heard', async () => {
  const lab = await readLab();
  lab.workers.setSynced(false);
  await expect(lab.client.send(new GetAccountSettingsCommand({}))).rejects.toMatchObject({
    name: 'ServiceException',
    $metadata: { httpStatusCode: 503 },
  });
});

it('each operation asks for its own permission', async () => {
  const asked: string[] = [];
  const access: Access = {
    identify: createOpenAccess(() => false).identify,
    authorize(_principal, action, name) {
      asked.push(`${action} ${name ?? '*'}`);
      throw new LambdaError('AccessDeniedException', 'no');
    },
  };
  const { client } = await readLab({ gateway: { access } });
  const refused = { name: 'AccessDeniedException', $metadata: { httpStatusCode: 403 } };
  await expect(client.send(new GetFunctionCommand({ FunctionName: arn }))).rejects.toMatchObject(refused);
  // One that does not exist tells a stranger no more than one that does.
  await expect(client.send(new GetFunctionCommand({ FunctionName: 'nobody' }))).rejects.toMatchObject(refused);
  await expect(client.send(new GetAccountSettingsCommand({}))).rejects.toMatchObject(refused);
  expect(asked).toEqual(['get hello', 'get nobody', 'list *']);
});
