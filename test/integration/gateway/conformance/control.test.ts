import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LambdaFunction, lambdaFunctions } from '../../../../src/api/lambda-function.ts';
import { pythonEnvironment } from '../../../support/boto3-caller.ts';
import { run } from '../../../support/command.ts';
import { type ControlLab, DEPLOYER, digestOf, EDITOR, READER, startControlLab } from '../../../support/control-lab.ts';
import { textOf } from '../../../support/documentation.ts';
import { functionManifest } from '../../../support/function-manifest.ts';
import { answered, type LambdaCaller, refused } from '../../../support/lambda-caller.ts';
import { shellBlocksOf } from '../../../support/markdown-file.ts';
import { toolsFolder } from '../../../support/tools.ts';
import { waitFor } from '../../../support/wait-for.ts';

const arn = 'arn:aws:lambda:us-east-1:012345678912:function';
const ROLE = 'arn:aws:iam::123456789012:role/lambda-role';

let lab: ControlLab;

beforeAll(async () => {
  lab = await startControlLab();
}, 180_000);

afterAll(() => lab?.close());

const objectOf = async (name: string): Promise<LambdaFunction | undefined> =>
  await lab.admin.get(lambdaFunctions, { namespace: 'default', name });

const present = async (name: string): Promise<LambdaFunction> => {
  const found = await objectOf(name);
  if (found === undefined) {
    throw new Error(`there is no LambdaFunction ${name}`);
  }
  return found;
};

describe.each(['javaScript', 'boto3'] as const)('by %s', (which) => {
  let caller: LambdaCaller;
  const prefix = which.toLowerCase();
  beforeAll(() => {
    caller = lab.callers[which];
  });
  const does = async (operation: string, input: Readonly<Record<string, unknown>> = {}) =>
    answered(await caller.call(operation, input, { credentials: EDITOR })).output;
  const fails = async (operation: string, input: Readonly<Record<string, unknown>> = {}, credentials = EDITOR) =>
    refused(await caller.call(operation, input, { credentials }));
  const waits = (waiter: string, input: Readonly<Record<string, unknown>>) =>
    caller.wait(waiter, input, { credentials: EDITOR });
  const create = (name: string, more: Readonly<Record<string, unknown>> = {}) =>
    does('CreateFunction', {
      FunctionName: name,
      PackageType: 'Image',
      Code: { ImageUri: 'registry.example/hello:1' },
      Role: ROLE,
      ...more,
    });

  it('a function lives from its creation to its end', async () => {
    const FunctionName = `${prefix}-life`;
    const made = await create(FunctionName, {
      Description: 'says hello',
      MemorySize: 256,
      Timeout: 7,
      Environment: { Variables: { GREETING: 'good day' } },
      ImageConfig: { Command: ['main.handler'] },
      EphemeralStorage: { Size: 512 },
      Architectures: ['x86_64'],
      LoggingConfig: { LogFormat: 'JSON', SystemLogLevel: 'DEBUG' },
      Tags: { team: 'blue', owner: 'A. Person a@example.com' },
      VpcConfig: { SubnetIds: [], SecurityGroupIds: [] },
      TracingConfig: { Mode: 'PassThrough' },
    });
    expect(made).toMatchObject({
      FunctionName,
      FunctionArn: `${arn}:${FunctionName}`,
      Role: ROLE,
      Description: 'says hello',
      MemorySize: 256,
      Timeout: 7,
      Environment: { Variables: { GREETING: 'good day' } },
      ImageConfigResponse: { ImageConfig: { Command: ['main.handler'] } },
      EphemeralStorage: { Size: 512 },
      Architectures: ['x86_64'],
      PackageType: 'Image',
      Version: '$LATEST',
      State: 'Pending',
      StateReasonCode: 'Creating',
      LastUpdateStatus: 'InProgress',
    });
    await waits('FunctionExists', { FunctionName });
    await waits('FunctionActiveV2', { FunctionName });
    const active = await does('GetFunction', { FunctionName });
    expect(active).toMatchObject({
      Configuration: {
        State: 'Active',
        LastUpdateStatus: 'Successful',
        CodeSha256: digestOf('registry.example/hello:1'),
        RevisionId: made.RevisionId,
      },
      Tags: { team: 'blue', owner: 'A. Person a@example.com' },
      Code: { ImageUri: 'registry.example/hello:1' },
    });
    expect(
      await fails('CreateFunction', { FunctionName, PackageType: 'Image', Role: ROLE, Code: { ImageUri: 'a:1' } }),
    ).toMatchObject({ error: 'ResourceConflictException', modeled: true, httpStatus: 409 });

    const changed = await does('UpdateFunctionConfiguration', {
      FunctionName: `${arn}:${FunctionName}`,
      MemorySize: 512,
      Environment: { Variables: { COLOUR: 'blue' } },
      RevisionId: made.RevisionId,
    });
    expect(changed).toMatchObject({
      MemorySize: 512,
      Timeout: 7,
      Environment: { Variables: { COLOUR: 'blue' } },
      State: 'Active',
      LastUpdateStatus: 'InProgress',
    });
    expect(changed.RevisionId).not.toBe(made.RevisionId);
    expect(
      await fails('UpdateFunctionCode', {
        FunctionName,
        ImageUri: 'registry.example/hello:2',
        RevisionId: made.RevisionId,
      }),
    ).toMatchObject({ error: 'PreconditionFailedException', modeled: true, httpStatus: 412 });
    await waits('FunctionUpdatedV2', { FunctionName });
    await does('UpdateFunctionCode', {
      FunctionName,
      ImageUri: 'registry.example/hello:2',
      RevisionId: changed.RevisionId,
    });
    await waits('FunctionUpdatedV2', { FunctionName });
    expect(await does('GetFunctionConfiguration', { FunctionName })).toMatchObject({
      CodeSha256: digestOf('registry.example/hello:2'),
    });
    const pages = await caller.pages('ListFunctions', { MaxItems: 1 }, { credentials: EDITOR });
    const listed = pages.flatMap(({ Functions }) => (Functions ?? []) as readonly { FunctionName: string }[]);
    expect(listed.map((each) => each.FunctionName)).toContain(FunctionName);
    expect((await present(FunctionName)).metadata.annotations?.['esb.dev/changed-by']).toBe('editor');

    await does('DeleteFunction', { FunctionName });
    expect(await fails('GetFunction', { FunctionName })).toMatchObject({ error: 'ResourceNotFoundException' });
    expect(await fails('DeleteFunction', { FunctionName })).toMatchObject({ error: 'ResourceNotFoundException' });
    expect(await objectOf(FunctionName)).toBeUndefined();
  }, 120_000);

  it('a function whose image cannot be run ends the wait for it', async () => {
    const FunctionName = `${prefix}-broken`;
    await create(FunctionName, { Code: { ImageUri: 'registry.example/broken:1' } });
    await expect(waits('FunctionActiveV2', { FunctionName })).rejects.toThrow();
    expect(await does('GetFunctionConfiguration', { FunctionName })).toMatchObject({
      State: 'Failed',
      StateReasonCode: 'InvalidImage',
      LastUpdateStatus: 'Failed',
      LastUpdateStatusReasonCode: 'InvalidImage',
    });
    await does('UpdateFunctionCode', { FunctionName, ImageUri: 'registry.example/hello:1' });
    await waits('FunctionUpdatedV2', { FunctionName });
    await waits('FunctionActiveV2', { FunctionName });
    await does('DeleteFunction', { FunctionName });
  }, 120_000);

  it('a function that is to publish an image which nobody has is not created', async () => {
    const FunctionName = `${prefix}-unpublished`;
    const input = { FunctionName, PackageType: 'Image', Role: ROLE, Publish: true };
    expect(await fails('CreateFunction', { ...input, Code: { ImageUri: 'registry.example/broken:1' } })).toMatchObject({
      error: 'InvalidParameterValueException',
      modeled: true,
      httpStatus: 400,
      message: expect.stringContaining('Source image registry.example/broken:1 does not exist.') as string,
    });
    expect(await fails('GetFunction', { FunctionName })).toMatchObject({ error: 'ResourceNotFoundException' });
    expect(await create(FunctionName, { Publish: true })).toMatchObject({ Version: '1' });
    await does('DeleteFunction', { FunctionName });
  }, 120_000);

  it('versions are published once for each change, and aliases share calls between them', async () => {
    const FunctionName = `${prefix}-versions`;
    const first = await create(FunctionName, { Publish: true, Description: 'one' });
    expect(first).toMatchObject({ Version: '1', FunctionArn: `${arn}:${FunctionName}:1` });
    await waits('PublishedVersionActive', { FunctionName, Qualifier: '1' });
    expect(await does('PublishVersion', { FunctionName })).toMatchObject({ Version: '1' });
    await does('UpdateFunctionConfiguration', { FunctionName, Timeout: 9 });
    await waits('FunctionUpdatedV2', { FunctionName });
    expect(await fails('PublishVersion', { FunctionName, CodeSha256: 'f'.repeat(64) })).toMatchObject({
      error: 'InvalidParameterValueException',
    });
    const CodeSha256 = digestOf('registry.example/hello:1');
    const second = await does('PublishVersion', { FunctionName, CodeSha256, Description: 'two' });
    expect(second).toMatchObject({ Version: '2', Timeout: 9, Role: ROLE, Description: 'two' });
    expect(await does('GetFunctionConfiguration', { FunctionName })).toMatchObject({ Description: 'one' });
    const third = await does('UpdateFunctionCode', {
      FunctionName,
      ImageUri: 'registry.example/hello:2',
      Publish: true,
    });
    expect(third).toMatchObject({ Version: '3', CodeSha256: digestOf('registry.example/hello:2') });
    const pages = await caller.pages('ListVersionsByFunction', { FunctionName, MaxItems: 2 }, { credentials: EDITOR });
    expect(pages.flatMap(({ Versions }) => Versions as readonly object[])).toMatchObject(
      ['$LATEST', '1', '2', '3'].map((Version) => ({ Version })),
    );

    const RoutingConfig = { AdditionalVersionWeights: { 2: 0.1 } };
    const live = await does('CreateAlias', {
      FunctionName,
      Name: 'live',
      FunctionVersion: '1',
      Description: 'for all',
      RoutingConfig,
    });
    expect(live).toMatchObject({
      AliasArn: `${arn}:${FunctionName}:live`,
      Name: 'live',
      FunctionVersion: '1',
      Description: 'for all',
      RoutingConfig,
    });
    expect(await does('GetAlias', { FunctionName, Name: 'live' })).toEqual(live);
    expect(await fails('CreateAlias', { FunctionName, Name: 'live', FunctionVersion: '1' })).toMatchObject({
      error: 'ResourceConflictException',
    });
    expect(await fails('CreateAlias', { FunctionName, Name: 'next', FunctionVersion: '7' })).toMatchObject({
      error: 'ResourceNotFoundException',
    });
    expect(await fails('DeleteFunction', { FunctionName, Qualifier: '2' })).toMatchObject({
      error: 'ResourceConflictException',
    });
    const moved = await does('UpdateAlias', {
      FunctionName,
      Name: 'live',
      FunctionVersion: '3',
      RoutingConfig: { AdditionalVersionWeights: {} },
      RevisionId: live.RevisionId,
    });
    expect(moved).toMatchObject({ FunctionVersion: '3', Description: 'for all' });
    expect(moved.RoutingConfig).toBeUndefined();
    expect(
      await fails('UpdateAlias', { FunctionName, Name: 'live', Description: '', RevisionId: live.RevisionId }),
    ).toMatchObject({ error: 'PreconditionFailedException' });
    await waitFor('the alias to be in effect', async () => {
      const { status } = await present(FunctionName);
      return status?.aliases?.some(({ name, version }) => name === 'live' && version === 3);
    });
    const aliases = await caller.pages('ListAliases', { FunctionName }, { credentials: EDITOR });
    expect(aliases.flatMap(({ Aliases }) => Aliases as readonly object[])).toMatchObject([{ Name: 'live' }]);

    const Qualifier = 'live';
    await does('PutProvisionedConcurrencyConfig', { FunctionName, Qualifier, ProvisionedConcurrentExecutions: 2 });
    await waitFor('workers of the alias', async () => {
      const { Status } = await does('GetProvisionedConcurrencyConfig', { FunctionName, Qualifier });
      return Status === 'READY';
    });
    await does('DeleteProvisionedConcurrencyConfig', { FunctionName, Qualifier });
    expect(await fails('GetProvisionedConcurrencyConfig', { FunctionName, Qualifier })).toMatchObject({
      error: 'ProvisionedConcurrencyConfigNotFoundException',
    });

    await does('DeleteFunction', { FunctionName, Qualifier: '2' });
    expect(await fails('GetFunctionConfiguration', { FunctionName, Qualifier: '2' })).toMatchObject({
      error: 'ResourceNotFoundException',
    });
    await does('DeleteAlias', { FunctionName, Name: 'live' });
    expect(await does('ListAliases', { FunctionName })).toMatchObject({ Aliases: [] });
    await does('DeleteFunction', { FunctionName });
  }, 180_000);

  it('settings beside the configuration are set, told and taken away', async () => {
    const FunctionName = `${prefix}_Settings`;
    await create(FunctionName);
    await waits('FunctionActiveV2', { FunctionName });

    await does('PutFunctionConcurrency', { FunctionName, ReservedConcurrentExecutions: 5 });
    expect(await does('GetFunctionConcurrency', { FunctionName })).toEqual({ ReservedConcurrentExecutions: 5 });
    await does('DeleteFunctionConcurrency', { FunctionName });
    expect(await does('GetFunctionConcurrency', { FunctionName })).toEqual({});

    const DestinationConfig = { OnSuccess: {}, OnFailure: { Destination: `${arn}:letters` } };
    await does('PutFunctionEventInvokeConfig', { FunctionName, MaximumRetryAttempts: 1, DestinationConfig });
    await does('UpdateFunctionEventInvokeConfig', { FunctionName, MaximumEventAgeInSeconds: 120 });
    expect(await does('GetFunctionEventInvokeConfig', { FunctionName })).toMatchObject({
      MaximumRetryAttempts: 1,
      MaximumEventAgeInSeconds: 120,
      DestinationConfig,
    });
    const foreign = { OnSuccess: { Destination: `${arn}:not-to-be-called` } };
    expect(await fails('PutFunctionEventInvokeConfig', { FunctionName, DestinationConfig: foreign })).toMatchObject({
      code: 'AccessDeniedException',
    });
    const queue = { OnFailure: { Destination: 'arn:aws:sqs:us-east-1:123456789012:letters' } };
    expect(await fails('PutFunctionEventInvokeConfig', { FunctionName, DestinationConfig: queue })).toMatchObject({
      error: 'InvalidParameterValueException',
    });
    await does('DeleteFunctionEventInvokeConfig', { FunctionName });
    expect(await fails('GetFunctionEventInvokeConfig', { FunctionName })).toMatchObject({
      error: 'ResourceNotFoundException',
    });

    const Cors = { AllowOrigins: ['https://www.example.com'], MaxAge: 60 };
    const url = await does('CreateFunctionUrlConfig', { FunctionName, AuthType: 'AWS_IAM', Cors });
    expect(url).toMatchObject({
      FunctionUrl: expect.stringMatching(/^https:\/\/\w+-settings-[0-9a-f]{8}\.default\.fn\.example\.com\/$/),
      AuthType: 'AWS_IAM',
      InvokeMode: 'BUFFERED',
      Cors,
    });
    expect(await fails('CreateFunctionUrlConfig', { FunctionName, AuthType: 'AWS_IAM' })).toMatchObject({
      error: 'ResourceConflictException',
    });
    await does('UpdateFunctionUrlConfig', { FunctionName, InvokeMode: 'RESPONSE_STREAM' });
    expect(await does('ListFunctionUrlConfigs', { FunctionName })).toMatchObject({
      FunctionUrlConfigs: [{ FunctionUrl: url.FunctionUrl, InvokeMode: 'RESPONSE_STREAM', Cors }],
    });
    await does('DeleteFunctionUrlConfig', { FunctionName });
    expect(await fails('GetFunctionUrlConfig', { FunctionName })).toMatchObject({ error: 'ResourceNotFoundException' });

    const Resource = `${arn}:${FunctionName}`;
    await does('TagResource', { Resource, Tags: { team: 'red', note: 'two words' } });
    await does('UntagResource', { Resource, TagKeys: ['team'] });
    expect(await does('ListTags', { Resource })).toEqual({ Tags: { note: 'two words' } });
    expect(await does('GetAccountSettings')).toMatchObject({ AccountUsage: expect.any(Object) });
    await does('DeleteFunction', { FunctionName });
  }, 120_000);

  it('what cannot be honoured is refused by its name, and nothing is written', async () => {
    const base = { FunctionName: `${prefix}-refused`, Role: ROLE, PackageType: 'Image', Code: { ImageUri: 'a:1' } };
    const cases: readonly (readonly [Readonly<Record<string, unknown>>, string])[] = [
      [{ ...base, PackageType: 'Zip', Code: { S3Bucket: 'bucket', S3Key: 'key' } }, 'PackageType'],
      [{ ...base, Code: { ImageUri: 'a:1', S3Bucket: 'bucket' } }, 'S3Bucket'],
      [{ ...base, Runtime: 'python3.13' }, 'Runtime'],
      [{ ...base, Layers: ['arn:aws:lambda:us-east-1:123456789012:layer:x:1'] }, 'Layers'],
      [{ ...base, VpcConfig: { SubnetIds: ['subnet-1'], SecurityGroupIds: [] } }, 'VpcConfig'],
      [{ ...base, TracingConfig: { Mode: 'Active' } }, 'TracingConfig'],
      [{ ...base, ImageConfig: { WorkingDirectory: '/app' } }, 'ImageConfig.WorkingDirectory'],
      [{ ...base, Code: { ImageUri: 'https://registry.example/a:1' } }, 'image'],
    ];
    for (const [input, name] of cases) {
      expect(await fails('CreateFunction', input)).toMatchObject({
        error: 'InvalidParameterValueException',
        modeled: true,
        message: expect.stringContaining(name),
      });
    }
    expect(await objectOf(base.FunctionName)).toBeUndefined();
    const unsupported = await fails('AddPermission', {
      FunctionName: 'any',
      StatementId: 'one',
      Action: 'lambda:InvokeFunction',
      Principal: '*',
    });
    expect(unsupported.message).toContain('kubectl create rolebinding');
  });

  it('a caller without the right is refused, and nothing is written', async () => {
    const FunctionName = `${prefix}-denied`;
    await create(FunctionName);
    const before = await present(FunctionName);
    const denied: readonly (readonly [string, Readonly<Record<string, unknown>>])[] = [
      [
        'CreateFunction',
        { FunctionName: `${prefix}-new`, Role: ROLE, PackageType: 'Image', Code: { ImageUri: 'a:1' } },
      ],
      ['UpdateFunctionCode', { FunctionName, ImageUri: 'a:1' }],
      ['UpdateFunctionConfiguration', { FunctionName, Timeout: 1 }],
      ['PublishVersion', { FunctionName }],
      ['CreateAlias', { FunctionName, Name: 'live', FunctionVersion: '1' }],
      ['PutFunctionConcurrency', { FunctionName, ReservedConcurrentExecutions: 0 }],
      ['TagResource', { Resource: `${arn}:${FunctionName}`, Tags: { a: 'b' } }],
      ['DeleteFunction', { FunctionName }],
      ['DeleteFunction', { FunctionName, Qualifier: '1' }],
      ['DeleteFunction', { FunctionName: 'nobody' }],
    ];
    for (const [operation, input] of denied) {
      expect(await fails(operation, input, READER), operation).toMatchObject({
        code: 'AccessDeniedException',
        httpStatus: 403,
      });
    }
    const after = await present(FunctionName);
    expect(after.spec).toEqual(before.spec);
    expect(after.metadata.generation).toBe(before.metadata.generation);
    expect(after.metadata.annotations).toEqual(before.metadata.annotations);
    expect(await objectOf(`${prefix}-new`)).toBeUndefined();
    await does('DeleteFunction', { FunctionName });
  }, 60_000);
});

describe('one object', () => {
  const call = async (operation: string, input: Readonly<Record<string, unknown>>) =>
    answered(await lab.callers.javaScript.call(operation, input, { credentials: EDITOR })).output;
  const manifest = (name: string, spec: object, template: object): string =>
    functionManifest(name, { ...spec, template: { spec: template } });
  const managerOf = async (name: string, ...path: readonly string[]): Promise<readonly string[]> => {
    const text = await lab.api.kubectl(['get', 'lf', name, '-o', 'json', '--show-managed-fields']);
    const { metadata } = JSON.parse(text) as LambdaFunction;
    const owns = (fields: unknown): boolean =>
      path.reduce<unknown>((at, field) => (at as Record<string, unknown> | undefined)?.[`f:${field}`], fields) !==
      undefined;
    return (metadata.managedFields ?? []).filter(({ fieldsV1 }) => owns(fieldsV1)).map(({ manager = '' }) => manager);
  };
  const memory = ['spec', 'template', 'spec', 'resources', 'limits', 'memory'];

  it('is written by the Lambda API and by kubectl, each the fields that it names', async () => {
    const FunctionName = 'shared';
    await call('CreateFunction', {
      FunctionName,
      Role: ROLE,
      PackageType: 'Image',
      Code: { ImageUri: 'registry.example/hello:1' },
      MemorySize: 256,
    });
    // Defaults of the schema are of no manager: a manifest may name them without a conflict.
    await lab.api.kubectl(
      ['apply', '--server-side', '-f', '-'],
      manifest(
        FunctionName,
        { scaling: { spareWorkers: 2 } },
        { image: 'registry.example/hello:1', timeoutSeconds: 20 },
      ),
    );
    await call('UpdateFunctionConfiguration', { FunctionName, Environment: { Variables: { A: '1' } } });
    expect(await present(FunctionName)).toMatchObject({
      spec: {
        scaling: { mode: 'Auto', spareWorkers: 2 },
        template: {
          spec: { timeoutSeconds: 20, env: [{ name: 'A', value: '1' }], resources: { limits: { memory: '256Mi' } } },
        },
      },
    });
    expect(await managerOf(FunctionName, ...memory)).toEqual(['esb-control']);
    expect(await managerOf(FunctionName, 'spec', 'template', 'spec', 'timeoutSeconds')).toEqual(['kubectl']);
    // The same manifest again changes nothing that the API has written.
    await lab.api.kubectl(
      ['apply', '--server-side', '-f', '-'],
      manifest(
        FunctionName,
        { scaling: { spareWorkers: 2 } },
        { image: 'registry.example/hello:1', timeoutSeconds: 20 },
      ),
    );
    expect((await present(FunctionName)).spec.template.spec.env).toEqual([{ name: 'A', value: '1' }]);
    // A field of both: the API takes it, and the next apply of the manifest is told.
    await call('UpdateFunctionConfiguration', { FunctionName, Timeout: 30 });
    await expect(
      lab.api.kubectl(
        ['apply', '--server-side', '-f', '-'],
        manifest(
          FunctionName,
          {},
          { image: 'registry.example/hello:1', timeoutSeconds: 20, terminationGracePeriodSeconds: 20 },
        ),
      ),
    ).rejects.toThrow(/conflict with "esb-control".*timeoutSeconds/s);
    await lab.api.kubectl(['scale', `lf/${FunctionName}`, '--replicas=3']);
    await call('UpdateFunctionConfiguration', { FunctionName, MemorySize: 300 });
    expect((await present(FunctionName)).spec.scaling.minWorkers).toBe(3);
    await call('DeleteFunction', { FunctionName });
  }, 60_000);

  it('made by kubectl apply is changed by the API, with variables out of Secrets untouched', async () => {
    const FunctionName = 'applied';
    const secret = { name: 'PASSWORD', valueFrom: { secretKeyRef: { name: 'secret', key: 'password' } } };
    const written = manifest(
      FunctionName,
      {},
      { image: 'registry.example/hello:1', timeoutSeconds: 20, env: [secret, { name: 'A', value: '1' }] },
    );
    await lab.api.kubectl(['apply', '-f', '-'], written);
    expect(await call('GetFunctionConfiguration', { FunctionName })).toMatchObject({
      Environment: { Variables: { A: '1' } },
    });
    await call('UpdateFunctionConfiguration', { FunctionName, Environment: { Variables: { B: '2' } } });
    const { env } = (await present(FunctionName)).spec.template.spec;
    expect(env).toMatchObject([secret, { name: 'B', value: '2' }]);
    // As kubectl does with every object: the manifest has the last word on what it names.
    await lab.api.kubectl(['apply', '-f', '-'], written);
    expect(await call('GetFunctionConfiguration', { FunctionName })).toMatchObject({
      Timeout: 20,
      Environment: { Variables: { A: '1' } },
    });
    await call('DeleteFunction', { FunctionName });
  }, 60_000);

  it('is refused for workers that were made by hand', async () => {
    const worker = {
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaWorker',
      metadata: { name: 'by-hand', namespace: 'default' },
      spec: { image: 'registry.example/hello:1' },
    };
    await lab.api.kubectl(['apply', '-f', '-'], JSON.stringify(worker));
    const input = { FunctionName: 'by-hand', Timeout: 5 };
    await waitFor('the gateway to know the worker', async () => {
      const outcome = await lab.callers.javaScript.call('UpdateFunctionConfiguration', input, { credentials: EDITOR });
      return outcome.kind === 'refused' && outcome.message.includes('made by hand');
    });
    await lab.api.kubectl(['delete', 'lw', 'by-hand', '--wait=false']);
  });

  it('tells in the log of the gateway who has written it', async () => {
    expect(lab.log()).toMatch(/"caller":"editor","operation":"CreateFunction".*"function written"/);
  });
});

it('the account of the gateway may write functions of its namespace, and nothing else', async () => {
  const may = async (verb: string, what: string, namespace = 'default'): Promise<string> => {
    const [resource = '', subresource = ''] = what.split('/');
    const of = [resource, `--subresource=${subresource}`, `--namespace=${namespace}`];
    const args = ['auth', 'can-i', verb, ...of, '--as=esb:gateway'];
    // Exits with 1 where the answer is no.
    const answer = await lab.api.kubectl(args).catch(() => 'no');
    return answer.trim();
  };
  for (const verb of ['get', 'create', 'patch', 'delete']) {
    expect(await may(verb, 'lambdafunctions.esb.dev'), verb).toBe('yes');
    expect(await may(verb, 'lambdafunctions.esb.dev', 'kube-system'), verb).toBe('no');
    expect(await may(verb, 'lambdaworkers.esb.dev'), verb).toBe('no');
    expect(await may(verb, 'secrets'), verb).toBe('no');
    expect(await may(verb, 'pods'), verb).toBe('no');
  }
  for (const [verb, resource] of [
    ['update', 'lambdafunctions.esb.dev'],
    ['deletecollection', 'lambdafunctions.esb.dev'],
    ['patch', 'lambdafunctions.esb.dev/status'],
    ['create', 'lambdaversions.esb.dev'],
    ['patch', 'lambdaversions.esb.dev'],
    ['impersonate', 'users'],
    ['impersonate', 'groups'],
    ['create', 'serviceaccounts/token'],
    ['create', 'rolebindings.rbac.authorization.k8s.io'],
  ] as const) {
    expect(await may(verb, resource), `${verb} ${resource}`).toBe('no');
  }
}, 120_000);

describe('docs/how-to/aws-tools.md', () => {
  it('shows what it says, from the first right to the end of the function', async () => {
    const lines = shellBlocksOf(textOf('docs/how-to/aws-tools.md')).join('\n').split('\n');
    const script = lines.map((line) => line.replace(/^aws lambda/, `${lab.clients.python} -m awscli lambda`));
    expect(script.length).toBeGreaterThan(20);
    const { stdout } = await run('bash', ['-e', '-o', 'pipefail', '-c', ['exec 2>&1', ...script].join('\n')], {
      timeoutMs: 240_000,
      env: {
        ...pythonEnvironment(lab.clients),
        PATH: `${toolsFolder()}:${process.env.PATH ?? ''}`,
        KUBECONFIG: lab.api.adminKubeconfig,
        AWS_ENDPOINT_URL_LAMBDA: lab.url,
        AWS_ACCESS_KEY_ID: DEPLOYER.accessKeyId,
        AWS_SECRET_ACCESS_KEY: DEPLOYER.secretAccessKey,
        AWS_DEFAULT_REGION: 'us-east-1',
        AWS_MAX_ATTEMPTS: '1',
        AWS_PAGER: '',
      },
    });
    for (const wanted of [
      /"State": "Pending"/,
      /"CodeSha256": "[0-9a-f]{64}"/,
      /"GREETING": "hello"/,
      /"Version": "1"/,
      /"AliasArn": "arn:aws:lambda:us-east-1:012345678912:function:greeter:live"/,
      /\[\s+"Active",\s+"Successful"\s+\]/,
      /^greeter +\w+ +Auto +\d/m,
      /lambdafunction.esb.dev\/greeter scaled/,
      /^2 deployer/m,
    ]) {
      expect(stdout).toMatch(wanted);
    }
    expect(await objectOf('greeter')).toBeUndefined();
  }, 300_000);
});
