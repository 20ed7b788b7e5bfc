import { describe, expect, it } from 'vitest';
import type { LambdaFunctionSpecUrl } from '../../../src/api/lambda-function.ts';
import { parseAccessKey } from '../../../src/gateway/access/access-keys.ts';
import { LambdaError } from '../../../src/gateway/lambda/lambda-error.ts';
import { functionFixture } from '../../support/function-fixture.ts';
import { ALICE, keyedAccess } from '../../support/keyed-access.ts';
import { presignedRequest, type RequestToSign, signedRequest } from '../../support/signed-request.ts';
import { eventsOf, HELLO, OPEN, type UrlCall, urlLab } from '../../support/url-lab.ts';

const SIGNED: LambdaFunctionSpecUrl = { authType: 'AWS_IAM', invokeMode: 'BUFFERED' };
const SESSION_KEY = parseAccessKey(
  ALICE.accessKeyId,
  JSON.stringify({ secretAccessKey: ALICE.secretAccessKey, user: 'alice', sessionToken: 'session' }),
);
const FORBIDDEN = { status: 403, body: '{"Message":"Forbidden"}' };

/** A call that the signer of the AWS SDK has signed. */
async function signed(request: RequestToSign = {}, by = ALICE): Promise<UrlCall> {
  const { body, headers, method, url } = await signedRequest(by, {
    path: '/',
    ...request,
    headers: { host: HELLO, ...request.headers },
  });
  const { host: _host, ...rest } = headers;
  return { method, path: url, headers: rest as Record<string, string>, ...(body.length === 0 ? {} : { body }) };
}

describe('a URL that nobody may call', () => {
  it.each([
    ['of no function', OPEN, { host: 'nobody.default.fn.example.com' }],
    ['of another namespace', OPEN, { host: 'hello.other.fn.example.com' }],
    ['of a function without one', null, {}],
    ['that wants a signature', SIGNED, {}],
    ['that wants a signature and gets a token', SIGNED, { headers: { authorization: 'Bearer x' } }],
    [
      'that wants a signature and gets none that makes sense',
      SIGNED,
      { headers: { authorization: 'AWS4-HMAC-SHA256 x' } },
    ],
  ] as const)('%s is answered as any other', async (_what, url, call) => {
    const lab = await urlLab(url, { gateway: { access: keyedAccess() } });
    expect(await lab.callUrl(call)).toMatchObject(FORBIDDEN);
    expect(lab.agent.calls).toEqual([]);
  });

  it.each([
    ['another method', { method: 'PROPFIND' }],
    ['a path with an empty part', { path: '/a//b' }],
    ['such a path and something like a signature', { path: '/a//b', headers: { authorization: 'AWS4-HMAC-SHA256 x' } }],
    ['a target that is all', { method: 'OPTIONS', path: '*' }],
  ])('answers %s as where there is no function', async (_what, call) => {
    const lab = await urlLab(SIGNED, { gateway: { access: keyedAccess() } });
    const { status, body } = await lab.callUrl({ ...call, host: 'nobody.default.fn.example.com' });
    expect(await lab.callUrl(call)).toMatchObject({ status, body });
    expect(lab.agent.calls).toEqual([]);
  });

  it('is one for everybody in a namespace without the label', async () => {
    let isPublic = false;
    const lab = await urlLab(OPEN, { urls: { isPublic: () => isPublic } });
    expect(await lab.callUrl()).toMatchObject(FORBIDDEN);
    isPublic = true;
    expect(await lab.callUrl()).toMatchObject({ status: 200 });
    isPublic = false;
    expect(await lab.callUrl()).toMatchObject(FORBIDDEN);
    expect(lab.agent.calls.length).toBe(1);
  });

  it('is none any more for the first request after the namespace got its label', async () => {
    let isPublic = false;
    const looks: string[] = [];
    const look = async (): Promise<void> => {
      await Promise.resolve();
      looks.push('look');
      isPublic = looks.length > 2;
    };
    const lab = await urlLab(OPEN, { urls: { isPublic: () => isPublic, look } });
    // A host without a function brings a look as well: the time of an answer tells no names.
    expect(await lab.callUrl({ host: 'nobody.default.fn.example.com' })).toMatchObject(FORBIDDEN);
    expect(await lab.callUrl()).toMatchObject(FORBIDDEN);
    expect(await lab.callUrl()).toMatchObject({ status: 200 });
    expect(await lab.callUrl()).toMatchObject({ status: 200 });
    expect(looks).toHaveLength(3);
  });

  it.each([
    ['no function', { host: 'nobody.default.fn.example.com' }],
    ['a URL that wants a signature', {}],
    ['such a URL and something like a signature', { headers: { authorization: 'AWS4-HMAC-SHA256 x' } }],
  ])('is answered for %s after a look: the time of an answer tells no names', async (_what, call) => {
    let isLooked = false;
    const look = async (): Promise<void> => {
      // The part that the test plays takes as long.
      await new Promise((resolve) => setTimeout(resolve, 50));
      isLooked = true;
    };
    const urls = { isPublic: () => false, look };
    const lab = await urlLab(SIGNED, { urls, gateway: { access: keyedAccess() } });
    expect(await lab.callUrl(call)).toMatchObject(FORBIDDEN);
    expect(isLooked).toBe(true);
  });

  it('is one of a second resource of a functionName: only the oldest has the URL, or none', async () => {
    const lab = await urlLab(null);
    const called = (name: string, seconds: number, url?: LambdaFunctionSpecUrl) =>
      functionFixture({
        name,
        metadata: { creationTimestamp: `2026-11-01T00:00:0${seconds}Z` },
        spec: { functionName: 'hello', ...(url === undefined ? {} : { url }) },
      });
    lab.functions.remove({ namespace: 'default', name: 'hello' });
    lab.functions.put(called('mine', 1));
    lab.functions.put(called('yours', 2, OPEN));
    const host = 'yours.default.fn.example.com';
    expect(await lab.callUrl({ host })).toMatchObject(FORBIDDEN);
    lab.functions.put(called('mine', 1, SIGNED));
    expect(await lab.callUrl({ host })).toMatchObject(FORBIDDEN);
    expect(lab.agent.calls).toEqual([]);
    lab.functions.remove({ namespace: 'default', name: 'mine' });
    expect(await lab.callUrl({ host })).toMatchObject({ status: 200 });
  });

  it('is one that wants signatures, where authentication is off', async () => {
    const lab = await urlLab(SIGNED);
    expect(await lab.callUrl(await signed())).toMatchObject(FORBIDDEN);
    // No byte of a body is waited for.
    const { body: _body, headers, ...call } = await signed({ method: 'POST', body: 'x' });
    const announced = { ...headers, 'content-length': '1000' };
    expect(await lab.callUrl({ ...call, headers: announced })).toMatchObject(FORBIDDEN);
    expect(lab.agent.calls).toEqual([]);
  });

  it('is none any more once the function or its URL is gone', async () => {
    const lab = await urlLab();
    expect(await lab.callUrl()).toMatchObject({ status: 200 });
    lab.functions.put(functionFixture());
    expect(await lab.callUrl()).toMatchObject(FORBIDDEN);
    lab.functions.put(functionFixture({ spec: { url: OPEN } }));
    expect(await lab.callUrl()).toMatchObject({ status: 200 });
    lab.functions.remove({ namespace: 'default', name: 'hello' });
    expect(await lab.callUrl()).toMatchObject(FORBIDDEN);
  });
});

describe('a URL that wants signatures', () => {
  it('takes what the signer of the AWS SDK has signed, and tells the function who it was', async () => {
    const lab = await urlLab(SIGNED, { gateway: { access: keyedAccess() } });
    for (const applyChecksum of [true, false]) {
      const call = await signed({
        method: 'POST',
        body: '{"a":1}',
        path: '/x',
        query: { b: `${applyChecksum}` },
        applyChecksum,
      });
      expect(await lab.callUrl(call)).toMatchObject({ status: 200 });
    }
    const [event] = eventsOf(lab);
    expect(event).toMatchObject({
      rawPath: '/x',
      requestContext: { accountId: '012345678912', authorizer: { iam: { accessKey: 'AKIDALICE', userId: 'alice' } } },
    });
    expect(event?.headers).not.toHaveProperty('authorization');
  });

  it('takes a presigned URL', async () => {
    const lab = await urlLab(SIGNED, { gateway: { access: keyedAccess() } });
    const { url } = await presignedRequest(ALICE, { method: 'GET', path: '/x', headers: { host: HELLO } });
    expect(await lab.callUrl({ path: url })).toMatchObject({ status: 200 });
  });

  it('does not show the proof of a presigned URL to the function', async () => {
    const lab = await urlLab(SIGNED, { gateway: { access: keyedAccess({ keys: { get: () => SESSION_KEY } }) } });
    const query = { a: '1', 'X-Amz-Meta': 'kept', b: 'x y' };
    const by = { ...ALICE, sessionToken: 'session' };
    const { url } = await presignedRequest(by, { method: 'GET', path: '/x', query, headers: { host: HELLO } });
    // Other spellings of the names mean the same to the gateway.
    const spelled = url
      .replace('X-Amz-Signature', 'X-Amz-%53ignature')
      .replace('X-Amz-Credential', '%58-Amz-Credential');
    for (const path of [url, spelled]) {
      expect(await lab.callUrl({ path })).toMatchObject({ status: 200 });
    }
    for (const event of eventsOf(lab)) {
      expect(event.queryStringParameters).toEqual(query);
      expect(String(event.rawQueryString).split('&').toSorted()).toEqual(['X-Amz-Meta=kept', 'a=1', 'b=x%20y']);
    }
    expect(lab.agent.calls).toHaveLength(2);
  });

  it.each([
    ['another body', { body: '{"a":2}' }],
    ['another path', { path: '/other' }],
    ['another method', { method: 'PUT' }],
  ])('refuses %s than was signed, and says why', async (_what, change) => {
    const lab = await urlLab(SIGNED, { gateway: { access: keyedAccess() } });
    const reply = await lab.callUrl({ ...(await signed({ method: 'POST', body: '{"a":1}' })), ...change });
    expect(reply.status).toBe(403);
    expect(reply.body).toContain('does not match');
    expect(lab.agent.calls).toEqual([]);
  });

  it('refuses a request that was signed for another host', async () => {
    const lab = await urlLab(SIGNED, { gateway: { access: keyedAccess() } });
    lab.functions.put(functionFixture({ name: 'other', spec: { url: SIGNED } }));
    expect(await lab.callUrl({ ...(await signed()), host: 'other.default.fn.example.com' })).toMatchObject({
      status: 403,
    });
  });

  it('asks for the right to invoke', async () => {
    const asked: unknown[] = [];
    const access = keyedAccess({
      reviewer: {
        authorize: (_principal, action, name) => {
          asked.push([action, name]);
          throw new LambdaError('AccessDeniedException', 'alice may not');
        },
      },
    });
    const lab = await urlLab(SIGNED, { gateway: { access } });
    expect(await lab.callUrl(await signed())).toMatchObject(FORBIDDEN);
    expect(asked).toEqual([['invoke', 'hello']]);
    expect(lab.agent.calls).toEqual([]);
  });
});
