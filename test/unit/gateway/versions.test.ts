import {
  GetAliasCommand,
  GetFunctionCommand,
  GetFunctionConfigurationCommand,
  InvokeWithResponseStreamCommand,
  ListAliasesCommand,
  paginateListFunctions,
  paginateListVersionsByFunction,
} from '@aws-sdk/client-lambda';
import { describe, expect, it } from 'vitest';
import type { EffectiveAlias, LambdaFunction } from '../../../src/api/lambda-function.ts';
import { functionFixture, versionFixture } from '../../support/function-fixture.ts';
import { type GatewayLab, gatewayLab } from '../../support/gateway-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const arn = 'arn:aws:lambda:us-east-1:012345678912:function:hello';

function ofAliases(...aliases: readonly EffectiveAlias[]): LambdaFunction {
  return functionFixture({
    spec: { description: 'says hello', aliases: aliases.map((alias) => ({ ...alias })) as never },
    status: { latestVersion: 3, aliases },
  });
}

/** A gateway with the function `hello`: workers of $LATEST, 1 and 2, and a version 3 without any. */
async function lab(options: Parameters<typeof gatewayLab>[0] = {}): Promise<GatewayLab> {
  const made = await gatewayLab(options);
  const { agent } = made;
  agent.onInvoke((call) => call.answer(JSON.stringify(call.request.worker.name)));
  await made.addWorker('hand', { functionName: 'hello' });
  await made.addWorker('hello-1-0', { functionName: 'hello', version: 1 });
  await made.addWorker('hello-2-0', { functionName: 'hello', version: 2 });
  const owner = ofAliases({ name: 'live', version: 1, routing: [{ version: 2, permille: 100 }] });
  for (const version of [1, 2, 3]) {
    made.versions.put(versionFixture(owner, version));
  }
  made.functions.put(owner);
  return made;
}

async function called(made: GatewayLab, name: string, Qualifier?: string): Promise<string> {
  const answer = await made.invoke(name, Qualifier === undefined ? {} : { Qualifier });
  return `${JSON.parse(Buffer.from(answer.Payload ?? []).toString())} ${answer.ExecutedVersion}`;
}

describe('a call with a qualifier', () => {
  it('goes to workers of its version alone, in each form', async () => {
    const made = await lab();
    expect(await called(made, 'hello')).toBe('hand $LATEST');
    expect(await called(made, 'hello', '$LATEST')).toBe('hand $LATEST');
    expect(await called(made, 'hello', '1')).toBe('hello-1-0 1');
    expect(await called(made, 'hello:2')).toBe('hello-2-0 2');
    expect(await called(made, `${arn}:1`)).toBe('hello-1-0 1');
    expect(await called(made, '012345678912:function:hello:live')).toMatch(/^hello-[12]-0 [12]$/);
  });

  it('goes by the weights of an alias, and tells which version has run', async () => {
    let hundredth = 0;
    const made = await lab({ gateway: { random: () => hundredth / 100 } });
    const versions: string[] = [];
    for (; hundredth < 100; hundredth += 1) {
      versions.push((await called(made, 'hello', 'live')).slice(-1));
    }
    expect(versions.filter((version) => version === '2')).toHaveLength(10);
    expect(versions.filter((version) => version === '1')).toHaveLength(90);
  });

  it('is answered in words of Lambda where there is no such version or alias', async () => {
    const made = await lab();
    for (const qualifier of ['7', 'nope', '$LATEST.PUBLISHED']) {
      await expect(called(made, 'hello', qualifier)).rejects.toMatchObject({
        name: 'ResourceNotFoundException',
        message: `Function not found: ${arn}:${qualifier}`,
      });
    }
    made.versions.setCurrent(false);
    await expect(called(made, 'hello', 'nope')).rejects.toMatchObject({ name: 'ServiceException' });
    expect(await called(made, 'hello', '1')).toBe('hello-1-0 1');
  });

  it('is refused for a version without workers that no alias names, and says what to do', async () => {
    const made = await lab();
    await expect(called(made, 'hello', '3')).rejects.toMatchObject({
      name: 'ServiceException',
      message: expect.stringContaining('name the version by an alias') as string,
    });
  });

  it('waits out the change of an alias, whichever of its workers is gone first', async () => {
    const made = await lab();
    made.functions.put(ofAliases({ name: 'live', version: 1 }));
    made.workers.remove({ namespace: 'default', name: 'hello-1-0' });
    const waiting = called(made, 'hello', 'live');
    await waitFor('the call to wait', () => made.gateway.view.worker('uid-of-hello-1-0') === undefined);
    made.functions.put(ofAliases({ name: 'live', version: 2 }));
    expect(await waiting).toBe('hello-2-0 2');
  });

  it('streams with the version that runs', async () => {
    const made = await lab();
    const answer = await made.client.send(
      new InvokeWithResponseStreamCommand({ FunctionName: 'hello', Qualifier: '2' }),
    );
    expect(answer.ExecutedVersion).toBe('2');
    for await (const _event of answer.EventStream ?? []) {
      // The whole answer is read.
    }
  });

  it('keeps its qualifier as an Event', async () => {
    const made = await lab();
    await made.invoke('hello', { InvocationType: 'Event', Qualifier: '2' });
    await waitFor('the event to run', () => made.agent.calls.some(({ worker }) => worker.name === 'hello-2-0'));
    await expect(made.invoke('hello', { InvocationType: 'Event', Qualifier: 'nope' })).rejects.toMatchObject({
      name: 'ResourceNotFoundException',
    });
  });
});

describe('operations that read', () => {
  it('describe the version that is named, with or without workers', async () => {
    const { client } = await lab();
    const one = await client.send(new GetFunctionConfigurationCommand({ FunctionName: 'hello', Qualifier: 'live' }));
    expect(one).toMatchObject({
      FunctionArn: `${arn}:live`,
      Version: '1',
      Description: 'says hello',
      CodeSha256: '1'.repeat(64),
    });
    const three = await client.send(new GetFunctionCommand({ FunctionName: 'hello:3' }));
    expect(three.Configuration).toMatchObject({ Version: '3', State: 'Active', LastUpdateStatus: 'Successful' });
    expect(three.Code?.ImageUri).toMatch(/@sha256:3{64}$/);
    const latest = await client.send(new GetFunctionConfigurationCommand({ FunctionName: 'hello' }));
    expect(latest).toMatchObject({ Version: '$LATEST', Description: 'says hello' });
    await expect(client.send(new GetFunctionCommand({ FunctionName: 'hello:9' }))).rejects.toMatchObject({
      name: 'ResourceNotFoundException',
    });
  });

  it('list versions and aliases in their order, by pages', async () => {
    const { client } = await lab();
    const versions: unknown[] = [];
    for await (const page of paginateListVersionsByFunction({ client, pageSize: 3 }, { FunctionName: 'hello' })) {
      versions.push(...(page.Versions ?? []).map(({ FunctionArn, Version }) => [FunctionArn, Version]));
    }
    expect(versions).toEqual(['$LATEST', '1', '2', '3'].map((version) => [`${arn}:${version}`, version]));
    const all: unknown[] = [];
    for await (const page of paginateListFunctions({ client, pageSize: 2 }, { FunctionVersion: 'ALL' })) {
      all.push(...(page.Functions ?? []).map(({ Version }) => Version));
    }
    expect(all).toEqual(['$LATEST', '1', '2', '3']);
    const { Aliases: aliases } = await client.send(new ListAliasesCommand({ FunctionName: 'hello' }));
    expect(aliases).toMatchObject([
      {
        AliasArn: `${arn}:live`,
        Name: 'live',
        FunctionVersion: '1',
        RoutingConfig: { AdditionalVersionWeights: { 2: 0.1 } },
      },
    ]);
    expect(await client.send(new GetAliasCommand({ FunctionName: 'hello', Name: 'live' }))).toMatchObject({
      Name: 'live',
    });
    const none = await client.send(new ListAliasesCommand({ FunctionName: 'hello', FunctionVersion: '2' }));
    expect(none.Aliases).toEqual([]);
    await expect(client.send(new GetAliasCommand({ FunctionName: 'hello', Name: 'no' }))).rejects.toMatchObject({
      message: `Cannot find alias arn: ${arn}:no`,
    });
  });

  it('list every function once by pages, also one whose name begins with the name of another', async () => {
    const made = await lab();
    await made.addWorker('other', { functionName: 'hello-again' });
    const all: unknown[] = [];
    for await (const page of paginateListFunctions({ client: made.client, pageSize: 2 }, { FunctionVersion: 'ALL' })) {
      all.push(...(page.Functions ?? []).map(({ FunctionName, Version }) => `${FunctionName} ${Version}`));
    }
    expect(all).toEqual(['hello $LATEST', 'hello 1', 'hello 2', 'hello 3', 'hello-again $LATEST']);
  });

  it('describe a function of versions alone by its template', async () => {
    const made = await lab({ maxWaitMs: 100 });
    made.workers.remove({ namespace: 'default', name: 'hand' });
    const latest = await made.client.send(new GetFunctionConfigurationCommand({ FunctionName: 'hello' }));
    expect(latest).toMatchObject({ Version: '$LATEST', State: 'Pending' });
    await expect(called(made, 'hello')).rejects.toMatchObject({ name: 'ResourceConflictException' });
  });
});
