import { describe, expect, it } from 'vitest';
import { createOpenAccess } from '../../../src/gateway/access/access.ts';
import { gatewayLab } from '../../support/gateway-lab.ts';
import { ALICE, keyedAccess } from '../../support/keyed-access.ts';
import { converse } from '../../support/raw-http.ts';
import { invokePath, signedRequest } from '../../support/signed-request.ts';

/** The status of a call with these headers. */
async function call(url: string, headers: Readonly<Record<string, string | string[] | undefined>>): Promise<number> {
  const { port } = new URL(url);
  const all = Object.entries({ 'content-length': '2', ...headers }).map(([name, value]) => `${name}: ${String(value)}`);
  const pieces = [Buffer.from([`POST ${invokePath('hello')} HTTP/1.1`, ...all, '', '{}'].join('\r\n'))];
  const { answers } = await converse(
    Number(port),
    { pieces, gapMs: 0, ending: 'Wait' },
    { answers: 1, quietMs: 2_000 },
  );
  return answers[0]?.status ?? 0;
}

const pages = [
  { host: '127.0.0.1:9080', origin: 'https://evil.example' },
  { host: '127.0.0.1:9080', origin: 'null' },
  { host: 'localhost:9080', origin: 'http://localhost:3000' },
  { host: '127.0.0.1:9080', 'sec-fetch-site': 'cross-site' },
  { host: 'localhost:9080', 'sec-fetch-site': 'same-site' },
];

describe('where nobody is asked who they are', () => {
  it('no page of another origin may call, and programs may', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    for (const headers of pages) {
      expect(await call(lab.url, headers), JSON.stringify(headers)).toBe(403);
    }
    expect(lab.agent.calls).toHaveLength(0);
    for (const headers of [
      { host: '127.0.0.1:9080' },
      { host: 'functions.corp.com' },
      { host: 'localhost:9080', origin: 'http://localhost:9080', 'sec-fetch-site': 'same-origin' },
      { host: '127.0.0.1', 'sec-fetch-site': 'none' },
    ]) {
      expect(await call(lab.url, headers), JSON.stringify(headers)).toBe(200);
    }
  });

  it('a gateway on the loopback goes by no name that somebody else may have led there', async () => {
    const lab = await gatewayLab({ gateway: { access: createOpenAccess(() => true) } });
    await lab.addWorker('hello');
    for (const host of ['evil.com', 'evil.com:9080', 'localhost.evil.com', 'a.local.evil.com', '127.0.0.1.nip.io']) {
      expect(await call(lab.url, { host }), host).toBe(403);
    }
    for (const host of [
      '127.0.0.1:9080',
      '[::1]:9080',
      'localhost',
      'LOCALHOST:9080',
      'esb',
      'host.docker.internal:9080',
    ]) {
      expect(await call(lab.url, { host }), host).toBe(200);
    }
  });
});

it('where a browser may have a certificate, no page of another origin may use it, and a signature still does', async () => {
  const carol = { kind: 'Certificate', user: 'carol', groups: [] } as const;
  const access = keyedAccess({ certificates: { identify: () => carol } });
  // The lab has no TLS; what counts is that a connection has somebody's certificate.
  const lab = await gatewayLab({
    gateway: {
      access: {
        ...access,
        identify: (request) => access.identify({ ...request, connection: {} as never }),
      },
    },
  });
  await lab.addWorker('hello');
  expect(await call(lab.url, { host: 'gateway.example' })).toBe(200);
  for (const headers of pages) {
    expect(await call(lab.url, headers), JSON.stringify(headers)).toBe(403);
  }
  const { headers } = await signedRequest(ALICE, { body: '{}' });
  expect(await call(lab.url, { ...headers, origin: 'https://app.example' })).toBe(200);
});
