import { request } from 'node:http';
import { describe, expect, it, onTestFinished } from 'vitest';
import { silentLogger } from '../../../src/common/logger.ts';
import { createGatewayAccess } from '../../../src/gateway/gateway-access.ts';
import { secrets } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { gatewayFlags } from '../../../src/options/gateway.ts';
import { startFakeApiServer } from '../../support/fake-api-server.ts';
import { type FastClock, fastClock } from '../../support/fast-clock.ts';
import { functionFixture, versionFixture } from '../../support/function-fixture.ts';
import { ALICE } from '../../support/keyed-access.ts';
import { optionsOf } from '../../support/options.ts';
import {
  invokePath,
  presignedRequest,
  type RequestToSign,
  type Signer,
  signedRequest,
  type WholeRequest,
} from '../../support/signed-request.ts';
import { urlSettings } from '../../support/url-lab.ts';
import { waitFor } from '../../support/wait-for.ts';
import { type WritingLab, writingLab } from '../../support/writing-lab.ts';

const signer = (accessKeyId: string): Signer => ({
  accessKeyId,
  secretAccessKey: `secret-of-${accessKeyId}`.padEnd(40),
});
/** May call and change the function `mine`, and create functions. */
const MALLORY = signer('AKIDMALLORY');
/** May do what ALICE may, by a key whose time is over. */
const FORMER = signer('AKIDFORMER');
/** Has every right, and a key in the namespace `staging`. */
const STAGING = signer('AKIDSTAGING');

type Port = 'Lambda API' | 'function URLs';

interface Reply {
  readonly status: number;
  /** Name of the error; empty for none. */
  readonly error: string;
  readonly text: string;
}

/** A gateway of `default` with all that callers reach: the Lambda API with its writes, and function URLs. */
interface World {
  readonly lab: WritingLab;
  readonly clock: FastClock;
  /** Rights that somebody has had, and has no more. */
  readonly taken: Set<string>;
  /** Functions whose worker has had a call. */
  ran(): readonly string[];
  send(request: WholeRequest, port?: Port): Promise<Reply>;
}

const OWN_RIGHTS = ['create lambdaworkers/invoke mine', 'patch lambdafunctions mine', 'create lambdafunctions '];

/** Judges as an API server: tokens are `audience/user`, and everybody but MALLORY has every right. */
function reviews(taken: ReadonlySet<string>): KubeClient['create'] {
  return async (_type, object) => {
    const { audiences = [], resourceAttributes, token, user } = (object as { spec?: Review }).spec ?? {};
    if (token === undefined) {
      const { name = '', resource, subresource, verb } = resourceAttributes ?? {};
      const right = `${verb} ${resource}${subresource === undefined ? '' : `/${subresource}`} ${name}`;
      const isOwn = user !== 'mallory' || OWN_RIGHTS.includes(right);
      return { ...object, status: { allowed: isOwn && !taken.has(`${user}: ${right}`) } };
    }
    const [audience = '', username = ''] = token.split('/');
    const status =
      username === 'over'
        ? { authenticated: false, error: 'token has expired' }
        : { authenticated: audiences.includes(audience), audiences: [audience], user: { username } };
    return { ...object, status };
  };
}

interface Review {
  readonly token?: string;
  readonly audiences?: readonly string[];
  readonly user?: string;
  readonly resourceAttributes?: Readonly<Record<'name' | 'resource' | 'subresource' | 'verb', string | undefined>>;
}

async function world(isPublic = true): Promise<World> {
  const api = await startFakeApiServer();
  const real = createKubeClient({ source: api.source });
  const entry = ({ secretAccessKey }: Signer, user: string, more = {}) =>
    Buffer.from(JSON.stringify({ secretAccessKey, user, ...more })).toString('base64');
  const ofDefault = {
    [ALICE.accessKeyId]: entry(ALICE, 'alice'),
    [MALLORY.accessKeyId]: entry(MALLORY, 'mallory'),
    [FORMER.accessKeyId]: entry(FORMER, 'alice', { expires: '2026-01-01T00:00:00Z' }),
  };
  api.put(secrets, { metadata: { name: 'esb-access-keys', namespace: 'default' }, data: ofDefault });
  const ofStaging = { [STAGING.accessKeyId]: entry(STAGING, 'alice') };
  api.put(secrets, { metadata: { name: 'esb-access-keys', namespace: 'staging' }, data: ofStaging });
  const taken = new Set<string>();
  const clock = fastClock(1);
  const callers = await createGatewayAccess({
    flags: optionsOf(gatewayFlags, []),
    namespace: 'default',
    client: new Proxy(real, {
      get: (target, name) => (name === 'create' ? reviews(taken) : Reflect.get(target, name).bind(target)),
    }),
    clock,
    logger: silentLogger(),
    isApiServerAway: () => false,
  });
  onTestFinished(async () => {
    await callers.stop();
    await real.close();
    await api.stop();
  });
  const urls = urlSettings({ isPublic: () => isPublic });
  const lab = await writingLab({ gateway: { access: callers.access, urls } });
  const urlPort = await lab.gateway.listenForUrls({ host: '127.0.0.1', port: 0 });
  callers.start({ host: '', port: 0 });
  const alias = { name: 'live', version: 1 };
  const secret = functionFixture({
    name: 'secret',
    spec: { aliases: [alias] as never, url: { authType: 'AWS_IAM', invokeMode: 'BUFFERED' } },
    status: { latestVersion: 1, aliases: [alias] },
  });
  lab.versions.put(versionFixture(secret, 1));
  lab.functions.put(secret);
  lab.functions.put(functionFixture({ name: 'mine', spec: { url: { authType: 'AWS_IAM', invokeMode: 'BUFFERED' } } }));
  lab.functions.put(functionFixture({ name: 'open', spec: { url: { authType: 'NONE', invokeMode: 'BUFFERED' } } }));
  await lab.addWorker('secret');
  await lab.addWorker('secret-1-0', { functionName: 'secret', version: 1 });
  await lab.addWorker('mine');
  await lab.addWorker('open');
  await waitFor('the keys', () => callers.health().ok, { everyMs: 5 });
  return {
    lab,
    clock,
    taken,
    ran: () => lab.agent.calls.map(({ worker }) => worker.name.replace(/-1-0$/, '')),
    send: (each, port = 'Lambda API') => send(port === 'Lambda API' ? Number(new URL(lab.url).port) : urlPort, each),
  };
}

/** Sends a request as it was made. */
function send(port: number, { body, headers, method, url }: WholeRequest): Promise<Reply> {
  const { promise, reject, resolve } = Promise.withResolvers<Reply>();
  const sent = request({ host: '127.0.0.1', port, method, path: url, headers, agent: false }, (answer) => {
    const chunks: Buffer[] = [];
    answer.on('data', (chunk: Buffer) => chunks.push(chunk));
    answer.on('end', () =>
      resolve({
        status: answer.statusCode ?? 0,
        error: String(answer.headers['x-amzn-errortype'] ?? ''),
        text: Buffer.concat(chunks).toString(),
      }),
    );
  });
  sent.on('error', reject);
  sent.end(body);
  return promise;
}

type Attempt = (world: World) => Promise<Reply>;
type Refusal = readonly [status: number, error: string, reason: string];

/** A signed request of the function `secret`, or of what its options say. */
const signed =
  (by: Signer, options: RequestToSign = {}): Attempt =>
  async ({ send }) =>
    send(await signedRequest(by, { path: invokePath('secret'), body: '{}', ...options }));

const presigned =
  (by: Signer, options: Parameters<typeof presignedRequest>[1] = {}): Attempt =>
  async ({ send }) =>
    send(await presignedRequest(by, { path: invokePath('secret'), body: '{}', ...options }));

/** A request that ALICE has signed, and somebody has changed on its way. */
const changed =
  (change: (request: WholeRequest) => Partial<WholeRequest>, options: RequestToSign = {}): Attempt =>
  async ({ send }) => {
    const whole = await signedRequest(ALICE, { path: invokePath('secret'), body: '{}', ...options });
    return await send({ ...whole, ...change(whole) });
  };

/** A request of the function `secret` without a signature. */
const bare =
  (headers: Readonly<Record<string, string>> = {}): Attempt =>
  async ({ send }) => {
    const { body, method, url, ...rest } = await signedRequest(ALICE, { path: invokePath('secret'), body: '{}' });
    return await send({ ...rest, body, method, url, headers: { host: 'gateway.example', ...headers } });
  };

const HOST = 'secret.default.fn.example.com';

/** A request of a function URL. */
const ofUrl =
  (by: Signer | undefined, options: RequestToSign = {}, sentTo?: string): Attempt =>
  async ({ send }) => {
    const headers = { host: HOST, ...options.headers };
    const whole = await signedRequest(by ?? ALICE, { path: '/', method: 'GET', ...options, headers });
    const sent = { ...(by === undefined ? headers : whole.headers), host: sentTo ?? headers.host };
    return await send({ ...whole, headers: sent }, 'function URLs');
  };

const members = (by: Signer, method: string, path: string, body: object): Attempt =>
  signed(by, { method, path, body: JSON.stringify(body) });

const ARN = 'arn:aws:lambda:us-east-1:012345678912:function';
const to = (name: string) => ({ Destination: `${ARN}:${name}` });
const EVENTS = '/2019-09-25/functions/mine/event-invoke-config';
const URLS = '/2021-10-31/functions/secret/url';
const minutesAgo = (minutes: number): Date => new Date(Date.now() - minutes * 60_000);

const mayNot: Refusal = [403, 'AccessDeniedException', 'lambda:InvokeFunction'];
const mayNotChange: Refusal = [403, 'AccessDeniedException', 'lambda:UpdateFunction'];
const wrongSignature: Refusal = [403, 'InvalidSignatureException', 'does not match'];
const forbidden: Refusal = [403, '', '{"Message":"Forbidden"}'];

/** An attempt, its refusal, and the same by one who may; undefined where no caller may. */
type Row = readonly [what: string, attempt: Attempt, refusal: Refusal, control: Attempt | undefined, runs?: 0 | 1];

/** One request by MALLORY, and by ALICE. */
const both = (what: string, options: RequestToSign, runs: 0 | 1 = 1): Row => [
  what,
  signed(MALLORY, options),
  mayNot,
  signed(ALICE, options),
  runs,
];
const typed = (type: string): RequestToSign => ({ headers: { 'x-amz-invocation-type': type } });
const named = (name: string): RequestToSign => ({ path: invokePath(name) });

const withoutRight: readonly Row[] = [
  both('a call', {}),
  both('a call whose body is not hashed beforehand', { applyChecksum: false }),
  both('an Event', typed('Event')),
  both('a DryRun', typed('DryRun'), 0),
  both('a streamed call', { path: '/2021-11-15/functions/secret/response-streaming-invocations' }),
  both('an InvokeAsync', { path: '/2014-11-13/functions/secret/invoke-async' }),
  both('a call with another user in a header', { headers: { 'impersonate-user': 'alice', 'x-remote-user': 'alice' } }),
  both('a call of $LATEST', { query: { Qualifier: '$LATEST' } }),
  both('a call of a version', { query: { Qualifier: '1' } }),
  both('a call of an alias', named('secret:live')),
  both('a call by ARN', named(`${ARN}:secret`)),
  both('a call by the ARN of another account', named('arn:aws:lambda:eu-west-1:999999999999:function:secret')),
  both('a call by the ARN of an alias', named(`${ARN}:secret:live`)),
  both('a call by a part of an ARN', named('012345678912:function:secret')),
  both('a call by function:name', named('function:secret')),
  ['a presigned call', presigned(MALLORY), mayNot, presigned(ALICE)],
  [
    'a call with a token',
    bare({ authorization: 'Bearer esb-gateway.default/mallory' }),
    mayNot,
    bare({ authorization: 'Bearer esb-gateway.default/alice' }),
  ],
  [
    'a call with the namespace in its name',
    signed(MALLORY, named('default/secret')),
    [400, 'InvalidParameterValueException', 'functionName'],
    undefined,
  ],
  [
    'an Event after the right was taken away',
    async (world) => {
      const own = { ...named('mine'), ...typed('DryRun') };
      expect(await signed(MALLORY, own)(world)).toMatchObject({ status: 204 });
      world.taken.add('mallory: create lambdaworkers/invoke mine');
      world.clock.skip(60_001);
      return await signed(MALLORY, { ...named('mine'), ...typed('Event') })(world);
    },
    mayNot,
    signed(ALICE, { ...named('mine'), ...typed('Event') }),
  ],
];

const withoutProof: readonly Row[] = [
  ['nothing', bare(), [403, 'MissingAuthenticationTokenException', 'Missing'], signed(ALICE)],
  [
    'the key of another namespace',
    signed(STAGING),
    [403, 'UnrecognizedClientException', 'token included in the request is invalid'],
    signed(ALICE),
  ],
  [
    'the key of a caller with a secret that is not its own',
    signed({ ...ALICE, secretAccessKey: MALLORY.secretAccessKey }),
    wrongSignature,
    signed(ALICE),
  ],
  [
    'a session token that the key has not',
    signed({ ...ALICE, sessionToken: 'any' }),
    [403, 'UnrecognizedClientException', 'invalid'],
    signed(ALICE),
  ],
  ['a key whose time is over', signed(FORMER), [403, 'ExpiredTokenException', 'expired'], signed(ALICE)],
  [
    'a signature of 20 minutes ago',
    signed(ALICE, { signedAt: minutesAgo(20) }),
    [403, 'InvalidSignatureException', 'expired'],
    signed(ALICE, { signedAt: minutesAgo(4) }),
  ],
  [
    'a signature of a time to come',
    signed(ALICE, { signedAt: minutesAgo(-20) }),
    [403, 'InvalidSignatureException', 'not yet current'],
    signed(ALICE, { signedAt: minutesAgo(-4) }),
  ],
  [
    'a presigned URL that has run out',
    presigned(ALICE, { signedAt: minutesAgo(5), expiresSeconds: 200 }),
    [403, 'InvalidSignatureException', 'expired'],
    presigned(ALICE, { signedAt: minutesAgo(5), expiresSeconds: 400 }),
  ],
  [
    'a presigned URL that is to last longer than it was signed for',
    async ({ send }) => {
      const whole = await presignedRequest(ALICE, {
        path: invokePath('secret'),
        signedAt: minutesAgo(5),
        expiresSeconds: 200,
      });
      return await send({ ...whole, url: whole.url.replace('X-Amz-Expires=200', 'X-Amz-Expires=400') });
    },
    wrongSignature,
    undefined,
  ],
  [
    'a signature for another service',
    signed(ALICE, { service: 's3' }),
    [403, 'InvalidSignatureException', "correct service: 'lambda'"],
    signed(ALICE),
  ],
  [
    'a signature for the gateway of another namespace',
    signed(ALICE, { headers: { host: 'esb-gateway.staging.svc' } }),
    [403, 'InvalidSignatureException', 'no name of this gateway'],
    signed(ALICE),
  ],
  [
    'a signature of the call of another function',
    changed(() => ({ url: invokePath('secret') }), named('mine')),
    wrongSignature,
    changed(() => ({ url: invokePath('secret') })),
  ],
  [
    'a signature over another body',
    changed(() => ({ body: Buffer.from('[]') })),
    [403, 'InvalidSignatureException', 'signature'],
    signed(ALICE),
  ],
  [
    'a signature over another body that is hashed as it arrives',
    changed(() => ({ body: Buffer.from('[]') }), { applyChecksum: false }),
    wrongSignature,
    signed(ALICE, { applyChecksum: false }),
  ],
  [
    'a qualifier that was not signed',
    changed(({ url }) => ({ url: `${url}?Qualifier=live` })),
    wrongSignature,
    signed(ALICE, { query: { Qualifier: 'live' } }),
  ],
  [
    'an invocation type that was not signed',
    changed(({ headers }) => ({ headers: { ...headers, 'x-amz-invocation-type': 'Event' } })),
    [403, 'InvalidSignatureException', "must be a 'SignedHeader'"],
    signed(ALICE, typed('Event')),
  ],
  [
    'an invocation type in the query of a presigned URL',
    presigned(ALICE, { ...typed('Event'), hoist: true }),
    [400, 'IncompleteSignatureException', 'signed header'],
    presigned(ALICE, typed('Event')),
  ],
  [
    'two proofs at once',
    async ({ send }) => {
      const whole = await presignedRequest(ALICE, { path: invokePath('secret'), body: '{}' });
      return await send({ ...whole, headers: { ...whole.headers, authorization: 'Bearer esb-gateway.default/alice' } });
    },
    [400, 'IncompleteSignatureException', 'Only one way'],
    presigned(ALICE),
  ],
  ...['esb-gateway.staging', 'https://kubernetes.default.svc', ''].map(
    (audience): Row => [
      `a token for ${audience === '' ? 'nobody' : audience}`,
      bare({ authorization: `Bearer ${audience}/alice` }),
      [403, 'UnrecognizedClientException', 'invalid'],
      bare({ authorization: 'Bearer esb-gateway/alice' }),
    ],
  ),
  [
    'a token that has run out',
    bare({ authorization: 'Bearer esb-gateway.default/over' }),
    [403, 'ExpiredTokenException', 'expired'],
    bare({ authorization: 'Bearer esb-gateway.default/alice' }),
  ],
  [
    'the host of a function URL at the Lambda API',
    signed(ALICE, { headers: { host: HOST } }),
    [403, 'AccessDeniedException', 'function URL'],
    signed(ALICE),
  ],
];

const byUrl: readonly Row[] = [
  ['nothing', ofUrl(undefined), forbidden, ofUrl(ALICE)],
  ['a signature of one who may not', ofUrl(MALLORY), forbidden, ofUrl(ALICE)],
  ['a token', ofUrl(undefined, { headers: { authorization: 'Bearer esb-gateway/alice' } }), forbidden, ofUrl(ALICE)],
  ['the key of another namespace', ofUrl(STAGING), forbidden, ofUrl(ALICE)],
  [
    'a signature for the URL of another function',
    ofUrl(ALICE, { headers: { host: 'mine.default.fn.example.com' } }, HOST),
    [403, '', 'does not match'],
    ofUrl(ALICE),
  ],
  [
    'a signature for the Lambda API',
    ofUrl(ALICE, { path: invokePath('secret'), headers: { host: 'gateway.example' } }),
    forbidden,
    ofUrl(ALICE, { path: invokePath('secret') }),
  ],
  [
    'the host of another namespace',
    ofUrl(ALICE, { headers: { host: 'secret.staging.fn.example.com' } }),
    forbidden,
    ofUrl(ALICE),
  ],
  [
    'an open URL in a namespace that may have none',
    ofUrl(undefined, { headers: { host: 'open.default.fn.example.com' } }),
    forbidden,
    undefined,
  ],
];

const byWriting: readonly Row[] = [
  ...(['OnSuccess', 'OnFailure'] as const).flatMap((place) =>
    (['PUT', 'POST'] as const).map((method): Row => {
      const config = { DestinationConfig: { [place]: to('secret') } };
      return [
        `${place} of an own function, by ${method}`,
        members(MALLORY, method, EVENTS, config),
        mayNot,
        async (world) => {
          expect(await members(ALICE, 'PUT', EVENTS, {})(world)).toMatchObject({ status: 200 });
          return await members(ALICE, method, EVENTS, config)(world);
        },
        0,
      ];
    }),
  ),
  [
    'a URL for everybody',
    members(MALLORY, 'PUT', URLS, { AuthType: 'NONE' }),
    mayNotChange,
    members(ALICE, 'PUT', URLS, { AuthType: 'NONE' }),
    0,
  ],
  ['a further URL', members(MALLORY, 'POST', URLS, { AuthType: 'NONE' }), mayNotChange, undefined],
  [
    'a dead letter queue',
    members(MALLORY, 'PUT', '/2015-03-31/functions/mine/configuration', {
      DeadLetterConfig: { TargetArn: `${ARN}:secret` },
    }),
    [400, 'InvalidParameterValueException', 'DeadLetterConfig'],
    undefined,
  ],
  [
    'a permission',
    members(MALLORY, 'POST', '/2015-03-31/functions/secret/policy', {
      Action: 'lambda:InvokeFunction',
      Principal: '*',
    }),
    [400, 'UnsupportedOperationException', 'AddPermission'],
    undefined,
  ],
  [
    'an alias',
    members(MALLORY, 'POST', '/2015-03-31/functions/secret/aliases', { Name: 'mine', FunctionVersion: '1' }),
    mayNotChange,
    undefined,
  ],
];

describe.each<readonly [string, readonly Row[]]>([
  ['by one without the right', withoutRight],
  ['without a proof that holds', withoutProof],
  ['by URL', byUrl],
  ['by writing', byWriting],
])('%s, a function is not called by', (_how, rows) => {
  it.each(rows.map((row) => ({ what: row[0], row })))('$what', async ({ row }) => {
    const [what, attempt, [status, error, reason], control, runs = 1] = row;
    const made = await world(!what.startsWith('an open URL'));
    const reply = await attempt(made);
    expect(reply).toMatchObject({ status, error, text: expect.stringContaining(reason) });
    expect(made.ran()).toEqual([]);
    if (control === undefined) {
      return;
    }
    const { status: taken, text } = await control(made);
    expect(taken, text).toBeLessThan(300);
    await waitFor('the call of one who may', () => made.ran().length >= runs, { everyMs: 5 });
    expect(made.ran()).toHaveLength(runs);
  });
});
