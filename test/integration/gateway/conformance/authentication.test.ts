import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runAws } from '../../../support/aws-command.ts';
import { type ConformanceLab, parsed, startConformanceLab } from '../../../support/conformance-lab.ts';
import { answered, type Credentials, type LambdaCaller, refused } from '../../../support/lambda-caller.ts';
import { waitFor } from '../../../support/wait-for.ts';
import { manifestList } from '../../../support/worker-manifests.ts';

/** Secrets of no worth, made of the names of their keys. */
function keyOf(accessKeyId: string, more: Partial<Credentials> = {}): Credentials {
  return {
    accessKeyId,
    secretAccessKey: createHash('sha256').update(accessKeyId).digest('base64url').slice(0, 40),
    ...more,
  };
}

const caller = keyOf('CALLER');
const reader = keyOf('READER');
const temporary = keyOf('TEMPORARY', { sessionToken: 'a token that goes with the signature' });
const expired = keyOf('EXPIRED');

let lab: ConformanceLab;

beforeAll(async () => {
  lab = await startConformanceLab();
  await lab.apply('hello');
  await lab.apply('other');
  const entry = (key: Credentials, more: object): string =>
    JSON.stringify({ secretAccessKey: key.secretAccessKey, ...more });
  const metadata = (name: string): object => ({ name, namespace: 'default' });
  const rbac = 'rbac.authorization.k8s.io';
  const grant = (user: string, rules: readonly object[]): readonly object[] => [
    { apiVersion: `${rbac}/v1`, kind: 'Role', metadata: metadata(user), rules },
    {
      apiVersion: `${rbac}/v1`,
      kind: 'RoleBinding',
      metadata: metadata(user),
      roleRef: { apiGroup: rbac, kind: 'Role', name: user },
      subjects: [{ apiGroup: rbac, kind: 'User', name: user }],
    },
  ];
  const items = [
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: metadata('esb-access-keys'),
      stringData: {
        [caller.accessKeyId]: entry(caller, { user: 'caller' }),
        [reader.accessKeyId]: entry(reader, { user: 'reader' }),
        [temporary.accessKeyId]: entry(temporary, { user: 'caller', sessionToken: temporary.sessionToken }),
        [expired.accessKeyId]: entry(expired, { user: 'caller', expires: '2020-01-01T00:00:00Z' }),
      },
    },
    ...grant('caller', [
      {
        apiGroups: ['esb.dev'],
        resources: ['lambdaworkers/invoke'],
        resourceNames: ['hello'],
        verbs: ['create'],
      },
    ]),
    ...grant('reader', [{ apiGroups: ['esb.dev'], resources: ['lambdaworkers'], verbs: ['get', 'list'] }]),
  ];
  await lab.agentLab.api.kubectl(['apply', '-f', '-'], manifestList(items));
  await lab.restartGateway(['--authentication=on']);
  await waitFor('the gateway to let the key in', async () => {
    const call = { FunctionName: 'hello', InvocationType: 'DryRun' };
    const outcome = await lab.callers.javaScript.call('Invoke', call, { credentials: caller });
    return outcome.kind === 'answered';
  });
});

afterAll(() => lab?.close());

describe.each(['javaScript', 'boto3'] as const)('signed by %s', (which) => {
  let sdk: LambdaCaller;
  beforeAll(() => {
    sdk = lab.callers[which];
  });
  const call = { FunctionName: 'hello', Payload: '{"echo":"ü"}' };

  it.each([
    ['a call', call],
    ['a call by ARN', { ...call, FunctionName: 'arn:aws:lambda:us-east-1:123456789012:function:hello' }],
    ['a call with a qualifier', { ...call, Qualifier: '$LATEST' }],
    ['a call with nothing in it', { FunctionName: 'hello' }],
    ['a call of 6 MB', { ...call, Payload: JSON.stringify({ x: 'x'.repeat(6_291_448) }) }],
  ])('%s is let in', async (_what, input) => {
    const { output } = answered(await sdk.call('Invoke', input, { credentials: caller }));
    expect(output.StatusCode).toBe(200);
  });

  it('a call with a session token is let in, and without it is not', async () => {
    const { output } = answered(await sdk.call('Invoke', call, { credentials: temporary }));
    expect(parsed(output.Payload).echo).toBe('ü');
    const { accessKeyId, secretAccessKey } = temporary;
    const outcome = await sdk.call('Invoke', call, { credentials: { accessKeyId, secretAccessKey } });
    expect(refused(outcome)).toMatchObject({ code: 'UnrecognizedClientException', httpStatus: 403 });
  });

  it('the same call twenty times at once is let in each time', async () => {
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, () => sdk.call('Invoke', call, { credentials: caller })),
    );
    expect(outcomes.map((outcome) => answered(outcome).output.StatusCode)).toEqual(
      Array.from({ length: 20 }, () => 200),
    );
  });

  it('an Event and a DryRun are let in', async () => {
    for (const [InvocationType, status] of [
      ['Event', 202],
      ['DryRun', 204],
    ]) {
      const outcome = await sdk.call('Invoke', { ...call, InvocationType }, { credentials: caller });
      expect(answered(outcome).httpStatus).toBe(status);
    }
  });

  it('reads are let in, with names and markers in path and query', async () => {
    const options = { credentials: reader };
    const arn = 'arn:aws:lambda:us-east-1:012345678912:function:hello';
    const one = answered(await sdk.call('GetFunction', { FunctionName: arn, Qualifier: '$LATEST' }, options));
    expect(one.output.Configuration).toMatchObject({ FunctionName: 'hello' });
    expect(answered(await sdk.call('ListTags', { Resource: arn }, options)).output).toEqual({ Tags: {} });
    expect(await sdk.pages('ListFunctions', { MaxItems: 1 }, options)).toHaveLength(2);
  });

  it.each([
    ['MissingAuthenticationTokenException', 'a call that is not signed', { unsigned: true }],
    [
      'InvalidSignatureException',
      'a signature by another secret',
      { credentials: { ...caller, secretAccessKey: keyOf('another').secretAccessKey } },
    ],
    ['UnrecognizedClientException', 'an access key that nobody knows', { credentials: keyOf('NOBODY') }],
    ['ExpiredTokenException', 'an access key that has run out', { credentials: expired }],
  ])('%s (403) refuses %s', async (error, _what, options) => {
    const outcomes = [
      await sdk.call('Invoke', call, options),
      await sdk.call('GetFunction', { FunctionName: 'hello' }, options),
      await sdk.call('DeleteFunction', { FunctionName: 'hello' }, options),
    ];
    for (const outcome of outcomes) {
      expect(refused(outcome)).toMatchObject({ code: error, httpStatus: 403 });
    }
  });

  it('IncompleteSignatureException (400) refuses a signature that lacks its half', async () => {
    const headers = {
      Authorization: 'AWS4-HMAC-SHA256 Credential=CALLER/20260101/us-east-1/lambda/aws4_request',
    };
    const outcome = await sdk.call('Invoke', call, { unsigned: true, headers });
    expect(refused(outcome)).toMatchObject({ code: 'IncompleteSignatureException', httpStatus: 400 });
  });

  it.each([
    ['a function of others', 'Invoke', { FunctionName: 'other' }, caller, 'lambda:InvokeFunction'],
    ['a function that there is not', 'Invoke', { FunctionName: 'nobody' }, caller, 'lambda:InvokeFunction'],
    ['a call by one who may read', 'Invoke', { FunctionName: 'hello' }, reader, 'lambda:InvokeFunction'],
    ['a read by one who may call', 'GetFunction', { FunctionName: 'hello' }, caller, 'lambda:GetFunction'],
    ['a list to one who may call', 'ListFunctions', {}, caller, 'lambda:ListFunctions'],
  ])('AccessDeniedException (403) refuses %s', async (_what, operation, input, credentials, action) => {
    const refusal = refused(await sdk.call(operation, input, { credentials }));
    expect(refusal).toMatchObject({ code: 'AccessDeniedException', httpStatus: 403 });
    expect(refusal.message).toContain(`is not authorized to perform: ${action}`);
  });
});

describe('signed by the AWS command line', () => {
  it('a call is let in, and by a key that nobody knows it is not', async () => {
    const args = ['get-function-configuration', '--function-name', 'hello'];
    const read = await runAws(lab.clients, lab.gateway.url, args, reader);
    expect(read).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('"FunctionName": "hello"') });
    const stranger = await runAws(lab.clients, lab.gateway.url, args, keyOf('NOBODY'));
    expect(stranger.exitCode).toBe(255);
    expect(stranger.stderr).toContain('(UnrecognizedClientException)');
  });
});
