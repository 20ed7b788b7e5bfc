import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createProgress } from '../../../../src/cli/progress.ts';
import { type Boto3Caller, startBoto3 } from '../../../support/boto3-caller.ts';
import { answered, refused } from '../../../support/lambda-caller.ts';
import { ensurePythonClients } from '../../../support/python-clients.ts';

/** Answer of the server to every request. */
let reply: { readonly status: number; readonly body: unknown; readonly error?: string };
let server: Server;
let boto3: Boto3Caller;

beforeAll(async () => {
  server = createServer((_request, response) => {
    const headers = reply.error === undefined ? {} : { 'x-amzn-errortype': reply.error };
    response.writeHead(reply.status, headers).end(JSON.stringify(reply.body));
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', () => listening.resolve());
  await listening.promise;
  const clients = await ensurePythonClients(createProgress({ write: () => undefined }));
  boto3 = startBoto3(clients, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});

afterAll(async () => {
  await boto3?.close();
  server?.close();
});

it('the extract of the service model, of which the table of operations is made, is that of boto3', async () => {
  await expect(await boto3.extract()).toMatchFileSnapshot('../../../../hack/aws/lambda-model.json');
});

describe('the oracle of form', () => {
  const read = () => boto3.call('GetFunctionConfiguration', { FunctionName: 'hello' });

  it('has nothing to say of an answer that is as the service model has it', async () => {
    reply = { status: 200, body: { FunctionName: 'hello', State: 'Active', Timeout: 3, CodeSize: 0 } };
    expect(answered(await read()).output).toMatchObject({ FunctionName: 'hello', Timeout: 3 });
  });

  it.each([
    ['a member that there is not', { Colour: 'blue' }, 'has Colour, which the model does not have'],
    ['a member of another type', { Timeout: '3' }, 'Timeout is no integer'],
    ['a value that is none of an enumeration', { State: 'Sleepy' }, "State is 'Sleepy', which is none of"],
    ['a name that is none', { FunctionArn: 'hello there' }, 'which does not match'],
    ['a list that is none', { Architectures: 'x86_64' }, 'Architectures is no list'],
    ['a part that lacks what it must have', { EphemeralStorage: {} }, 'EphemeralStorage lacks Size'],
  ])('finds %s', async (_what, body, fault) => {
    reply = { status: 200, body };
    expect(refused(await read())).toMatchObject({
      error: 'ModelFault',
      message: expect.stringContaining(fault),
    });
  });

  const error = 'ResourceNotFoundException';
  it('has nothing to say of an error that is as the service model has it', async () => {
    reply = { status: 404, error, body: { __type: error, Type: 'User', Message: 'no' } };
    expect(refused(await read())).toMatchObject({ error, modeled: true, message: 'no', type: 'User' });
  });

  it.each([
    ['an error of another status', 400, { __type: error, Type: 'User', Message: 'no' }, 'is 400 and not 404'],
    ['an error of nobody', 404, { __type: error, Message: 'no' }, 'Type of ResourceNotFoundException is None'],
    ['an error by one name only', 404, { Type: 'User', Message: 'no' }, '__type is not'],
    ['a message that is spelled wrong', 404, { __type: error, Type: 'User', message: 'no' }, 'has no Message'],
  ])('finds %s', async (_what, status, body, fault) => {
    reply = { status, error, body };
    expect(refused(await read())).toMatchObject({
      error: 'ModelFault',
      message: expect.stringContaining(fault),
    });
  });
});
