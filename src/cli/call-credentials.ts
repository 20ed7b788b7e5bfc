import { readFile } from 'node:fs/promises';
import { SignatureV4 } from '@smithy/signature-v4';
import { EsbError, undefinedIfNoFile } from '../common/errors.ts';
import { Sha256 } from './sha256.ts';

/** A key in the form of AWS's tools. */
export interface AccessKeyPair {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** The proof of a caller's identity to a gateway. */
export type CallCredentials =
  | { readonly kind: 'none' }
  | { readonly kind: 'token'; readonly token: string }
  | ({ readonly kind: 'key' } & AccessKeyPair);

/** A request before it is signed. */
export interface UnsignedRequest {
  readonly method: string;
  readonly url: string;
  /** By name in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** A part of every signature; a gateway ignores the region. */
const DEFAULT_REGION = 'us-east-1';

/**
 * Finds the credentials of a caller: a bearer token in `ESB_TOKEN`, else the key of the local instance, else a key in
 * the variables of AWS's tools, which may be of another account.
 *
 * @param keyFile file with the key of the local instance; undefined when another gateway is called
 */
export async function callCredentials(env: NodeJS.ProcessEnv, keyFile: string | undefined): Promise<CallCredentials> {
  const { ESB_TOKEN: token = '', AWS_ACCESS_KEY_ID: accessKeyId = '' } = env;
  const { AWS_SECRET_ACCESS_KEY: secretAccessKey = '', AWS_SESSION_TOKEN: sessionToken = '' } = env;
  if (token !== '') {
    return { kind: 'token', token };
  }
  const own = keyFile === undefined ? undefined : await readInstanceKey(keyFile);
  if (own !== undefined) {
    return { kind: 'key', ...own };
  }
  return accessKeyId === '' || secretAccessKey === ''
    ? { kind: 'none' }
    : { kind: 'key', accessKeyId, secretAccessKey, ...(sessionToken === '' ? {} : { sessionToken }) };
}

/** The headers of a request, with the proof of the caller's identity. */
export async function provenHeaders(
  request: UnsignedRequest,
  credentials: CallCredentials,
  env: NodeJS.ProcessEnv = {},
): Promise<Readonly<Record<string, string>>> {
  switch (credentials.kind) {
    case 'none':
      return request.headers;
    case 'token':
      return { ...request.headers, authorization: `Bearer ${credentials.token}` };
    case 'key': {
      const { host, pathname, searchParams, protocol, hostname } = new URL(request.url);
      const signer = new SignatureV4({
        credentials,
        region: env.AWS_REGION ?? env.AWS_DEFAULT_REGION ?? DEFAULT_REGION,
        service: 'lambda',
        sha256: Sha256,
      });
      const signed = await signer.sign({
        method: request.method,
        protocol,
        hostname,
        path: pathname,
        query: Object.fromEntries(searchParams),
        headers: { ...request.headers, host },
        body: request.body,
      });
      return signed.headers;
    }
    default:
      return credentials satisfies never;
  }
}

/** The key of the local instance; undefined where the instance has none. */
export async function readInstanceKey(file: string): Promise<AccessKeyPair | undefined> {
  try {
    const text = await undefinedIfNoFile(readFile(file, 'utf8'));
    return text === undefined ? undefined : (JSON.parse(text) as AccessKeyPair);
  } catch (error) {
    throw new EsbError(`${file} cannot be read; remove it and run \`npm run up\` again`, {
      code: 'InvalidState',
      cause: error,
    });
  }
}
