import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deriveSigningKey, parseAccessKey } from '../../../../src/gateway/access/access-keys.ts';
import { headerSignature, querySignature } from '../../../../src/gateway/access/signature.ts';
import { sign } from '../../../../src/gateway/access/sigv4.ts';
import {
  checkWhole,
  invokePath,
  presignedRequest,
  type RequestToSign,
  type Signer,
  signedRequest,
  type WholeRequest,
} from '../../../support/signed-request.ts';

const signer: Signer = {
  accessKeyId: 'AKIDEXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
};
const key = parseAccessKey(
  signer.accessKeyId,
  JSON.stringify({ secretAccessKey: signer.secretAccessKey, user: 'alice' }),
);
const MINUTE = 60_000;

/** Fault of a request; undefined when it is right. */
function refusal(request: WholeRequest, now = Date.now()): string | undefined {
  try {
    const signature = request.headers.authorization === undefined ? querySignature(request) : headerSignature(request);
    checkWhole(request, signature, key, now);
    return undefined;
  } catch (error) {
    return error instanceof Error && 'code' in error ? `${String(error.code)}: ${error.message}` : String(error);
  }
}

describe('signature', () => {
  it("has the signing key of AWS's example", () => {
    const derived = deriveSigningKey(signer.secretAccessKey, '20150830', 'us-east-1', 'iam');
    expect(derived.toString('hex')).toBe('c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9');
  });

  it("is that of AWS's example", () => {
    const canonical = [
      'GET',
      '/',
      'Action=ListUsers&Version=2010-05-08',
      'content-type:application/x-www-form-urlencoded; charset=utf-8',
      'host:iam.amazonaws.com',
      'x-amz-date:20150830T123600Z',
      '',
      'content-type;host;x-amz-date',
      'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    ].join('\n');
    const signature = sign(
      deriveSigningKey(signer.secretAccessKey, '20150830', 'us-east-1', 'iam'),
      { signedAt: '20150830T123600Z', scope: '20150830/us-east-1/iam/aws4_request' },
      canonical,
    );
    expect(signature).toBe('5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7');
  });

  it.each<[string, RequestToSign]>([
    ['a plain call', { body: '{}' }],
    ['no body', {}],
    ['a body whose hash is not stated', { body: '{"a":1}', applyChecksum: false }],
    ['a name that is an ARN', { path: invokePath('arn:aws:lambda:us-east-1:123456789012:function:hello') }],
    ['a qualifier', { query: { Qualifier: '$LATEST' } }],
    ['headers of the call', { headers: { 'X-Amz-Invocation-Type': 'Event', 'x-amz-log-type': '  Tail   x ' } }],
    ['another region', { region: 'eu-central-1' }],
    [
      'a list of functions',
      { method: 'GET', path: '/2015-03-31/functions/', query: { MaxItems: '5', Marker: 'a/b c' } },
    ],
  ])("made by the SDK's signer is right: %s", async (_what, request) => {
    expect(refusal(await signedRequest(signer, request))).toBeUndefined();
    expect(refusal(await presignedRequest(signer, request))).toBeUndefined();
  });

  it("made by the SDK's signer is right, whatever is in the path, the query and the headers", async () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 20 });
    // As a name they would make the path one that is refused.
    const functionName = text.filter((name) => !['', '.', '..'].includes(name));
    const printable = fc.stringMatching(/^[ -~]{0,20}$/);
    // The signer keeps parameters in a plain object, which loses one of that name.
    const parameter = fc.stringMatching(/^[A-Za-z0-9._~-]{1,10}$/).filter((name) => name !== '__proto__');
    await fc.assert(
      fc.asyncProperty(
        functionName,
        fc.dictionary(parameter, fc.oneof(text, fc.array(text, { minLength: 1, maxLength: 3 }))),
        printable,
        text,
        async (name, query, header, body) => {
          const request = {
            path: invokePath(name),
            query,
            headers: { 'x-amz-client-context': header },
            body,
          };
          expect(refusal(await signedRequest(signer, request))).toBeUndefined();
        },
      ),
      { numRuns: 200 },
    );
  });

  it('is wrong for anything that was changed after it was made', async () => {
    const request = await signedRequest(signer, {
      body: '{"amount":1}',
      query: { Qualifier: '$LATEST' },
      headers: { 'x-amz-invocation-type': 'Event' },
    });
    const changed = (change: Partial<WholeRequest>): WholeRequest => ({ ...request, ...change });
    const mismatch = expect.stringMatching(
      /^InvalidSignatureException: The request signature we calculated does not match/,
    );
    expect(refusal(changed({ body: Buffer.from('{"amount":9}') }))).toEqual(mismatch);
    expect(refusal(changed({ method: 'PUT' }))).toEqual(mismatch);
    expect(refusal(changed({ url: request.url.replace('hello', 'other') }))).toEqual(mismatch);
    expect(refusal(changed({ url: request.url.replace('LATEST', 'other') }))).toEqual(mismatch);
    expect(refusal(changed({ url: `${request.url}&extra=1` }))).toEqual(mismatch);
    const rawHeaders = request.rawHeaders.map((text) => (text === 'Event' ? 'DryRun' : text));
    expect(refusal(changed({ rawHeaders }))).toEqual(mismatch);
    expect(refusal(changed({ rawHeaders: [...request.rawHeaders, 'x-amz-invocation-type', 'DryRun'] }))).toEqual(
      mismatch,
    );
  });

  it('is wrong by another secret, and by the hash of another body', async () => {
    const other = { ...signer, secretAccessKey: 'x'.repeat(40) };
    expect(refusal(await signedRequest(other, { body: '{}' }))).toContain('InvalidSignatureException');
    const unsigned = await signedRequest(signer, {
      body: '{}',
      headers: { 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' },
    });
    expect(refusal(unsigned)).toContain('InvalidSignatureException');
  });

  it('has to cover the host and every header that changes the call', async () => {
    const request = await signedRequest(signer, { body: '{}' });
    const added = { ...request, headers: { ...request.headers, 'x-amz-invocation-type': 'Event' } };
    expect(refusal(added)).toContain("'x-amz-invocation-type' must be a 'SignedHeader'");
    const authorization = (request.headers.authorization ?? '').replace('host;', '');
    expect(refusal({ ...request, headers: { ...request.headers, authorization } })).toContain(
      "'Host' must be a 'SignedHeader'",
    );
  });

  it('is good for five minutes, by a clock that is off by up to five minutes', async () => {
    const now = Date.parse('2026-03-01T23:58:00Z');
    const at = (offsetMs: number) => signedRequest(signer, { signedAt: new Date(now + offsetMs) });
    expect(refusal(await at(-5 * MINUTE), now)).toBeUndefined();
    expect(refusal(await at(5 * MINUTE), now)).toBeUndefined();
    expect(refusal(await at(-5 * MINUTE - 1_000), now)).toBe(
      'InvalidSignatureException: Signature expired: 20260301T235259Z is now earlier than 20260301T235300Z (20260301T235800Z - 5 min.)',
    );
    expect(refusal(await at(5 * MINUTE + 1_000), now)).toBe(
      'InvalidSignatureException: Signature not yet current: 20260302T000301Z is still later than 20260302T000300Z (20260301T235800Z + 5 min.)',
    );
  });

  it('of a presigned URL is good for as long as it says', async () => {
    const now = Date.parse('2026-03-01T12:00:00Z');
    const url = await presignedRequest(signer, { signedAt: new Date(now), expiresSeconds: 3600 });
    expect(refusal(url, now + 3_599_000)).toBeUndefined();
    expect(refusal(url, now + 3_600_000)).toContain('InvalidSignatureException: Signature expired: 20260301T130000Z');
    expect(refusal(url, now - 6 * MINUTE)).toContain('Signature not yet current');
    const longer = { ...url, url: url.url.replace('X-Amz-Expires=3600', 'X-Amz-Expires=604800') };
    expect(refusal(longer, now + 3_700_000)).toContain('does not match');
  });

  it('has to be for this service, and dated with the day that it was made on', async () => {
    expect(refusal(await signedRequest(signer, { service: 's3' }))).toContain(
      "Credential should be scoped to correct service: 'lambda'.",
    );
    const request = await signedRequest(signer, { signedAt: new Date('2026-03-01T12:00:00Z') });
    const authorization = (request.headers.authorization ?? '').replace('/20260301/', '/20260302/');
    expect(
      refusal({ ...request, headers: { ...request.headers, authorization } }, Date.parse('2026-03-01T12:00:00Z')),
    ).toContain('Date in Credential scope does not match YYYYMMDD');
  });
});
