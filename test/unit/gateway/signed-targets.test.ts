import { SignatureV4 } from '@smithy/signature-v4';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Sha256 } from '../../../src/cli/sha256.ts';
import { canonicalPath } from '../../../src/gateway/access/canonical-request.ts';
import { type GatewayLab, gatewayLab } from '../../support/gateway-lab.ts';
import { ALICE, keyedAccess } from '../../support/keyed-access.ts';
import { converse } from '../../support/raw-http.ts';
import {
  invokePath,
  presignedRequest,
  type RequestToSign,
  signedRequest,
  type WholeRequest,
} from '../../support/signed-request.ts';

/** The signer of the SDK, asked for what it makes of a path. */
class PathSigner extends SignatureV4 {
  pathOf(path: string): string {
    // Private in its types alone.
    return (this as unknown as { getCanonicalPath(request: { path: string }): string }).getCanonicalPath({
      path,
    });
  }
}
const pathSigner = new PathSigner({
  service: 'lambda',
  region: 'us-east-1',
  credentials: ALICE,
  sha256: Sha256,
});

const SIGNED = invokePath('harmless');
const SECRET = invokePath('secret');
const UP = '/../../../..';

/** Targets that some program takes for the signed one and another for that of the secret function. */
const TARGETS: readonly string[] = [
  `${SECRET}#${UP}${SIGNED}`,
  `${SECRET}#/${UP}${SIGNED}`,
  `${SECRET}#/..${UP}${SIGNED}`,
  `${SECRET}%23${UP}${SIGNED}`,
  `${SECRET}#`,
  `${SECRET}#?`,
  `${SECRET}#${SIGNED}`,
  `${SECRET}?#${UP}${SIGNED}`,
  `${SECRET}${UP}${SIGNED}`,
  `${SECRET}/.${UP}/..${SIGNED}`,
  `${SECRET};${UP}${SIGNED}`,
  `${SECRET}%3B${UP}${SIGNED}`,
  `${SECRET}%3F${UP}${SIGNED}`,
  `${SECRET}\\..\\..\\..\\..${SIGNED}`,
  `${SECRET}/%2e%2e/%2e%2e/%2e%2e/%2e%2e${SIGNED}`,
  `${SECRET}/%2E./%2e./.%2E/.%2e${SIGNED}`,
  `${SECRET}%2F..%2F..%2F..%2F..${SIGNED}`,
  `${SECRET}%5C..%5C..${SIGNED}`,
  `${SECRET}%00${UP}${SIGNED}`,
  `${SECRET}%20${UP}${SIGNED}`,
  `${SECRET}|${UP}${SIGNED}`,
  `/..${SECRET}#${UP}/..${SIGNED}`,
  `//${SECRET.slice(1)}#${UP}${SIGNED}`,
  `/.${SECRET}#${UP}/..${SIGNED}`,
  `/harmless/..${SECRET}`,
  `http://gateway.example${SECRET}`,
  `http://gateway.example${SECRET}#${UP}/../..${SIGNED}`,
  `http:${SECRET}`,
  `//gateway.example${SECRET}`,
  `gateway.example${SECRET}`,
  SECRET,
  `${SECRET}/`,
  `${SECRET}//`,
  `${SIGNED}/../../secret/invocations`,
  `${SIGNED}#/../../secret/invocations`,
  '/2015-03-31/functions/harmless/../secret/invocations',
  '/2015-03-31/functions/harmless%2F..%2Fsecret/invocations',
  '/2015-03-31/functions/./secret/invocations',
  '/2015-03-31/functions//secret/invocations',
  '/2015-03-31/functions/secret/%69nvocations',
  '/2015-03-31/functions/%73ecret/invocations',
  '/2015-03-31/functions/%2573ecret/invocations',
  '/2015-03-31/functions/secret%3A$LATEST/invocations',
  '/2015-03-31/functions/function:secret/invocations',
  '/2014-11-13/functions/secret/invoke-async',
  `/2014-11-13/functions/secret/invoke-async#${UP}${SIGNED}`,
  `/2014-11-13/functions/secret/invoke-async/#/..${UP}${SIGNED}`,
];

/** Headers that change what a call is, none of which was signed. */
const HEADERS: readonly (readonly [name: string, value: string])[] = [
  ['x-amz-invocation-type', 'Event'],
  ['X-Amz-Invocation-Type', 'RequestResponse'],
  ['x-amz-log-type', 'Tail'],
  ['x-amz-client-context', 'e30='],
  ['x-amz-tenant-id', 'blue'],
  ['x-amz-date', '20300101T000000Z'],
  ['x-amz-content-sha256', 'UNSIGNED-PAYLOAD'],
  ['x-amz-content-sha256', '0'.repeat(64)],
  ['x-amz-security-token', 'any'],
  ['Host', 'other.example'],
  ['Authorization', 'Bearer any'],
  ['x-amz-anything', 'any'],
];

async function lab(): Promise<GatewayLab> {
  const made = await gatewayLab({ gateway: { access: keyedAccess() } });
  await made.addWorker('harmless');
  await made.addWorker('secret');
  return made;
}

/** Sends a signed request to another target, with other headers beside its own, and gives the status of the answer; 0 for none. */
async function send(
  { url }: GatewayLab,
  request: WholeRequest,
  target = request.url,
  more: readonly (readonly [string, string])[] = [],
): Promise<number> {
  const own: [string, string][] = [];
  for (let at = 0; at + 1 < request.rawHeaders.length; at += 2) {
    own.push([request.rawHeaders[at] ?? '', request.rawHeaders[at + 1] ?? '']);
  }
  const lines = [
    `${request.method} ${target} HTTP/1.1`,
    ...[...own, ...more].map(([name, value]) => `${name}: ${value}`),
    `content-length: ${request.body.length}`,
    '',
    '',
  ];
  const pieces = [Buffer.concat([Buffer.from(lines.join('\r\n'), 'latin1'), request.body])];
  const port = Number(new URL(url).port);
  const { answers } = await converse(port, { pieces, gapMs: 0, ending: 'Wait' }, { answers: 1, quietMs: 2_000 });
  return answers[0]?.status ?? 0;
}

/** The call of the harmless function: as a signed request, and as a presigned URL. */
const forms: readonly (readonly [string, (request?: RequestToSign) => Promise<WholeRequest>])[] = [
  ['a signed call', (request) => signedRequest(ALICE, { body: '{}', ...request })],
  ['a presigned URL', (request) => presignedRequest(ALICE, { body: '{}', ...request })],
];

describe.each(forms)('%s', (_form, make) => {
  it('runs the function that it was made for', async () => {
    const made = await lab();
    expect(await send(made, await make({ path: SIGNED }))).toBe(200);
    expect(
      await send(made, await make({ path: invokePath('arn:aws:lambda:us-east-1:123456789012:function:harmless') })),
    ).toBe(200);
    expect(await send(made, await make({ path: `${SIGNED}/`, query: { Qualifier: '$LATEST' } }))).toBe(200);
    expect(made.agent.calls.map(({ worker }) => worker.name)).toEqual(['harmless', 'harmless', 'harmless']);
  });

  it('runs no other one, whatever its target is changed to', { timeout: 60_000 }, async () => {
    const made = await lab();
    for (const path of TARGETS) {
      const request = await make({ path: SIGNED });
      const mark = request.url.indexOf('?');
      const query = mark < 0 ? '' : request.url.slice(mark);
      const status = await send(made, request, `${path}${query}`);
      expect([400, 403, 404], path).toContain(status);
    }
    expect(made.agent.calls.map(({ worker }) => worker.name)).toEqual([]);
  });

  it('runs in no other way, whatever headers are added to it', { timeout: 60_000 }, async () => {
    const made = await lab();
    for (const header of HEADERS) {
      const status = await send(made, await make({ path: SIGNED }), undefined, [header]);
      // Node.js takes the first of two Authorization headers: the call is the signed one then.
      expect([200, 400, 403], header.join(': ')).toContain(status);
    }
    for (const call of made.agent.calls) {
      expect(call).toMatchObject({ worker: { name: 'harmless' }, tailLog: false, clientContext: '' });
    }
    expect(made.agent.calls.length).toBeLessThanOrEqual(1);
  });
});

describe('a target', () => {
  const piece = fc.constantFrom(
    ...['/', '//', '.', '..', '/..', '/./', '#', '?', '\\', ';', '&', '=', '+', ':', '@', '|', 'é', '~'],
    ...['%23', '%2e', '%2F', '%5c', '%3F', '%25', '%', '%zz', '%69', '%ff', 'secret', 'harmless', 'invocations'],
    ...['/2015-03-31/functions/', SECRET, SIGNED, 'Qualifier=', '$LATEST', 'http://h'],
  );
  /** The path of a call, with things put into it, behind it and in place of it. */
  const target = fc
    .tuple(
      fc.constantFrom('harmless', 'secret'),
      fc.nat(40),
      fc.nat(1),
      fc.array(piece, { maxLength: 2 }),
      fc.array(piece, { maxLength: 2 }),
    )
    .map(([name, at, taken, put, tail]) => {
      const path = invokePath(name);
      return `${path.slice(0, at)}${put.join('')}${path.slice(at + taken)}${tail.join('')}`;
    });

  it('leads where the signature of the SDK says, or nowhere', { timeout: 120_000 }, async () => {
    const made = await lab();
    let ran = 0;
    await fc.assert(
      fc.asyncProperty(target, async (text) => {
        const before = made.agent.calls.length;
        const mark = text.indexOf('?');
        const path = mark < 0 ? text : text.slice(0, mark);
        // Signed for exactly this, as its owner would who lets somebody else choose the target.
        const request = await signedRequest(ALICE, { path, body: '{}' });
        const status = await send(made, { ...request, url: Buffer.from(text).toString('latin1') });
        const calls = made.agent.calls.slice(before).map(({ worker }) => worker.name);
        if (status !== 200) {
          expect(calls).toEqual([]);
          return;
        }
        ran += 1;
        const signed = pathSigner.pathOf(path);
        expect(canonicalPath(path)).toBe(signed);
        const routed = decodeURIComponent(decodeURIComponent(signed)).replace(/\/$/, '');
        expect(calls.map((name) => invokePath(name))).toEqual([
          routed.replace(':$LATEST', '').replace('function:', ''),
        ]);
      }),
      { numRuns: 400, seed: 36 },
    );
    expect(ran).toBeGreaterThan(10);
  });
});
