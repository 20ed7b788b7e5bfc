import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { InvokeCommand, type LambdaClient, LambdaServiceException } from '@aws-sdk/client-lambda';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createProgress } from '../../../src/cli/progress.ts';
import { writeFileAtomically } from '../../../src/common/atomic-file.ts';
import { type AccessGateway, type AccessLab, sdk, sdkWith, startAccessLab } from '../../support/access-lab.ts';
import { startBoto3 } from '../../support/boto3-caller.ts';
import { createCertificateAuthority } from '../../support/certificate-authority.ts';
import { ensurePythonClients } from '../../support/python-clients.ts';
import { invokePath, presignedRequest } from '../../support/signed-request.ts';
import { waitFor } from '../../support/wait-for.ts';

let lab: AccessLab;

const alice = { accessKeyId: 'ALICE', secretAccessKey: 'the-secret-of-alice-0123456789-abcdefghi' };
const mallory = { accessKeyId: 'MALLORY', secretAccessKey: 'the-secret-of-mallory-0123456789-abcdefg' };
const temporary = {
  accessKeyId: 'TEMPORARY',
  secretAccessKey: 'a-secret-for-some-time-0123456789-abcdef',
  sessionToken: 'a session',
};

const keys = {
  ALICE: { secretAccessKey: alice.secretAccessKey, user: 'alice' },
  MALLORY: { secretAccessKey: mallory.secretAccessKey, user: 'mallory' },
  TEMPORARY: { ...temporary, user: 'alice' },
  OVER: { secretAccessKey: alice.secretAccessKey, user: 'alice', expires: '2020-01-01T00:00:00Z' },
};

/** Short, so that a test comes to see what is done when an answer is no longer good. */
const SHORT_CACHE = ['--access-cache=1'];
/** Three times as long. */
const CACHE_OVER_MS = 3_000;

beforeAll(async () => {
  lab = await startAccessLab();
  await lab.addFunction('hello');
  await lab.addFunction('other');
  await lab.keys(keys);
  await lab.allow('alice', { kind: 'User', name: 'alice' }, ['hello']);
});

afterAll(async () => {
  await lab?.stop();
});

async function invoke(client: LambdaClient, name = 'hello'): Promise<string> {
  const answer = await client.send(new InvokeCommand({ FunctionName: name, Payload: '{}' }));
  return Buffer.from(answer.Payload ?? []).toString();
}

/** Error that the SDK raises for a call: name, status and message. */
async function refusal(
  call: Promise<unknown>,
): Promise<{ readonly name: string; readonly status: number | undefined; readonly message: string }> {
  try {
    await call;
  } catch (error) {
    if (error instanceof LambdaServiceException) {
      return { name: error.name, status: error.$metadata.httpStatusCode, message: error.message };
    }
    throw error;
  }
  throw new Error('the call was not refused');
}

/** Waits until the gateway has the access keys. */
async function readyKeys(gateway: AccessGateway): Promise<void> {
  await waitFor('the keys to be read', () => invoke(sdk(gateway, { credentials: alice })));
}

describe('a gateway with authentication', () => {
  it('serves who has signed with a key of the Secret, whose user may call the function', async () => {
    const gateway = await lab.gateway();
    await readyKeys(gateway);
    expect(await invoke(sdk(gateway, { credentials: alice }))).toBe('"hi"');
    expect(await invoke(sdk(gateway, { credentials: temporary }))).toBe('"hi"');
    expect(await invoke(sdk(gateway, { credentials: alice, region: 'eu-central-1' }))).toBe('"hi"');
    expect(
      await invoke(
        sdk(gateway, { credentials: alice }),
        'arn:aws:lambda:us-east-1:123456789012:function:hello:$LATEST',
      ),
    ).toBe('"hi"');
    expect(gateway.log()).not.toContain(alice.secretAccessKey);
  });

  it('refuses unauthenticated, wrongly signed, expired and unauthorized calls with the errors of AWS', {
    tags: ['P31'],
  }, async () => {
    const gateway = await lab.gateway();
    await readyKeys(gateway);

    expect(await refusal(invoke(sdkWith(gateway, {})))).toMatchObject({
      name: 'MissingAuthenticationTokenException',
      status: 403,
      message: 'Missing Authentication Token',
    });
    expect(await refusal(invoke(sdkWith(gateway, { authorization: 'AWS4-HMAC-SHA256 Credential=x' })))).toMatchObject({
      name: 'IncompleteSignatureException',
      status: 400,
    });
    const wrong = { ...alice, secretAccessKey: mallory.secretAccessKey };
    expect(await refusal(invoke(sdk(gateway, { credentials: wrong })))).toMatchObject({
      name: 'InvalidSignatureException',
      status: 403,
      message: expect.stringContaining('The request signature we calculated does not match'),
    });
    const nobody = { ...alice, accessKeyId: 'NOBODY' };
    expect(await refusal(invoke(sdk(gateway, { credentials: nobody })))).toMatchObject({
      name: 'UnrecognizedClientException',
      status: 403,
      message: 'The security token included in the request is invalid.',
    });
    const over = { ...alice, accessKeyId: 'OVER' };
    expect(await refusal(invoke(sdk(gateway, { credentials: over })))).toMatchObject({
      name: 'ExpiredTokenException',
      status: 403,
    });
    for (const [offset, message] of [
      [-6 * 60_000, /^Signature expired: /],
      [6 * 60_000, /^Signature not yet current: /],
    ] as const) {
      const client = sdk(gateway, { credentials: alice, systemClockOffset: offset });
      expect(await refusal(invoke(client))).toMatchObject({
        name: 'InvalidSignatureException',
        status: 403,
        message: expect.stringMatching(message),
      });
    }
    expect(await refusal(invoke(sdk(gateway, { credentials: mallory })))).toMatchObject({
      name: 'AccessDeniedException',
      status: 403,
      message: expect.stringContaining('User: mallory is not authorized to perform: lambda:InvokeFunction'),
    });
    // Also of a function that there is not: who may not call it is not told.
    for (const name of ['other', 'no-such-function']) {
      expect(await refusal(invoke(sdk(gateway, { credentials: alice }), name))).toMatchObject({
        name: 'AccessDeniedException',
        status: 403,
      });
    }
  });

  it('lets the SDK try again at once, and correct its clock', async () => {
    const gateway = await lab.gateway();
    await readyKeys(gateway);
    let calls = 0;
    lab.agent.onInvoke((call) => {
      calls += 1;
      call.answer('"hi"');
    });
    const late = sdk(gateway, { credentials: alice, systemClockOffset: -3_600_000, maxAttempts: 3 });
    expect(await invoke(late)).toBe('"hi"');
    expect(calls).toBe(1);
  });

  it('serves equal calls of one second, by the SDK and by boto3, which signs nothing that tells them apart', async () => {
    const gateway = await lab.gateway();
    await readyKeys(gateway);
    const client = sdk(gateway, { credentials: alice });
    expect(new Set(await Promise.all(Array.from({ length: 50 }, () => invoke(client))))).toEqual(new Set(['"hi"']));
    const boto3 = startBoto3(await ensurePythonClients(createProgress({ write: () => undefined })), gateway.url);
    try {
      const input = { FunctionName: 'hello', Payload: Buffer.from('{}') };
      const answers = await Promise.all(
        Array.from({ length: 50 }, () => boto3.call('Invoke', input, { credentials: alice })),
      );
      expect(new Set(answers.map(({ kind }) => kind))).toEqual(new Set(['answered']));
      const wrong = { ...alice, secretAccessKey: mallory.secretAccessKey };
      expect(await boto3.call('Invoke', input, { credentials: wrong })).toMatchObject({
        kind: 'refused',
        code: 'InvalidSignatureException',
        httpStatus: 403,
      });
      expect(await boto3.call('Invoke', input, { credentials: mallory })).toMatchObject({
        kind: 'refused',
        code: 'AccessDeniedException',
        httpStatus: 403,
      });
    } finally {
      await boto3.close();
    }
  });

  it('serves presigned URLs, until they run out', async () => {
    const gateway = await lab.gateway();
    await readyKeys(gateway);
    const host = new URL(gateway.url).host;
    const post = async (signedAt: Date): Promise<Response> => {
      const { url } = await presignedRequest(alice, { headers: { host }, signedAt, expiresSeconds: 60 });
      return fetch(`${gateway.url}${url}`, { method: 'POST' });
    };
    const answer = await post(new Date());
    expect([answer.status, await answer.text()]).toEqual([200, '"hi"']);
    const late = await post(new Date(Date.now() - 61_000));
    expect([late.status, late.headers.get('x-amzn-errortype')]).toEqual([403, 'InvalidSignatureException']);
  });

  it('follows the Secret: a new key is good within a moment, and one that was removed is not', async () => {
    const gateway = await lab.gateway();
    await readyKeys(gateway);
    const fresh = { accessKeyId: 'FRESH', secretAccessKey: 'a-secret-that-is-new-0123456789-abcdefgh' };
    try {
      await lab.keys({ FRESH: { secretAccessKey: fresh.secretAccessKey, user: 'alice' } });
      await waitFor('the new key', () => invoke(sdk(gateway, { credentials: fresh })));
      expect(await refusal(invoke(sdk(gateway, { credentials: alice })))).toMatchObject({
        name: 'UnrecognizedClientException',
      });
    } finally {
      await lab.keys(keys);
    }
    await readyKeys(gateway);
  });

  it('knows service accounts by their tokens for this audience', async () => {
    const gateway = await lab.gateway(SHORT_CACHE);
    const user = 'system:serviceaccount:default:robot';
    await lab.api.kubectl(['create', 'serviceaccount', 'robot']);
    const token = (...flags: string[]): Promise<string> =>
      lab.api.kubectl(['create', 'token', 'robot', ...flags]).then((text) => text.trim());
    const robot = sdkWith(gateway, { authorization: `Bearer ${await token('--audience=esb-gateway')}` });
    expect(await refusal(invoke(robot))).toMatchObject({
      name: 'AccessDeniedException',
      message: expect.stringContaining(`User: ${user} is not authorized`),
    });
    await lab.allow('robots', { kind: 'Group', name: 'system:serviceaccounts:default' }, ['hello']);
    // A refusal is good for as long as an answer, and for ten seconds at most.
    await waitFor('the right to be seen', () => invoke(robot));
    const here = sdkWith(gateway, {
      authorization: `Bearer ${await token('--audience=esb-gateway.default')}`,
    });
    expect(await invoke(here)).toBe('"hi"');
    for (const other of [await token(), await token('--audience=esb-gateway.shop')]) {
      const elsewhere = sdkWith(gateway, { authorization: `Bearer ${other}` });
      expect(await refusal(invoke(elsewhere))).toMatchObject({
        name: 'UnrecognizedClientException',
        status: 403,
      });
    }
    const made = sdkWith(gateway, { authorization: 'Bearer made-up' });
    expect(await refusal(invoke(made))).toMatchObject({ name: 'UnrecognizedClientException', status: 403 });
    expect(gateway.log()).not.toContain('made-up');
  });

  it('sees within its cache time that somebody may no longer call', async () => {
    const gateway = await lab.gateway(SHORT_CACHE);
    await readyKeys(gateway);
    await lab.allow('alice-other', { kind: 'User', name: 'alice' }, ['other']);
    const client = sdk(gateway, { credentials: alice });
    await waitFor('the right to be seen', () => invoke(client, 'other'));
    await lab.disallow('alice-other');
    await waitFor('the end of the right to be seen', () =>
      invoke(client, 'other').then(
        () => false,
        (error: Error) => error.name === 'AccessDeniedException',
      ),
    );
    expect(await invoke(client)).toBe('"hi"');
  });

  it('goes on with those that it knows while the API server is frozen, refuses others, and hears of changes afterwards', async () => {
    const gateway = await lab.gateway(SHORT_CACHE);
    await readyKeys(gateway);
    await lab.api.kubectl(['create', 'serviceaccount', 'steady']);
    const token = (await lab.api.kubectl(['create', 'token', 'steady', '--audience=esb-gateway'])).trim();
    await lab.allow('steady', { kind: 'User', name: 'system:serviceaccount:default:steady' }, ['hello']);
    const known = [sdk(gateway, { credentials: alice }), sdkWith(gateway, { authorization: `Bearer ${token}` })];
    for (const client of known) {
      await waitFor('the caller to be known', () => invoke(client));
    }
    lab.api.pause();
    try {
      const end = performance.now() + CACHE_OVER_MS;
      while (performance.now() < end) {
        for (const client of known) {
          expect(await invoke(client)).toBe('"hi"');
        }
      }
      // The gateway does not know the rights of this caller, and cannot ask.
      expect(await refusal(invoke(sdk(gateway, { credentials: mallory })))).toMatchObject({
        name: 'ServiceException',
        status: 503,
      });
      const made = sdkWith(gateway, { authorization: 'Bearer unknown' });
      expect(await refusal(invoke(made))).toMatchObject({ name: 'ServiceException', status: 503 });
    } finally {
      lab.api.continue();
    }
    await waitFor('the gateway to ask again', () =>
      invoke(sdk(gateway, { credentials: mallory })).then(
        () => false,
        (error: Error) => error.name === 'AccessDeniedException',
      ),
    );
  });

  it('refuses all when its grace is over', async () => {
    const [graceful, strict] = [
      await lab.gateway(SHORT_CACHE),
      await lab.gateway([...SHORT_CACHE, '--access-grace=1']),
    ];
    const clients = [graceful, strict].map((gateway) => sdk(gateway, { credentials: alice }));
    const [served, refused] = clients as [LambdaClient, LambdaClient];
    await readyKeys(graceful);
    await readyKeys(strict);
    expect(await invoke(served)).toBe('"hi"');
    await lab.api.takeDown();
    try {
      await waitFor('the grace to be over', () =>
        invoke(refused).then(
          () => false,
          (error: Error) => error.name === 'ServiceException',
        ),
      );
      // The time is what is tested.
      await delay(CACHE_OVER_MS);
      expect(await invoke(served)).toBe('"hi"');
    } finally {
      await lab.api.bringUp();
    }
    await waitFor('the gateway to serve again', () => invoke(refused), { timeoutMs: 60_000 });
  });

  it('knows clients by their certificates, and takes new files without failing a call', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'esb-access-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const [servers, clients] = [await createCertificateAuthority(), await createCertificateAuthority()];
    const write = async (): Promise<void> => {
      const { certificate, key } = await servers.issueServer();
      await writeFileAtomically(join(folder, 'tls.crt'), certificate);
      await writeFileAtomically(join(folder, 'tls.key'), key);
    };
    await write();
    await writeFileAtomically(join(folder, 'ca.crt'), clients.certificate);
    const gateway = await lab.gateway(
      ['tls-cert=tls.crt', 'tls-key=tls.key', 'client-ca=ca.crt'].map((flag) => {
        const [name, file] = flag.split('=');
        return `--${name}=${join(folder, file ?? '')}`;
      }),
      'https',
    );
    const caller = async (user: string): Promise<LambdaClient> => {
      const { certificate, key } = await clients.issueClient(user, []);
      const httpsAgent = { ca: servers.certificate, cert: certificate, key, keepAlive: true };
      return sdkWith(gateway, {}, { requestHandler: { httpsAgent } });
    };
    const client = await caller('alice');
    expect(await invoke(client)).toBe('"hi"');
    expect(await refusal(invoke(await caller('mallory')))).toMatchObject({ name: 'AccessDeniedException' });
    const bare = { requestHandler: { httpsAgent: { ca: servers.certificate, keepAlive: true } } };
    expect(await refusal(invoke(sdkWith(gateway, {}, bare)))).toMatchObject({
      name: 'MissingAuthenticationTokenException',
    });
    await waitFor('the keys to be read', () => invoke(sdk(gateway, { ...bare, credentials: alice })));

    await write();
    let calls = 0;
    // The gateway may look at them right after they were written.
    while (calls <= 10 || !gateway.log().includes('took new TLS files')) {
      expect(await invoke(client)).toBe('"hi"');
      calls += 1;
    }
    expect(await invoke(client)).toBe('"hi"');
    expect(await invoke(await caller('alice'))).toBe('"hi"');
  });

  it('refuses a large body of nobody before it has come', async () => {
    const gateway = await lab.gateway();
    await readyKeys(gateway);
    /** The beginning of a request, and what is answered to that. */
    const answer = async (...headers: string[]): Promise<string> => {
      const socket = connect(gateway.port, '127.0.0.1');
      onTestFinished(() => void socket.destroy());
      const lines = [`POST ${invokePath('hello')} HTTP/1.1`, 'host: gateway', 'content-length: 5000000', ...headers];
      socket.write(`${lines.join('\r\n')}\r\n\r\n[1,`);
      const [head] = (await once(socket, 'data', { signal: AbortSignal.timeout(20_000) })) as [Buffer];
      return head.toString();
    };
    expect(await answer()).toMatch(/^HTTP\/1.1 403 .*MissingAuthenticationTokenException/s);
    expect(await answer('authorization: Bearer made-up')).toMatch(/^HTTP\/1.1 403 .*UnrecognizedClientException/s);
    const large = { FunctionName: 'hello', Payload: JSON.stringify('x'.repeat(5_000_000)) };
    const answered = await sdk(gateway, { credentials: alice }).send(new InvokeCommand(large));
    expect(answered.StatusCode).toBe(200);
  });

  it('is not ready without the keys, and says why; it does without them where it is told to', async () => {
    // Its role is for one Secret by name.
    const gateway = await lab.gateway(['--access-keys=others'], 'http', '503');
    await waitFor('the reason', async () =>
      (await gateway.readiness()).includes('NoAccessKeys: the access keys (Secret others in namespace default)'),
    );
    expect(await refusal(invoke(sdk(gateway, { credentials: alice })))).toMatchObject({
      name: 'ServiceException',
      status: 503,
    });
    const without = await lab.gateway(['--access-keys=']);
    expect(await refusal(invoke(sdk(without, { credentials: alice })))).toMatchObject({
      name: 'UnrecognizedClientException',
    });
  });

  it('lets everybody in when it is told to', async () => {
    const gateway = await lab.gateway(['--authentication=off']);
    const answer = await fetch(`${gateway.url}${invokePath('other')}`, { method: 'POST', body: '{}' });
    expect([answer.status, await answer.text()]).toEqual([200, '"hi"']);
  });
});
