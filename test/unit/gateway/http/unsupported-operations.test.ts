import * as sdk from '@aws-sdk/client-lambda';
import { CreateFunctionCommand, PublishVersionCommand } from '@aws-sdk/client-lambda';
import { expect, it } from 'vitest';
import type { Access } from '../../../../src/gateway/access/access.ts';
import { operationsOf } from '../../../../src/gateway/http/function-routes.ts';
import { invokeOperations } from '../../../../src/gateway/http/invoke-route.ts';
import { lambdaOperations } from '../../../../src/gateway/lambda/generated/operations.ts';
import { LambdaError } from '../../../../src/gateway/lambda/lambda-error.ts';
import { gatewayLab } from '../../../support/gateway-lab.ts';
import { ALICE, keyedAccess } from '../../../support/keyed-access.ts';
import { signedRequest } from '../../../support/signed-request.ts';
import { apiRoutes, sendBody } from '../../../support/worst-bodies.ts';

/** Share a path with another operation, and are told from it by the query. */
const ALIKE = ['ListProvisionedConcurrencyConfigs', 'GetLayerVersionByArn'];

it('every operation of the SDK is known by its name', () => {
  const all = Object.keys(sdk)
    .filter((name) => /^[A-Z].*Command$/.test(name) && name !== '$Command')
    .map((name) => name.slice(0, -'Command'.length));
  const known = new Set<string>([
    ...invokeOperations.map(({ name }) => name),
    ...ALIKE,
    ...operationsOf(false).map(({ name }) => name),
  ]);
  expect(all.length).toBeGreaterThan(80);
  expect(all.filter((name) => !known.has(name))).toEqual([]);
});

it('each one that is not supported says what to do with kubectl instead, and is not worth trying again', async () => {
  const lab = await gatewayLab();
  const refused = operationsOf(false).filter(({ action }) => action === undefined);
  expect(refused.length).toBeGreaterThan(60);
  for (const { name } of refused) {
    const { method, path } = lambdaOperations[name];
    const answer = await fetch(`${lab.url}${path.replaceAll(/:\w+/g, 'x')}`, {
      method,
      ...(method === 'GET' ? {} : { body: '{}' }),
    });
    expect(answer.status, name).toBe(400);
    expect(answer.headers.get('x-amzn-errortype')).toBe('UnsupportedOperationException');
    expect(answer.headers.get('x-amzn-requestid')).toMatch(/^[0-9a-f-]{36}$/);
    expect(await answer.json()).toMatchObject({
      Type: 'User',
      message: expect.stringMatching(new RegExp(`^${name} is not supported\\. .*kubectl`)),
    });
  }
});

it('the SDK raises it', async () => {
  const lab = await gatewayLab();
  const input = { FunctionName: 'hello', Role: 'arn:aws:iam::123456789012:role/r', Code: { ImageUri: 'i' } };
  for (const command of [new CreateFunctionCommand(input), new PublishVersionCommand(input)]) {
    await expect(lab.client.send(command as CreateFunctionCommand)).rejects.toMatchObject({
      name: 'UnsupportedOperationException',
      message: expect.stringContaining('kubectl'),
    });
  }
});

it('a body that an operation does not take changes no answer to its signer', async () => {
  const lab = await gatewayLab({ gateway: { access: keyedAccess() } });
  const port = Number(new URL(lab.url).port);
  const statusOf = async ({ method, path }: (typeof apiRoutes)[number], how: 'announced' | 'chunked', text: string) => {
    const body = Buffer.from(text);
    const { rawHeaders } = await signedRequest(ALICE, { method, path, body, applyChecksum: how === 'announced' });
    const lines = rawHeaders.flatMap((name, at) => (at % 2 === 0 ? [`${name}: ${rawHeaders[at + 1]}`] : []));
    return await sendBody(port, { method, path, headers: lines }, body, how);
  };
  const routes = apiRoutes.filter(({ method }) => method === 'GET');
  expect(routes.length).toBeGreaterThan(30);
  for (const route of routes) {
    const status = await statusOf(route, 'announced', '');
    expect(status, route.operation).not.toBe(403);
    expect(await statusOf(route, 'announced', '{}'), route.operation).toBe(status);
    expect(await statusOf(route, 'chunked', '{}'), route.operation).toBe(status);
  }
});

it('strangers are refused as strangers', async () => {
  const access: Access = {
    identify() {
      throw new LambdaError('MissingAuthenticationTokenException', 'Missing Authentication Token');
    },
    authorize: () => undefined,
  };
  const lab = await gatewayLab({ gateway: { access } });
  const answer = await fetch(`${lab.url}/2015-03-31/functions`, { method: 'POST', body: '{}' });
  expect(answer.status).toBe(403);
  expect(answer.headers.get('x-amzn-errortype')).toBe('MissingAuthenticationTokenException');
});
