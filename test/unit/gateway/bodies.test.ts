import type { Socket } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { DEFAULT_LIMIT_FLAGS, gatewayLimits } from '../../../src/gateway/admission/gateway-limits.ts';
import { LambdaError } from '../../../src/gateway/lambda/lambda-error.ts';
import { type GatewayLab, type GatewayLabOptions, gatewayLab } from '../../support/gateway-lab.ts';
import { ALICE, keyedAccess } from '../../support/keyed-access.ts';
import { openSocket } from '../../support/raw-http.ts';
import {
  invokePath,
  type RequestToSign,
  type Signer,
  signedRequest,
  type WholeRequest,
} from '../../support/signed-request.ts';
import { waitFor } from '../../support/wait-for.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

const MIB = 2 ** 20;

async function bodyLab(gateway: GatewayLabOptions['gateway'] = {}): Promise<GatewayLab> {
  const lab = await gatewayLab({ gateway: { access: keyedAccess(), ...gateway } });
  await lab.addWorker('hello');
  return lab;
}

interface Sending {
  readonly socket: Socket;
  /** The status of the answer, or 0 before there is one, and all of its text. */
  status(): number;
  text(): string;
}

/** Sends the head of a request and the beginning of its body. */
async function begin(
  { url }: GatewayLab,
  { method, url: target, rawHeaders }: Pick<WholeRequest, 'method' | 'url' | 'rawHeaders'>,
  { announced, sent }: { readonly announced: number; readonly sent: number },
): Promise<Sending> {
  const socket = await openSocket(Number(new URL(url).port));
  onTestFinished(() => void socket.destroy());
  let text = '';
  socket.on('data', (data) => {
    text += String(data);
  });
  const headers: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    headers.push(`${rawHeaders[at]}: ${rawHeaders[at + 1]}`);
  }
  socket.write([`${method} ${target} HTTP/1.1`, ...headers, `content-length: ${announced}`, '', ''].join('\r\n'));
  socket.write(Buffer.alloc(sent, 32));
  return { socket, status: () => Number(text.slice(9, 12)), text: () => text };
}

/** A call as boto3 signs it, which does not state the hash of its body. */
function ofPython(request: RequestToSign = {}): Promise<WholeRequest> {
  return signedRequest(ALICE, { applyChecksum: false, ...request });
}

async function heldBytes({ gateway }: GatewayLab): Promise<number> {
  const page = await gateway.metrics.page();
  return Number(/^esb_gateway_held_bytes (\d+)/m.exec(page.text)?.[1]);
}

/** Requests that are refused before any of the body has been read. */
async function expectRefused(lab: GatewayLab, request: WholeRequest, status: number, error: string): Promise<Sending> {
  const sending = await begin(lab, request, { announced: 6 * MIB, sent: 5 * MIB });
  await waitFor('an answer', () => sending.status() > 0, { everyMs: 5 });
  expect(sending.status()).toBe(status);
  expect(sending.text()).toContain(error);
  expect(await heldBytes(lab)).toBe(0);
  expect(lab.agent.calls).toHaveLength(0);
  return sending;
}

describe('no body is read', () => {
  it('of a path that is no operation', async () => {
    const lab = await bodyLab();
    const request = await signedRequest(ALICE, { path: '/nope' });
    await expectRefused(lab, request, 404, 'UnknownOperationException');
    await expectRefused(lab, { ...request, url: '/a//b' }, 400, 'InvalidParameterValueException');
  });

  it('of somebody who is nobody, or names a key that is not known', async () => {
    const lab = await bodyLab();
    const request = await ofPython();
    await expectRefused(lab, { ...request, rawHeaders: ['host', 'h'] }, 403, 'MissingAuthenticationTokenException');
    const unknown = await signedRequest({ ...ALICE, accessKeyId: 'NOBODY' }, { applyChecksum: false });
    await expectRefused(lab, unknown, 403, 'UnrecognizedClientException');
  });

  it('whose hash is stated, before the signature has turned out to be right', async () => {
    const lab = await bodyLab();
    const wrong = await signedRequest({ ...ALICE, secretAccessKey: 'x'.repeat(40) }, { body: '{}' });
    await expectRefused(lab, wrong, 403, 'InvalidSignatureException');
  });

  it('of one whose key is beyond its rate, which what nobody has proved does not count against', async () => {
    const limits = gatewayLimits({ ...DEFAULT_LIMIT_FLAGS, callerRate: 1, callerBurst: 2 });
    const lab = await bodyLab({ limits });
    for (let index = 0; index < 5; index += 1) {
      const wrong = await signedRequest({ ...ALICE, secretAccessKey: 'x'.repeat(40) }, { applyChecksum: false });
      const sending = await begin(lab, wrong, { announced: 2, sent: 2 });
      await waitFor('an answer', () => sending.status() > 0, { everyMs: 5 });
      expect(sending.status()).toBe(403);
    }
    // Malformed requests and unknown functions count like any other request.
    for (const name of ['hello:nothing', 'nobody']) {
      const mine = await signedRequest(ALICE, { path: invokePath(name), body: '  ' });
      const sending = await begin(lab, mine, { announced: 2, sent: 2 });
      await waitFor('an answer', () => sending.status() > 0, { everyMs: 5 });
      expect(sending.status()).toBe(404);
    }
    await expectRefused(lab, await ofPython(), 429, 'CallerRateLimitExceeded');
  });
});

it('a client that waits for a word sends a body only once its head was let in', async () => {
  const lab = await bodyLab();
  const expecting = async (by: Signer): Promise<Sending> => {
    const { method, url, rawHeaders } = await signedRequest(by, { body: '  {}' });
    const sent = { method, url, rawHeaders: [...rawHeaders, 'expect', '100-continue'] };
    const sending = await begin(lab, sent, { announced: 4, sent: 0 });
    await waitFor('a word', () => sending.status() > 0, { everyMs: 5 });
    return sending;
  };
  const forged = await expecting({ ...ALICE, secretAccessKey: 'x'.repeat(40) });
  expect(forged.status()).toBe(403);
  expect(forged.text()).not.toContain('100 Continue');
  const mine = await expecting(ALICE);
  expect(mine.status()).toBe(100);
  mine.socket.write('  {}');
  await waitFor('an answer', () => mine.text().includes('HTTP/1.1 200'), { everyMs: 5 });
});

describe('bodies that name a key and are not proved', () => {
  it.each([true, false])('tell nobody but the holder of the key what that may call: at once %s', async (atOnce) => {
    const no = new LambdaError('AccessDeniedException', 'alice may not call it');
    const authorize = (_principal: unknown, _action: unknown, name: string | undefined): Promise<void> | void => {
      if (name === 'hello') {
        return;
      }
      if (atOnce) {
        throw no;
      }
      return Promise.reject(no);
    };
    const lab = await bodyLab({ access: keyedAccess({ reviewer: { authorize } }) });
    const answerTo = async (secretAccessKey: string, name: string): Promise<string> => {
      const by = { ...ALICE, secretAccessKey };
      const path = invokePath(name);
      const sending = await begin(lab, await signedRequest(by, { path, body: '{}', applyChecksum: false }), {
        announced: 2,
        sent: 0,
      });
      sending.socket.write('{}');
      await waitFor('an answer', () => sending.status() > 0, { everyMs: 5 });
      return /x-amzn-errortype: (\w+)/i.exec(sending.text())?.[1] ?? String(sending.status());
    };
    const guessed = 'x'.repeat(40);
    expect(await answerTo(guessed, 'hello')).toBe('InvalidSignatureException');
    expect(await answerTo(guessed, 'secret')).toBe('InvalidSignatureException');
    expect(await answerTo(ALICE.secretAccessKey, 'secret')).toBe('AccessDeniedException');
    expect(await answerTo(ALICE.secretAccessKey, 'hello')).toBe('200');
  });

  it('may have 6 MB', async () => {
    const lab = await bodyLab();
    const body = JSON.stringify('x'.repeat(6 * MIB - 2));
    const { method, url, rawHeaders } = await ofPython({ body });
    const headers = new Headers();
    for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
      headers.append(rawHeaders[at] ?? '', rawHeaders[at + 1] ?? '');
    }
    // The signature is for the name of another host.
    const sending = await begin(lab, { method, url, rawHeaders }, { announced: body.length, sent: 0 });
    sending.socket.write(body);
    await waitFor('an answer', () => sending.status() > 0, { everyMs: 5 });
    expect(sending.status()).toBe(200);
  });

  it('share 8 MiB, which those of others and those that are proved do not notice', {
    timeout: 30_000,
  }, async () => {
    const lab = await bodyLab();
    const slow = await Promise.all(
      Array.from({ length: 6 }, async () => begin(lab, await ofPython(), { announced: 4 * MIB, sent: 4 * MIB - 1 })),
    );
    await waitFor('two of them to be held', async () => (await heldBytes(lab)) >= 8 * MIB - 2, {
      everyMs: 10,
    });
    const mine = await begin(lab, await signedRequest(ALICE, { body: '  {}' }), { announced: 4, sent: 2 });
    mine.socket.write('{}');
    await waitFor('an answer', () => mine.status() > 0, { everyMs: 5 });
    expect(mine.status()).toBe(200);
    expect(await heldBytes(lab)).toBeLessThanOrEqual(8 * MIB);
    // Their signatures are wrong, as it turns out; the next ones then have their turn.
    for (const { socket } of slow) {
      socket.write('}');
    }
    await waitFor('all of them to be refused', () => slow.every(({ status }) => status() === 403), {
      everyMs: 10,
    });
    await waitFor('their room to be free', async () => (await heldBytes(lab)) === 0, { everyMs: 10 });
  });

  it('give their room back when their clients leave', async () => {
    const lab = await bodyLab();
    for (let round = 0; round < 4; round += 1) {
      const { socket } = await begin(lab, await ofPython(), { announced: 6 * MIB, sent: 3 * MIB });
      await waitFor('some of it to be held', async () => (await heldBytes(lab)) >= 3 * MIB, { everyMs: 10 });
      socket.destroy();
      await waitFor('nothing to be held', async () => (await heldBytes(lab)) === 0, { everyMs: 10 });
    }
  });
});

it('a payload is looked at only once its function has a place for the call', async () => {
  const lab = await bodyLab();
  const broken = await signedRequest(ALICE, { body: '{"a":' });
  const status = async (): Promise<number> => {
    const sending = await begin(lab, broken, { announced: 5, sent: 0 });
    sending.socket.write('{"a":');
    await waitFor('an answer', () => sending.status() > 0, { everyMs: 5 });
    return sending.status();
  };
  expect(await status()).toBe(400);
  lab.workers.put(
    workerFixture({
      name: 'hello',
      spec: { functionName: 'hello', concurrency: { reserved: 0, queueDepth: 100 } },
      status: { assignment: { nodeName: lab.agent.nodeName, epoch: 1 } },
    }),
  );
  expect(await status()).toBe(429);
});

it('requests of whom nobody knows who makes them have a quarter of the places, and the known the rest', async () => {
  const access = keyedAccess({ tokens: { identify: () => new Promise(() => undefined) } });
  const lab = await bodyLab({ access, limits: gatewayLimits({ ...DEFAULT_LIMIT_FLAGS, maxRequests: 8 }) });
  const url = invokePath('hello');
  const strange = await Promise.all(
    Array.from({ length: 5 }, (_, n) =>
      begin(
        lab,
        { method: 'POST', url, rawHeaders: ['host', 'h', 'authorization', `Bearer ${n}`] },
        { announced: 9, sent: 0 },
      ),
    ),
  );
  const refused = (): Sending[] => strange.filter(({ status }) => status() === 429);
  await waitFor('three of them to be refused', () => refused().length === 3, { everyMs: 5 });
  expect(refused()[0]?.text()).toContain('ConcurrentInvocationLimitExceeded');
  const known = await begin(lab, await signedRequest(ALICE, { body: '  {}' }), { announced: 4, sent: 2 });
  known.socket.write('{}');
  await waitFor('an answer', () => known.status() > 0, { everyMs: 5 });
  expect(known.status()).toBe(200);
  for (const { socket } of strange) {
    socket.destroy();
  }
  // Their places are free again.
  const next = await begin(
    lab,
    { method: 'POST', url, rawHeaders: ['host', 'h', 'authorization', 'Bearer a'] },
    { announced: 9, sent: 0 },
  );
  await waitFor('the gateway to hold that one alone', async () => {
    const page = await lab.gateway.metrics.page();
    return /^esb_gateway_requests 1$/m.test(page.text);
  });
  expect(next.status()).toBe(0);
});
