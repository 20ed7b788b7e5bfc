import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { LambdaFunction } from '../../src/api/lambda-function.ts';
import { createProgress } from '../../src/cli/progress.ts';
import { runAws } from '../support/aws-command.ts';
import { startBoto3 } from '../support/boto3-caller.ts';
import { functionManifest } from '../support/function-manifest.ts';
import { createJavaScriptCaller } from '../support/javascript-caller.ts';
import { answered, type LambdaCaller } from '../support/lambda-caller.ts';
import { patience } from '../support/patience.ts';
import { ensurePythonClients } from '../support/python-clients.ts';
import { signedRequest } from '../support/signed-request.ts';
import { callUrl, type UrlReply } from '../support/url-lab.ts';
import { waitFor } from '../support/wait-for.ts';
import { type ControlGateway, startControlGateway, URL_DOMAIN } from './support/control-gateway.ts';
import { functionTimeout, instance } from './support/instance.ts';
import { stagedProgram } from './support/staged-function.ts';

const Role = 'arn:aws:iam::123456789012:role/any';
/** Tells which change of itself it is. */
const program = stagedProgram('os.environ["STAGE"]');

type Members = Readonly<Record<string, unknown>>;

describe('functions that AWS tools make on real workers', () => {
  const esb = instance();

  const objectOf = async (name: string): Promise<LambdaFunction> => {
    const { stdout } = await esb.kubectl(['get', 'lf', name, '-o', 'json', '--show-managed-fields']);
    return JSON.parse(stdout) as LambdaFunction;
  };
  /** Leaves nothing of a function behind, be the test over or not. */
  const removed = (name: string): void =>
    onTestFinished(async () => {
      await esb.kubectl(['delete', 'lf', name, '--ignore-not-found', `--timeout=${90 * patience()}s`]);
      await waitFor('the workers to be gone', async () => {
        const { stdout } = await esb.kubectl(['get', 'lw', '-l', `esb.dev/lambda-function=${name}`, '-o', 'name']);
        return stdout.trim() === '';
      });
    }, 180_000 * patience());
  /** An SDK, as the editor of a gateway. */
  const actions = (caller: LambdaCaller, { editor: credentials }: ControlGateway) => {
    const does = async (operation: string, input: Members) =>
      answered(await caller.call(operation, input, { credentials })).output;
    return {
      does,
      waits: (waiter: string, input: Members) => caller.wait(waiter, input, { credentials }),
      pages: (operation: string, input: Members) => caller.pages(operation, input, { credentials }),
      invokes: async (input: Members): Promise<unknown> => {
        const { FunctionError, Payload } = await does('Invoke', input);
        expect(FunctionError).toBeUndefined();
        return JSON.parse(Payload as string);
      },
    };
  };
  const created = (FunctionName: string, STAGE: string) => ({
    FunctionName,
    Role,
    PackageType: 'Image',
    Code: { ImageUri: esb.image('python-counter') },
    ImageConfig: { EntryPoint: ['python3', '-c', program], Command: ['stages.handler'] },
    Environment: { Variables: { STAGE } },
    Timeout: functionTimeout(),
    MemorySize: 256,
  });

  it('are created, changed, published, shared out and deleted by boto3, beside kubectl', async () => {
    const clients = await ensurePythonClients(createProgress({ write: () => undefined }));
    const gateway = await startControlGateway(esb);
    const boto3 = startBoto3(clients, gateway.url);
    onTestFinished(() => boto3.close());
    const { does, invokes, pages, waits } = actions(boto3, gateway);
    const FunctionName = 'made';
    removed(FunctionName);

    expect(await does('CreateFunction', created(FunctionName, 'one'))).toMatchObject({ State: 'Pending' });
    await waits('FunctionActiveV2', { FunctionName });
    expect(await invokes({ FunctionName })).toBe('one');

    // The same object by kubectl, in between: each owns what it names, and neither puts anything back.
    const manifest = functionManifest(
      FunctionName,
      { scaling: { maxWorkers: 4 }, template: { spec: { image: esb.image('python-counter') } } },
      { labels: { team: 'blue' } },
    );
    await esb.kubectl(['apply', '-f', '-'], { input: manifest });
    await does('UpdateFunctionConfiguration', { FunctionName, Environment: { Variables: { STAGE: 'two' } } });
    await waits('FunctionUpdatedV2', { FunctionName });
    // The end of the wait is the end of the change: no worker has the earlier one.
    expect(await Promise.all([1, 2, 3].map(() => invokes({ FunctionName })))).toEqual(['two', 'two', 'two']);
    await esb.kubectl(['apply', '-f', '-'], { input: manifest });
    const { metadata, spec } = await objectOf(FunctionName);
    expect(spec).toMatchObject({
      scaling: { mode: 'Auto', maxWorkers: 4 },
      template: { spec: { env: [{ name: 'STAGE', value: 'two' }], resources: { limits: { memory: '256Mi' } } } },
    });
    const managers = metadata.managedFields?.filter(({ subresource }) => subresource !== 'status') ?? [];
    expect(new Set(managers.map(({ manager }) => manager))).toEqual(
      new Set(['esb-control', 'kubectl-client-side-apply']),
    );
    expect(
      await does('ListTags', { Resource: `arn:aws:lambda:us-east-1:123456789012:function:${FunctionName}` }),
    ).toEqual({
      Tags: { team: 'blue' },
    });

    // An image that there is not ends the wait; calls go on, and the way back is a change like any other.
    await does('UpdateFunctionCode', { FunctionName, ImageUri: `${esb.registry}/none:1` });
    await expect(waits('FunctionUpdatedV2', { FunctionName })).rejects.toThrow();
    expect(await does('GetFunctionConfiguration', { FunctionName })).toMatchObject({
      State: 'Active',
      LastUpdateStatus: 'Failed',
      LastUpdateStatusReasonCode: 'InvalidImage',
    });
    expect(await invokes({ FunctionName })).toBe('two');
    await does('UpdateFunctionCode', { FunctionName, ImageUri: esb.image('python-counter') });
    await waits('FunctionUpdatedV2', { FunctionName });

    expect(await does('PublishVersion', { FunctionName })).toMatchObject({ Version: '1' });
    await does('UpdateFunctionConfiguration', { FunctionName, Environment: { Variables: { STAGE: 'three' } } });
    expect(await does('PublishVersion', { FunctionName })).toMatchObject({ Version: '2' });
    await waits('PublishedVersionActive', { FunctionName, Qualifier: '2' });
    const RoutingConfig = { AdditionalVersionWeights: { 2: 0.5 } };
    await does('CreateAlias', { FunctionName, Name: 'live', FunctionVersion: '1', RoutingConfig });
    const seen = new Set<unknown>();
    await waitFor('both versions to answer', async () => {
      const outcome = await boto3.call('Invoke', { FunctionName, Qualifier: 'live' }, { credentials: gateway.editor });
      if (outcome.kind === 'answered') {
        const { ExecutedVersion, Payload } = outcome.output;
        expect(Payload).toBe(ExecutedVersion === '2' ? '"three"' : '"two"');
        seen.add(ExecutedVersion);
      }
      return seen.size === 2;
    });
    expect(seen).toEqual(new Set(['1', '2']));

    const url = await does('CreateFunctionUrlConfig', { FunctionName, AuthType: 'AWS_IAM' });
    const host = `${FunctionName}.default.${URL_DOMAIN}`;
    expect(url.FunctionUrl).toBe(`https://${host}/`);
    const signed = async (): Promise<UrlReply> => {
      const { headers, method, url: path } = await signedRequest(gateway.editor, { path: '/', headers: { host } });
      return await callUrl(gateway.urlPort, { host, method, path, headers: headers as Record<string, string> });
    };
    await waitFor('the URL to be served', async () => (await signed()).status === 200);
    expect(await signed()).toMatchObject({ status: 200, body: '"three"' });
    expect(await callUrl(gateway.urlPort, { host })).toMatchObject({ status: 403 });

    const functions = await pages('ListFunctions', { MaxItems: 1 });
    expect(functions.flatMap(({ Functions }) => Functions as readonly Members[])).toContainEqual(
      expect.objectContaining({ FunctionName }),
    );
    const versions = await pages('ListVersionsByFunction', { FunctionName, MaxItems: 1 });
    expect(versions.flatMap(({ Versions }) => Versions as readonly Members[])).toMatchObject(
      ['$LATEST', '1', '2'].map((Version) => ({ Version })),
    );
    await does('DeleteFunction', { FunctionName });
    await waitFor('calls to find no function', async () => {
      const outcome = await boto3.call('Invoke', { FunctionName }, { credentials: gateway.editor });
      return outcome.kind === 'refused' && outcome.error === 'ResourceNotFoundException';
    });
    await waitFor('workers and versions to be gone', async () => {
      const { stdout } = await esb.kubectl([
        'get',
        'lw,lv',
        '-l',
        `esb.dev/lambda-function=${FunctionName}`,
        '-o',
        'name',
      ]);
      return stdout.trim() === '';
    });
  }, 600_000);

  it('are created, called and deleted by the AWS command line and the SDK for JavaScript', async () => {
    const clients = await ensurePythonClients(createProgress({ write: () => undefined }));
    const gateway = await startControlGateway(esb);
    const javaScript = createJavaScriptCaller(gateway.url);
    onTestFinished(() => javaScript.close());
    const { does, invokes, waits } = actions(javaScript, gateway);
    const FunctionName = 'typed';
    removed(FunctionName);
    const folder = await mkdtemp(join(tmpdir(), 'esb-typed-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const aws = async (...args: readonly string[]): Promise<string> => {
      const { exitCode, stderr, stdout } = await runAws(clients, gateway.url, args, gateway.editor);
      expect(stderr).toBe('');
      expect(exitCode).toBe(0);
      return stdout;
    };
    const input = JSON.stringify(created(FunctionName, 'one'));
    expect(JSON.parse(await aws('create-function', '--cli-input-json', input))).toMatchObject({ State: 'Pending' });
    await aws('wait', 'function-active-v2', '--function-name', FunctionName);
    await aws('invoke', '--function-name', FunctionName, join(folder, 'out.json'));
    expect(await readFile(join(folder, 'out.json'), 'utf8')).toBe('"one"');

    await does('UpdateFunctionConfiguration', { FunctionName, Environment: { Variables: { STAGE: 'two' } } });
    await waits('FunctionUpdatedV2', { FunctionName });
    expect(await invokes({ FunctionName })).toBe('two');

    const broken = { ...created('broken', 'one'), Code: { ImageUri: `${esb.registry}/none:1` } };
    removed('broken');
    await does('CreateFunction', broken);
    await expect(waits('FunctionActiveV2', { FunctionName: 'broken' })).rejects.toThrow();
    expect(await does('GetFunctionConfiguration', { FunctionName: 'broken' })).toMatchObject({
      State: 'Failed',
      StateReasonCode: 'InvalidImage',
    });
    await aws('delete-function', '--function-name', 'broken');
    await aws('delete-function', '--function-name', FunctionName);
  }, 300_000);
});
