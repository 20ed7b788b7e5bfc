import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Access, AccessRequest, Identity } from '../../../../src/gateway/access/access.ts';
import { parseAccessKey } from '../../../../src/gateway/access/access-keys.ts';
import type { Principal } from '../../../../src/gateway/access/principal.ts';
import { createVerifiedAccess, type VerifiedAccessOptions } from '../../../../src/gateway/access/verified-access.ts';
import { LambdaError, unavailable } from '../../../../src/gateway/lambda/lambda-error.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import {
  accessRequest,
  invokePath,
  presignedRequest,
  type Signer,
  signedRequest,
  authenticate as taken,
  type WholeRequest,
} from '../../../support/signed-request.ts';

const secretAccessKey = 'a-secret-of-forty-characters-0123456789a';
const alice: Signer = { accessKeyId: 'ALICE', secretAccessKey };
const temporary: Signer = { accessKeyId: 'TEMP', secretAccessKey, sessionToken: 'session' };
const over: Signer = { accessKeyId: 'OVER', secretAccessKey };
const keys = new Map(
  Object.entries({
    ALICE: { secretAccessKey, user: 'alice' },
    TEMP: { secretAccessKey, user: 'temp', sessionToken: 'session' },
    OVER: { secretAccessKey, user: 'over', expires: '2026-10-31T00:00:00Z' },
  }).map(([id, entry]) => [id, parseAccessKey(id, JSON.stringify(entry))]),
);

const bob: Principal = { kind: 'Token', user: 'bob', uid: '', groups: [], extra: {} };
const carol: Principal = { kind: 'Certificate', user: 'carol', groups: [] };
const clock = manualClock();
const signedAt = new Date(clock.now());
const withCertificate = {} as NonNullable<AccessRequest['connection']>;

function authenticate(
  request: WholeRequest,
  options: Partial<VerifiedAccessOptions> = {},
): Principal | Promise<Principal> {
  return taken(access(options), request);
}

function access(options: Partial<VerifiedAccessOptions> = {}): Access {
  return createVerifiedAccess({
    keys,
    keysNotReady: () => undefined,
    tokens: { identify: (token) => ({ ...bob, user: `bob by ${token}` }) },
    certificates: { identify: () => carol },
    isOnLoopback: () => false,
    reviewer: { authorize: () => undefined },
    clock,
    ...options,
  });
}

function refused(errorName: string, status = 403): object {
  return expect.objectContaining({ errorName, status });
}

describe('verified access', () => {
  it('knows the signer of a header and of a presigned URL, at once', async () => {
    expect(authenticate(await signedRequest(alice, { signedAt }))).toMatchObject({ user: 'alice' });
    expect(authenticate(await presignedRequest(alice, { signedAt }))).toMatchObject({ user: 'alice' });
    expect(authenticate(await signedRequest(temporary, { signedAt }))).toMatchObject({ user: 'temp' });
    expect(authenticate(await presignedRequest(temporary, { signedAt }))).toMatchObject({ user: 'temp' });
  });

  it('knows the bearer of a token, however the scheme is written', () => {
    for (const authorization of ['Bearer abc', 'bearer  abc ']) {
      expect(authenticate(accessRequest('POST', '/', {}, { authorization }))).toMatchObject({
        user: 'bob by abc',
      });
    }
  });

  it('knows the holder of a certificate, unless the request says itself who makes it', async () => {
    const bare = { ...accessRequest('POST', '/', {}, {}), connection: withCertificate };
    expect(authenticate(bare)).toBe(carol);
    const signed = { ...(await signedRequest(alice, { signedAt })), connection: withCertificate };
    expect(authenticate(signed)).toMatchObject({ user: 'alice' });
    const wrong = await signedRequest({ ...alice, secretAccessKey: 'x'.repeat(40) }, { signedAt });
    expect(() => authenticate({ ...wrong, connection: withCertificate })).toThrow(refused('InvalidSignatureException'));
  });

  it('refuses who says nothing', () => {
    const nothing = refused('MissingAuthenticationTokenException');
    expect(() => authenticate(accessRequest('POST', '/', {}, {}))).toThrow(nothing);
    const connected = { ...accessRequest('POST', '/', {}, {}), connection: withCertificate };
    expect(() => authenticate(connected, { certificates: { identify: () => undefined } })).toThrow(nothing);
  });

  it('refuses a key that is not known, whose token does not fit, or whose time is over', async () => {
    const requests: [Signer, string][] = [
      [{ ...alice, accessKeyId: 'NOBODY' }, 'UnrecognizedClientException'],
      [{ ...alice, sessionToken: 'any' }, 'UnrecognizedClientException'],
      [{ ...temporary, sessionToken: 'other' }, 'UnrecognizedClientException'],
      [{ accessKeyId: 'TEMP', secretAccessKey }, 'UnrecognizedClientException'],
      [over, 'ExpiredTokenException'],
    ];
    for (const [signer, errorName] of requests) {
      const request = await signedRequest(signer, { signedAt });
      expect(() => authenticate(request), JSON.stringify(signer)).toThrow(refused(errorName));
    }
  });

  it('refuses signatures with 503 while the keys cannot be relied on', async () => {
    const request = await signedRequest(alice, { signedAt });
    expect(() => authenticate(request, { keysNotReady: () => unavailable('no keys yet') })).toThrow(
      refused('ServiceException', 503),
    );
  });

  it.each<[string, string, string]>([
    ['of another scheme', 'Basic YTpi', "Unsupported AWS 'algorithm': 'Basic'"],
    ['of the asymmetric version', 'AWS4-ECDSA-P256-SHA256 Credential=a', "Unsupported AWS 'algorithm'"],
    [
      'without anything',
      'AWS4-HMAC-SHA256 Credential=',
      "requires 'Credential' parameter. Authorization header requires 'Signature'",
    ],
    ['with a part that is none', 'AWS4-HMAC-SHA256 abc', 'missing equal-sign'],
    [
      'with half a credential',
      'AWS4-HMAC-SHA256 Credential=A/20260301, SignedHeaders=host, Signature=00',
      'exactly 5 slash-delimited elements',
    ],
    [
      'with a signature of another form',
      'AWS4-HMAC-SHA256 Credential=A/20260301/r/lambda/aws4_request, SignedHeaders=host, Signature=00',
      '64 hexadecimal digits',
    ],
    [
      'with headers in capitals',
      `AWS4-HMAC-SHA256 Credential=A/20260301/r/lambda/aws4_request, SignedHeaders=Host, Signature=${'0'.repeat(64)}`,
      'names of headers in lower case',
    ],
  ])('refuses an Authorization header %s', (_what, authorization, message) => {
    const request = accessRequest('POST', '/', {}, { authorization, 'x-amz-date': '20260301T120000Z' });
    expect(() => authenticate(request)).toThrow(refused('IncompleteSignatureException', 400));
    expect(() => authenticate(request)).toThrow(message);
  });

  it('refuses a signature without a date, or with one that is none', async () => {
    const request = await signedRequest(alice, { signedAt });
    const { 'x-amz-date': _date, ...headers } = request.headers;
    expect(() => authenticate({ ...request, headers })).toThrow("existence of either a 'X-Amz-Date' or a 'Date'");
    expect(() => authenticate({ ...request, headers: { ...headers, 'x-amz-date': 'today' } })).toThrow(
      'Date must be in ISO-8601 basic format',
    );
  });

  it('takes the Date header where there is no other', async () => {
    const request = await signedRequest(alice, { signedAt });
    const { 'x-amz-date': _date, ...headers } = request.headers;
    expect(authenticate({ ...request, headers: { ...headers, date: signedAt.toUTCString() } })).toMatchObject({
      user: 'alice',
    });
    // The time is a part of what is signed, wherever it stands.
    const later = new Date(signedAt.getTime() + 1_000).toUTCString();
    expect(() => authenticate({ ...request, headers: { ...headers, date: later } })).toThrow('does not match');
  });

  it.each([
    ['X-Amz-Algorithm', "Unsupported AWS 'algorithm'"],
    ['X-Amz-Credential', "must include 'X-Amz-Credential'"],
    ['X-Amz-Date', "must include 'X-Amz-Date'"],
    ['X-Amz-Expires', "must include 'X-Amz-Expires'"],
    ['X-Amz-SignedHeaders', "must include 'X-Amz-SignedHeaders'"],
    ['X-Amz-Signature', "must include 'X-Amz-Signature'"],
  ])('refuses a presigned URL without %s', async (name, message) => {
    const request = await presignedRequest(alice, { signedAt });
    const url = request.url.replace(new RegExp(`${name}=[^&]*`), 'x=y');
    expect(() => authenticate({ ...request, url })).toThrow(refused('IncompleteSignatureException', 400));
    expect(() => authenticate({ ...request, url })).toThrow(message);
  });

  it('refuses a presigned URL that names something twice, is good for ever, or comes with a header beside it', async () => {
    const request = await presignedRequest(alice, { signedAt });
    expect(() => authenticate({ ...request, url: `${request.url}&X-Amz-Date=20260301T120000Z` })).toThrow(
      'more than once',
    );
    const forEver = request.url.replace('X-Amz-Expires=300', 'X-Amz-Expires=604801');
    expect(() => authenticate({ ...request, url: forEver })).toThrow('from 1 to 604800');
    const both = { ...request, headers: { ...request.headers, authorization: 'Bearer abc' } };
    expect(() => authenticate(both)).toThrow(refused('IncompleteSignatureException', 400));
  });

  it('refuses a presigned URL that says in its query how to call, where it would be overlooked', async () => {
    const headers = { 'X-Amz-Invocation-Type': 'Event' };
    const hoisted = await presignedRequest(alice, { signedAt, headers, hoist: true });
    expect(hoisted.url).toContain('X-Amz-Invocation-Type=Event');
    expect(() => authenticate(hoisted)).toThrow('has to be sent as a signed header, not in the query');
    const proper = await presignedRequest(alice, { signedAt, headers });
    expect(authenticate(proper)).toMatchObject({ user: 'alice' });
  });

  it('proves by the head of a request alone all that can be, and leaves the rest to the body', async () => {
    const body = 'a body';
    const identify = (request: AccessRequest, options: Partial<VerifiedAccessOptions> = {}) =>
      access(options).identify(request) as Identity;
    const stated = identify(await signedRequest(alice, { signedAt, body }));
    expect(stated.claimedKey).toBeUndefined();
    expect(() => stated.confirm(Buffer.from('another'))).toThrow(refused('InvalidSignatureException'));
    for (const request of [
      await signedRequest(alice, { signedAt, body, applyChecksum: false }),
      await presignedRequest(alice, { signedAt, body }),
    ]) {
      const claimed = identify(request);
      expect(claimed).toMatchObject({ claimedKey: 'ALICE', principal: { user: 'alice' } });
      expect(() => claimed.confirm(Buffer.from('another'))).toThrow(refused('InvalidSignatureException'));
      claimed.confirm(Buffer.from(body));
    }
    const wrong = await signedRequest({ ...alice, secretAccessKey: 'x'.repeat(40) }, { signedAt, body });
    const nobody = await signedRequest({ ...alice, accessKeyId: 'NOBODY' }, { signedAt, applyChecksum: false });
    const late = await signedRequest(alice, {
      signedAt: new Date(signedAt.getTime() - 400_000),
      applyChecksum: false,
    });
    const noHash = await signedRequest(alice, {
      signedAt,
      headers: { 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' },
    });
    expect(() => identify(accessRequest('POST', '/', {}, {}))).toThrow(refused('MissingAuthenticationTokenException'));
    expect(() => identify(nobody)).toThrow(refused('UnrecognizedClientException'));
    for (const request of [wrong, late, noHash]) {
      expect(() => identify(request)).toThrow(refused('InvalidSignatureException'));
    }
    const pending = access({ tokens: { identify: async () => bob } }).identify(
      accessRequest('POST', '/', {}, { authorization: 'Bearer abc' }),
    );
    expect(await pending).toMatchObject({ principal: bob, claimedKey: undefined });
  });

  it('names nobody by more than the key in a refusal, before it is proved whose that is', async () => {
    const claims: unknown[] = [];
    const reviewed = access({
      reviewer: { authorize: (_principal, _action, _name, claim) => void claims.push(claim) },
    });
    for (const applyChecksum of [true, false]) {
      const identity = (await reviewed.identify(await signedRequest(alice, { signedAt, applyChecksum }))) as Identity;
      void reviewed.authorize(identity, 'invoke', 'hello', '192.0.2.1');
    }
    expect(claims).toEqual([undefined, { key: 'ALICE', address: '192.0.2.1' }]);
  });

  it('refuses whatever makes no sense as the fault of its sender', async () => {
    const { headers, url } = await signedRequest(alice, { signedAt });
    const presigned = await presignedRequest(alice, { signedAt });
    const text = fc.string({ unit: 'binary-ascii', maxLength: 40 });
    /** A text with a part of it replaced. */
    const spoiled = (whole: string): fc.Arbitrary<string> =>
      fc
        .tuple(fc.nat(whole.length), fc.nat(12), text)
        .map(([at, length, put]) => whole.slice(0, at) + put + whole.slice(at + length));
    const authorization = fc.oneof(
      text,
      spoiled(headers.authorization ?? ''),
      fc.constantFrom('', 'Bearer', 'Bearer ', 'AWS4-HMAC-SHA256', 'AWS4-HMAC-SHA256 ='),
    );
    fc.assert(
      fc.property(
        fc.oneof(fc.constant(url), spoiled(presigned.url), text),
        fc.record(
          { authorization, 'x-amz-date': fc.oneof(text, spoiled(headers['x-amz-date'] as string)) },
          { requiredKeys: [] },
        ),
        fc.uint8Array({ maxLength: 20 }),
        (anyUrl, anyHeaders, body) => {
          const request = { ...accessRequest('POST', '/', {}, anyHeaders, body), url: anyUrl };
          try {
            expect(authenticate(request)).toHaveProperty('user');
          } catch (error) {
            expect(error).toBeInstanceOf(LambdaError);
            expect((error as LambdaError).status).toBeLessThan(500);
          }
        },
      ),
      { numRuns: 3_000 },
    );
  });

  it('has no way to be crashed by a path', () => {
    const request = accessRequest('POST', `${invokePath('hello')}?X-Amz-Signature=%zz&%=%`, {}, {});
    expect(() => authenticate(request)).toThrow(refused('InvalidParameterValueException', 400));
    const odd = accessRequest('POST', `${invokePath('hello')}?X-Amz-Signature=%ff&%fe=%fd`, {}, {});
    expect(() => authenticate(odd)).toThrow(refused('IncompleteSignatureException', 400));
  });
});
