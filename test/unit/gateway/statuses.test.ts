import * as sdk from '@aws-sdk/client-lambda';
import { expect, it } from 'vitest';
import { writeOperations } from '../../../src/gateway/http/control-routes.ts';
import { readOperations } from '../../../src/gateway/http/read-operations.ts';
import { lambdaOperations, type OperationName } from '../../../src/gateway/lambda/generated/operations.ts';
import { versionFixture } from '../../support/function-fixture.ts';
import { urlSettings } from '../../support/url-lab.ts';
import { minimal, settle, writingLab } from '../../support/writing-lab.ts';

const FunctionName = 'hello';
const Resource = `arn:aws:lambda:us-east-1:012345678912:function:${FunctionName}`;
const alias = { FunctionName, Name: 'live' };

/** Requests that succeed one after the other, from a function that is made to its end. */
const asked: readonly (readonly [name: OperationName, input: object])[] = [
  ['CreateFunction', minimal],
  ['UpdateFunctionCode', { FunctionName, ImageUri: 'registry.example/hello:1' }],
  ['UpdateFunctionConfiguration', { FunctionName, Timeout: 9 }],
  ['TagResource', { Resource, Tags: { a: 'b' } }],
  ['ListTags', { Resource }],
  ['UntagResource', { Resource, TagKeys: ['a'] }],
  ['CreateAlias', { ...alias, FunctionVersion: '1' }],
  ['UpdateAlias', { ...alias, Description: 'now' }],
  ['GetAlias', alias],
  ['ListAliases', { FunctionName }],
  ['PutProvisionedConcurrencyConfig', { FunctionName, Qualifier: 'live', ProvisionedConcurrentExecutions: 1 }],
  ['GetProvisionedConcurrencyConfig', { FunctionName, Qualifier: 'live' }],
  ['DeleteProvisionedConcurrencyConfig', { FunctionName, Qualifier: 'live' }],
  ['DeleteAlias', alias],
  ['PutFunctionConcurrency', { FunctionName, ReservedConcurrentExecutions: 1 }],
  ['GetFunctionConcurrency', { FunctionName }],
  ['DeleteFunctionConcurrency', { FunctionName }],
  ['PutFunctionEventInvokeConfig', { FunctionName, MaximumRetryAttempts: 1 }],
  ['UpdateFunctionEventInvokeConfig', { FunctionName, MaximumRetryAttempts: 0 }],
  ['GetFunctionEventInvokeConfig', { FunctionName }],
  ['ListFunctionEventInvokeConfigs', { FunctionName }],
  ['DeleteFunctionEventInvokeConfig', { FunctionName }],
  ['CreateFunctionUrlConfig', { FunctionName, AuthType: 'AWS_IAM' }],
  ['UpdateFunctionUrlConfig', { FunctionName, InvokeMode: 'RESPONSE_STREAM' }],
  ['GetFunctionUrlConfig', { FunctionName }],
  ['ListFunctionUrlConfigs', { FunctionName }],
  ['DeleteFunctionUrlConfig', { FunctionName }],
  ['GetFunction', { FunctionName }],
  ['GetFunctionConfiguration', { FunctionName }],
  ['GetFunctionRecursionConfig', { FunctionName }],
  ['ListFunctions', {}],
  ['ListVersionsByFunction', { FunctionName }],
  ['GetAccountSettings', {}],
  ['ListEventSourceMappings', {}],
  ['ListLayers', {}],
  ['ListCodeSigningConfigs', {}],
  ['DeleteFunction', { FunctionName }],
];
/** The status of this answer is a value of its own in the model, as that of Invoke. AWS answers a deletion by 204. */
const TOLD: ReadonlySet<string> = new Set(['DeleteFunction']);
/** Operations that find nothing here, and the one that waits for a controller. */
const ELSEWHERE = ['GetEventSourceMapping', 'GetPolicy', 'PublishVersion'];

it("each operation that succeeds is answered by the status of AWS's model", async () => {
  const lab = await writingLab({ gateway: { urls: urlSettings() } });
  for (const [name, input] of asked) {
    const Command = (sdk as unknown as Record<string, new (input: object) => sdk.GetFunctionCommand>)[`${name}Command`];
    const command = new (Command as NonNullable<typeof Command>)(input);
    const { $metadata } = await lab.client.send(command);
    const expected = TOLD.has(name) ? 204 : lambdaOperations[name].status;
    expect($metadata.httpStatusCode, name).toBe(expected);
    if (name === 'CreateFunction') {
      settle(lab);
      lab.versions.put(versionFixture(lab.object(), 1));
    }
  }
  const all = [...writeOperations, ...readOperations].map(({ name }) => name);
  expect([...asked.map(([name]) => name), ...ELSEWHERE].toSorted()).toEqual(all.toSorted());
});
