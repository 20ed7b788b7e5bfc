import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type LambdaFunction, lambdaFunctions } from '../../../../src/api/lambda-function.ts';
import { createProgress } from '../../../../src/cli/progress.ts';
import { pythonEnvironment } from '../../../support/boto3-caller.ts';
import { run } from '../../../support/command.ts';
import { type ControlLab, digestOf, EDITOR, startControlLab } from '../../../support/control-lab.ts';
import { answered, refused } from '../../../support/lambda-caller.ts';
import { ensureZappa } from '../../../support/python-clients.ts';

const Role = 'arn:aws:iam::123456789012:role/lambda-role';

let lab: ControlLab;

beforeAll(async () => {
  lab = await startControlLab();
}, 180_000);

afterAll(() => lab?.close());

const call = (operation: string, input: Readonly<Record<string, unknown>>) =>
  lab.callers.javaScript.call(operation, input, { credentials: EDITOR });
const does = async (operation: string, input: Readonly<Record<string, unknown>>) =>
  answered(await call(operation, input)).output;
const objectOf = async (name: string): Promise<LambdaFunction | undefined> =>
  await lab.admin.get(lambdaFunctions, { namespace: 'default', name });
const minimal = (FunctionName: string) => ({
  FunctionName,
  Role,
  PackageType: 'Image',
  Code: { ImageUri: 'registry.example/hello:1' },
});

describe('of creations at one moment', () => {
  it('one holds, and all others are told', async () => {
    const sizes = [200, 201, 202, 203, 204, 205, 206, 207];
    const made = await Promise.all(
      sizes.map((MemorySize) => call('CreateFunction', { ...minimal('raced'), MemorySize })),
    );
    const held = made.filter(({ kind }) => kind === 'answered');
    expect(held).toHaveLength(1);
    const others = made.filter(({ kind }) => kind === 'refused').map(refused);
    expect(new Set(others.map(({ error }) => error))).toEqual(new Set(['ResourceConflictException']));
    const owner = await objectOf('raced');
    const memory = `${held.map((one) => answered(one).output.MemorySize).join()}Mi`;
    expect(owner?.spec.template.spec.resources.limits.memory).toBe(memory);
    expect(owner?.metadata.generation).toBe(1);
    await does('DeleteFunction', { FunctionName: 'raced' });
  });
});

describe('an alias', () => {
  it('has weights that are possible, and the function is as it was after any other', async () => {
    const FunctionName = 'weighed';
    await does('CreateFunction', { ...minimal(FunctionName), Publish: true });
    await does('UpdateFunctionConfiguration', { FunctionName, Timeout: 9 });
    await does('PublishVersion', { FunctionName });
    const before = await objectOf(FunctionName);
    for (const weights of [
      { 2: 1.5 },
      { 2: -0.1 },
      { 1: 0.5 },
      { 0: 0.5 },
      { $LATEST: 0.5 },
      { 2: 'half' },
      { 2: 0.0001 },
    ]) {
      const input = {
        FunctionName,
        Name: 'live',
        FunctionVersion: '1',
        RoutingConfig: { AdditionalVersionWeights: weights },
      };
      expect(await call('CreateAlias', input), JSON.stringify(weights)).toMatchObject({
        kind: 'refused',
        error: 'InvalidParameterValueException',
      });
    }
    expect((await objectOf(FunctionName))?.spec).toEqual(before?.spec);
    const all = {
      FunctionName,
      Name: 'live',
      FunctionVersion: '1',
      RoutingConfig: { AdditionalVersionWeights: { 2: 1 } },
    };
    expect(await does('CreateAlias', all)).toMatchObject({ RoutingConfig: { AdditionalVersionWeights: { 2: 1 } } });
    await does('DeleteFunction', { FunctionName });
  }, 60_000);
});

describe('a dry run', () => {
  it('is refused for what a change would be refused for', async () => {
    const FunctionName = 'tried';
    await does('CreateFunction', minimal(FunctionName));
    const before = await objectOf(FunctionName);
    const code = { FunctionName, DryRun: true };
    expect(
      refused(await call('UpdateFunctionCode', { ...code, ImageUri: 'https://registry.example/a:1' })),
    ).toMatchObject({
      error: 'InvalidParameterValueException',
    });
    await does('UpdateFunctionCode', { ...code, ImageUri: 'registry.example/hello:2' });
    expect((await objectOf(FunctionName))?.spec).toEqual(before?.spec);
    expect((await objectOf(FunctionName))?.metadata.annotations).toEqual(before?.metadata.annotations);
    await does('DeleteFunction', { FunctionName });
  });
});

describe('Zappa', () => {
  it('deploys an image, and updates code and settings of it', async () => {
    const clients = await ensureZappa(createProgress({ write: () => undefined }));
    const folder = await mkdtemp(join(tmpdir(), 'esb-zappa-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const zappa = async (command: string, image: string, settings: object): Promise<string> => {
      const stage = {
        project_name: 'zapped',
        lambda_handler: 'unused.handler',
        aws_region: 'us-east-1',
        s3_bucket: 'unused',
        role_arn: Role,
        // Gateways, schedules and roles are of other services than Lambda.
        apigateway_enabled: false,
        keep_warm: false,
        manage_roles: false,
        num_retained_versions: 1,
        ...settings,
      };
      await writeFile(join(folder, 'zappa_settings.json'), JSON.stringify({ prod: stage }));
      const args = ['-m', 'zappa.cli', command, 'prod', '--docker-image-uri', image];
      const { stderr, stdout } = await run(clients.python, args, {
        cwd: folder,
        timeoutMs: 120_000,
        mayFail: true,
        env: {
          ...pythonEnvironment(clients),
          HOME: folder,
          AWS_ENDPOINT_URL_LAMBDA: lab.url,
          AWS_ACCESS_KEY_ID: EDITOR.accessKeyId,
          AWS_SECRET_ACCESS_KEY: EDITOR.secretAccessKey,
        },
      });
      return stdout + stderr;
    };
    const FunctionName = 'zapped-prod';
    const variables = { environment_variables: {}, aws_environment_variables: { GREETING: 'hello' } };
    expect(await zappa('deploy', 'registry.example/hello:1', { timeout_seconds: 7, ...variables })).toContain(
      'Deployment complete!',
    );
    expect(await does('GetFunctionConfiguration', { FunctionName })).toMatchObject({
      State: 'Active',
      Timeout: 7,
      MemorySize: 512,
      Role,
      Environment: { Variables: { GREETING: 'hello' } },
    });
    expect(await does('ListVersionsByFunction', { FunctionName })).toMatchObject({
      Versions: [{ Version: '$LATEST' }, { Version: '1' }],
    });
    const settings = { timeout_seconds: 9, memory_size: 256, lambda_concurrency: 4, tags: { team: 'blue' } };
    expect(await zappa('update', 'registry.example/hello:2', settings)).toContain(
      'Your updated Zappa deployment is live!',
    );
    expect(await does('GetFunction', { FunctionName })).toMatchObject({
      Configuration: {
        CodeSha256: digestOf('registry.example/hello:2'),
        Timeout: 9,
        MemorySize: 256,
        Environment: { Variables: { GREETING: 'hello' } },
      },
      Concurrency: { ReservedConcurrentExecutions: 4 },
      Tags: { team: 'blue' },
    });
    // Of the versions it keeps the latest one.
    expect(await does('ListVersionsByFunction', { FunctionName })).toMatchObject({
      Versions: [{ Version: '$LATEST' }, { Version: '2' }],
    });
    await does('DeleteFunction', { FunctionName });
  }, 300_000);
});
