import type { Socket } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { parseAccessKey } from '../../../src/gateway/access/access-keys.ts';
import { DEFAULT_LIMIT_FLAGS, gatewayLimits } from '../../../src/gateway/admission/gateway-limits.ts';
import { type GatewayLab, gatewayLab } from '../../support/gateway-lab.ts';
import { ALICE, keyedAccess } from '../../support/keyed-access.ts';
import { openSocket } from '../../support/raw-http.ts';
import { invokePath, type Signer, signedRequest } from '../../support/signed-request.ts';
import { waitFor } from '../../support/wait-for.ts';

const BOB: Signer = { ...ALICE, accessKeyId: 'AKIDBOB' };

async function connection({ url }: GatewayLab): Promise<Socket> {
  const socket = await openSocket(Number(new URL(url).port));
  onTestFinished(() => void socket.destroy());
  return socket;
}

async function underWay({ gateway }: GatewayLab): Promise<number> {
  const page = await gateway.metrics.page();
  return Number(/^esb_gateway_requests (\d+)/m.exec(page.text)?.[1]);
}

/** The head of a signed call without the hash of its body, and the body. Gives the status of the answer; 0 before there is one. */
async function claim(lab: GatewayLab, by: Signer, body = ''): Promise<() => number> {
  const { method, url, rawHeaders } = await signedRequest(by, { applyChecksum: false, body: '{}' });
  const socket = await connection(lab);
  let text = '';
  socket.on('data', (data) => {
    text += String(data);
  });
  const headers: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    headers.push(`${rawHeaders[at]}: ${rawHeaders[at + 1]}`);
  }
  socket.write([`${method} ${url} HTTP/1.1`, ...headers, 'content-length: 2', '', body].join('\r\n'));
  return () => Number(text.slice(9, 12));
}

it('a stranger who reads no answers keeps no place of the gateway', async () => {
  const lab = await gatewayLab({
    gateway: { access: keyedAccess(), limits: gatewayLimits({ ...DEFAULT_LIMIT_FLAGS, maxRequests: 64 }) },
  });
  const socket = await connection(lab);
  socket.pause();
  const request = `POST ${invokePath('hello')} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n`;
  // More than the system takes of their answers.
  for (let index = 0; index < 40; index += 1) {
    socket.write(request.repeat(2_000));
  }
  let most = 0;
  let closed = false;
  socket.once('close', () => {
    closed = true;
  });
  await waitFor('the connection to be cut', async () => {
    most = Math.max(most, await underWay(lab));
    return closed || most >= 64;
  });
  expect(most).toBeLessThan(64);
});

it('no connection has more than 64 calls without an answer', async () => {
  const lab = await gatewayLab();
  await lab.addWorker('hello');
  lab.agent.onInvoke(() => undefined);
  const socket = await connection(lab);
  let closed = false;
  socket.once('close', () => {
    closed = true;
  });
  const call = `POST ${invokePath('hello')} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}`;
  socket.write(call.repeat(64));
  await waitFor('all of them to be taken', async () => (await underWay(lab)) === 64, { everyMs: 5 });
  expect(closed).toBe(false);
  socket.write(call);
  await waitFor('the connection to be closed', () => closed, { everyMs: 5 });
  await waitFor('their places to be free', async () => (await underWay(lab)) === 0, { everyMs: 5 });
});

it('whoever claims one key leaves places for those who claim another', async () => {
  const known = new Map([ALICE, BOB].map((signer) => [signer.accessKeyId, signer]));
  const lab = await gatewayLab({
    gateway: {
      access: keyedAccess({
        keys: {
          get: (id) => {
            const signer = known.get(id);
            return signer === undefined
              ? undefined
              : parseAccessKey(id, JSON.stringify({ secretAccessKey: signer.secretAccessKey, user: id }));
          },
        },
      }),
      // Eight places for strangers.
      limits: gatewayLimits({ ...DEFAULT_LIMIT_FLAGS, maxRequests: 32 }),
    },
  });
  await lab.addWorker('hello');
  const claims = await Promise.all(Array.from({ length: 20 }, () => claim(lab, ALICE)));
  await waitFor('some to be refused', () => claims.filter((status) => status() === 429).length >= 12);
  const other = await claim(lab, BOB, '{}');
  await waitFor('an answer', () => other() > 0, { everyMs: 5 });
  expect(other()).toBe(200);
});
