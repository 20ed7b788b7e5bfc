import { SignatureV4 } from '@smithy/signature-v4';
import { Sha256 } from '../../src/cli/sha256.ts';
import type { Access, AccessRequest, Identity } from '../../src/gateway/access/access.ts';
import type { AccessKey } from '../../src/gateway/access/access-keys.ts';
import type { Principal } from '../../src/gateway/access/principal.ts';
import type { Signature } from '../../src/gateway/access/signature.ts';
import {
  checkClaims,
  checkPayload,
  checkSignature,
  payloadHashOf,
  statedPayloadHash,
} from '../../src/gateway/access/sigv4.ts';

/** Signer of the request. */
export interface Signer {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface RequestToSign {
  readonly method?: string;
  /** Encoded once, as clients send it. */
  readonly path?: string;
  readonly query?: Readonly<Record<string, string | string[]>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  readonly signedAt?: Date;
  readonly region?: string;
  readonly service?: string;
  /** Whether to state the hash of the body. Default true, as the SDK does. */
  readonly applyChecksum?: boolean;
}

/** A request, and the whole of its body. */
export interface WholeRequest extends AccessRequest {
  readonly body: Buffer;
}

/** Whom a gateway takes a whole request for. */
export function authenticate(access: Access, request: WholeRequest): Principal | Promise<Principal> {
  const take = (identity: Identity): Principal => {
    identity.confirm(request.body);
    return identity.principal;
  };
  const identity = access.identify(request);
  return identity instanceof Promise ? identity.then(take) : take(identity);
}

/** Checks a signature over a whole request. */
export function checkWhole(
  request: WholeRequest,
  signature: Signature,
  key: Pick<AccessKey, 'signingKey'>,
  now: number,
): void {
  checkClaims(request, signature, now);
  const stated = statedPayloadHash(request);
  checkSignature(request, signature, key, stated ?? payloadHashOf(request.body));
  if (stated !== undefined) {
    checkPayload(payloadHashOf(request.body), stated);
  }
}

/** The path of a call of a function. */
export function invokePath(name: string): string {
  return `/2015-03-31/functions/${encodeURIComponent(name)}/invocations`;
}

/** A request that the AWS SDK's own signer has signed, as the gateway gets to see it. */
export async function signedRequest(by: Signer, request: RequestToSign = {}): Promise<WholeRequest> {
  const prepared = prepare(request);
  const signed = await signerOf(by, request).sign(prepared, { signingDate: request.signedAt ?? new Date() });
  return accessRequest(prepared.method, prepared.path, signed.query ?? {}, signed.headers, request.body);
}

/** Presigned URL; its headers stay headers unless they are to be hoisted into the query. */
export async function presignedRequest(
  by: Signer,
  request: RequestToSign & { readonly expiresSeconds?: number; readonly hoist?: boolean } = {},
): Promise<WholeRequest> {
  const prepared = prepare(request);
  const signed = await signerOf(by, request).presign(prepared, {
    signingDate: request.signedAt ?? new Date(),
    expiresIn: request.expiresSeconds ?? 300,
    ...(request.hoist === true
      ? {}
      : { unhoistableHeaders: new Set(Object.keys(prepared.headers).map((name) => name.toLowerCase())) }),
  });
  return accessRequest(prepared.method, prepared.path, signed.query ?? {}, signed.headers, request.body);
}

/** A request as it would come over the wire. */
export function accessRequest(
  method: string,
  path: string,
  query: Readonly<Record<string, string | string[] | null>>,
  headers: Readonly<Record<string, string>>,
  body: string | Uint8Array = '',
): WholeRequest {
  const text = Object.entries(query)
    .flatMap(([name, value]) =>
      [value ?? ''].flat().map((each) => `${encodeURIComponent(name)}=${encodeURIComponent(each)}`),
    )
    .join('&');
  return {
    method,
    url: text === '' ? path : `${path}?${text}`,
    headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value])),
    rawHeaders: Object.entries(headers).flat(),
    body: Buffer.from(body),
    remoteAddress: '127.0.0.1',
    connection: undefined,
  };
}

function signerOf(by: Signer, request: RequestToSign): SignatureV4 {
  return new SignatureV4({
    credentials: by,
    region: request.region ?? 'us-east-1',
    service: request.service ?? 'lambda',
    sha256: Sha256,
    applyChecksum: request.applyChecksum ?? true,
  });
}

function prepare(request: RequestToSign) {
  return {
    method: request.method ?? 'POST',
    protocol: 'http:',
    hostname: 'gateway.example',
    path: request.path ?? invokePath('hello'),
    query: { ...request.query },
    headers: { host: 'gateway.example', ...request.headers },
    ...(request.body === undefined ? {} : { body: request.body }),
  };
}
