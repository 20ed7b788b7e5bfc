import { request } from 'node:http';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../src/common/clock.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { createGatewayAccess } from '../../../src/gateway/gateway-access.ts';
import { hostsOf } from '../../../src/gateway/url/function-urls.ts';
import { secrets } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { gatewayFlags } from '../../../src/options/gateway.ts';
import { startFakeApiServer } from '../../support/fake-api-server.ts';
import { functionFixture } from '../../support/function-fixture.ts';
import { ALICE } from '../../support/keyed-access.ts';
import { optionsOf } from '../../support/options.ts';
import { invokePath, presignedRequest, signedRequest, type WholeRequest } from '../../support/signed-request.ts';
import { type UrlLab, urlLab } from '../../support/url-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Names of the gateways of `default`: those that the chart gives them, and the host of their Ingress. */
const NAMES = [
  'esb-gateway',
  'esb-gateway.esb-system',
  'esb-gateway.esb-system.svc',
  'esb-gateway.esb-system.svc.cluster.local',
  'gateway.example.com',
];
const URLS = 'fn.example.com';

/** A gateway of `default` with both listeners, whose one key everybody uses in every namespace. */
async function gateway(): Promise<UrlLab> {
  const api = await startFakeApiServer();
  const real = createKubeClient({ source: api.source });
  const entry = JSON.stringify({ secretAccessKey: ALICE.secretAccessKey, user: 'alice' });
  api.put(secrets, {
    metadata: { name: 'esb-access-keys', namespace: 'default' },
    data: { [ALICE.accessKeyId]: Buffer.from(entry).toString('base64') },
  });
  const client = new Proxy(real, {
    get: (target, name) => (name === 'create' ? review : Reflect.get(target, name).bind(target)),
  });
  const flags = optionsOf(gatewayFlags, [...NAMES.map((name) => `--host=${name}`), `--function-url-domain=${URLS}`]);
  const callers = await createGatewayAccess({
    flags,
    namespace: 'default',
    client,
    clock: systemClock,
    logger: silentLogger(),
    isApiServerAway: () => false,
  });
  const lab = await urlLab(
    { authType: 'AWS_IAM', invokeMode: 'BUFFERED' },
    { urls: { domain: URLS }, gateway: { access: callers.access, hosts: hostsOf(flags) } },
  );
  await lab.addWorker('secret');
  lab.functions.put(functionFixture({ name: 'secret' }));
  callers.start({ host: '', port: 0 });
  onTestFinished(async () => {
    await callers.stop();
    await real.close();
    await api.stop();
  });
  await waitFor('the keys', () => callers.health().ok, { everyMs: 5 });
  return lab;
}

/** Tokens of the test are the names of their audiences, and everybody has every right. */
const review: KubeClient['create'] = async (_type, object) => {
  const { token, audiences = [] } = (object as { spec?: { token?: string; audiences?: readonly string[] } }).spec ?? {};
  const status =
    token === undefined
      ? { allowed: true }
      : { authenticated: audiences.includes(token), audiences: [token], user: { username: 'bob' } };
  return { ...object, status };
};

type Listener = 'Lambda API' | 'function URLs';
type Proof = (host: string, path: string) => Promise<WholeRequest>;

const withBody = { method: 'POST', body: '{}' };
const proofs: Readonly<Record<string, Proof>> = {
  'a signature over a stated hash': (host, path) => signedRequest(ALICE, { ...withBody, path, headers: { host } }),
  'a signature over the body': (host, path) =>
    signedRequest(ALICE, { ...withBody, path, headers: { host }, applyChecksum: false }),
  'a presigned URL': (host, path) => presignedRequest(ALICE, { method: 'POST', path, headers: { host } }),
};

/** Sends a request to a listener as it was made. */
function send(lab: UrlLab, listener: Listener, { body, headers, method, url }: WholeRequest) {
  const port = listener === 'Lambda API' ? Number(new URL(lab.url).port) : lab.urlPort;
  const { promise, reject, resolve } = Promise.withResolvers<{ readonly status: number; readonly body: string }>();
  const sent = request({ host: '127.0.0.1', port, method, path: url, headers, agent: false }, (answer) => {
    const chunks: Buffer[] = [];
    answer.on('data', (chunk: Buffer) => chunks.push(chunk));
    answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(chunks).toString() }));
  });
  sent.on('error', reject);
  sent.end(body);
  return promise;
}

const foreign: readonly (readonly [host: string, path: string])[] = [
  ...NAMES.map((name) => [name.replace(/^[a-z-]+/, '$&-staging'), invokePath('hello')] as const),
  ['esb-gateway.other-system.svc.cluster.local', invokePath('hello')],
  ['gateway.example.com.evil.example', invokePath('hello')],
  ['gateway.example.com,other', invokePath('hello')],
  [`hello.staging.${URLS}`, '/'],
  [`hello.staging.${URLS}`, invokePath('secret')],
];

describe.each(Object.entries(proofs))('%s', (_proof, make) => {
  it('of one namespace is refused by both listeners of another', async () => {
    const lab = await gateway();
    for (const [host, path] of foreign) {
      for (const listener of ['Lambda API', 'function URLs'] as const) {
        const { status } = await send(lab, listener, await make(host, path));
        expect({ host, listener, status }).toEqual({ host, listener, status: 403 });
      }
    }
    expect(lab.agent.calls).toEqual([]);
  });

  it('of one listener is refused by the other', async () => {
    const lab = await gateway();
    const ofUrl = await make(`hello.default.${URLS}`, invokePath('secret'));
    expect(await send(lab, 'Lambda API', ofUrl)).toMatchObject({
      status: 403,
      body: expect.stringContaining('AccessDeniedException'),
    });
    for (const name of NAMES) {
      expect(await send(lab, 'function URLs', await make(name, invokePath('hello')))).toMatchObject({ status: 403 });
    }
    expect(lab.agent.calls).toEqual([]);
  });

  it.each([
    ...NAMES,
    'ESB-Gateway.esb-system:9080',
    'gateway.example.com.',
    'localhost:9080',
    '10.0.0.1',
    '[::1]:9080',
  ])('for %s is taken by the gateway of that name', async (host) => {
    const lab = await gateway();
    expect(await send(lab, 'Lambda API', await make(host, invokePath('hello')))).toMatchObject({ status: 200 });
  });

  it('for the URL of a function is taken there', async () => {
    const lab = await gateway();
    expect(await send(lab, 'function URLs', await make(`hello.default.${URLS}`, '/'))).toMatchObject({ status: 200 });
  });
});

describe('a token', () => {
  it.each<[string, Listener, number]>([
    ['esb-gateway.staging', 'Lambda API', 403],
    ['https://kubernetes.default.svc', 'Lambda API', 403],
    ['esb-gateway.staging', 'function URLs', 403],
    ['esb-gateway.default', 'function URLs', 403],
    ['esb-gateway.default', 'Lambda API', 200],
  ])('for %s at the listener of %s is answered with %i', async (audience, listener, status) => {
    const lab = await gateway();
    const host = listener === 'Lambda API' ? 'gateway.example.com' : `hello.default.${URLS}`;
    const unsigned = await signedRequest(ALICE, { ...withBody, path: invokePath('hello') });
    const headers = { host, authorization: `Bearer ${audience}` };
    expect(await send(lab, listener, { ...unsigned, headers })).toMatchObject({ status });
  });
});

it('the Lambda API is served to nobody at the host of a function URL', async () => {
  const lab = await urlLab();
  const headers = { host: `hello.default.${URLS}:9080` };
  const unsigned = await signedRequest(ALICE, { ...withBody, path: invokePath('hello') });
  expect(await send(lab, 'Lambda API', { ...unsigned, headers })).toMatchObject({ status: 403 });
  expect(lab.agent.calls).toEqual([]);
});

it.each([
  [['--host=https://gateway.example.com/'], 'is not a name'],
  [['--host=api.fn.example.com', '--function-url-domain=fn.example.com'], 'is a host of function URLs'],
])('names %j are refused', (flags, message) => {
  expect(() => hostsOf(optionsOf(gatewayFlags, flags))).toThrow(message);
});
