import { request } from 'undici';
import { EsbError } from '../common/errors.ts';
import { type Answer, contentOf } from './registry-answer.ts';

/** The login of a registry: a name and a password, or a token that stands for both. */
export type RegistryLogin =
  | { readonly username: string; readonly password: string }
  | { readonly identityToken: string };

/** The demand of a registry for credentials, from its header `WWW-Authenticate`. */
export type Challenge =
  | { readonly kind: 'basic' }
  | { readonly kind: 'bearer'; readonly realm: string; readonly service: string | undefined };

/** Bytes of an answer with a token, which has a few kilobytes. */
const MAX_TOKEN_BYTES = 1024 * 1024;

/** Reads a challenge; undefined for one of another kind. */
export function challengeOf(header: string): Challenge | undefined {
  const [, scheme = '', rest = ''] = /^\s*(\w+)\s*(.*)$/s.exec(header) ?? [];
  switch (scheme.toLowerCase()) {
    case 'basic':
      return { kind: 'basic' };
    case 'bearer': {
      const fields = new Map(
        [...rest.matchAll(/(\w+)="([^"]*)"/g)].map(([, name = '', value = '']) => [name.toLowerCase(), value]),
      );
      const realm = fields.get('realm');
      return realm !== undefined && URL.canParse(realm)
        ? { kind: 'bearer', realm, service: fields.get('service') }
        : undefined;
    }
    default:
      return undefined;
  }
}

/** The header `Authorization` of a login without tokens; undefined for a login that only buys tokens. */
export function basicAuthorization(login: RegistryLogin | undefined): string | undefined {
  return login === undefined || 'identityToken' in login
    ? undefined
    : `Basic ${Buffer.from(`${login.username}:${login.password}`).toString('base64')}`;
}

/**
 * Asks the server of tokens for one, as the token authentication of distribution and its OAuth2 form have it.
 *
 * @param scopes such as `repository:team/hello:pull,push`
 * @throws {EsbError} `ImagePullFailed` where the server refuses, `InvalidAnswer`; errors of the connection
 */
export async function fetchToken(
  { realm, service }: Extract<Challenge, { kind: 'bearer' }>,
  login: RegistryLogin | undefined,
  scopes: readonly string[],
  signal: AbortSignal,
): Promise<string> {
  const url = new URL(realm);
  const form = new URLSearchParams(service === undefined ? [] : [['service', service]]);
  const basic = basicAuthorization(login);
  const sent = { signal, headers: basic === undefined ? {} : { authorization: basic } };
  let answer: Answer;
  if (login !== undefined && 'identityToken' in login) {
    form.set('grant_type', 'refresh_token');
    form.set('refresh_token', login.identityToken);
    form.set('client_id', 'esb');
    form.set('scope', scopes.join(' '));
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    answer = await request(url, { method: 'POST', signal, headers, body: form.toString() });
  } else {
    for (const [name, value] of form) {
      url.searchParams.set(name, value);
    }
    for (const scope of scopes) {
      url.searchParams.append('scope', scope);
    }
    answer = await request(url, sent);
  }
  if (answer.statusCode !== 200) {
    await answer.body.dump();
    throw new EsbError(`${url.host} gives no token for ${scopes.join(' ')}: status ${answer.statusCode}`, {
      code: 'ImagePullFailed',
      retryable: answer.statusCode >= 500,
    });
  }
  return tokenOf(await contentOf(answer, `the token of ${url.host}`, MAX_TOKEN_BYTES), url.host);
}

function tokenOf(content: Buffer, host: string): string {
  let found: unknown;
  try {
    const { token, access_token: accessToken } = JSON.parse(content.toString('utf8')) as Record<string, unknown>;
    found = token ?? accessToken;
  } catch (error) {
    throw new EsbError(`${host} answered with no JSON where a token was due`, { code: 'InvalidAnswer', cause: error });
  }
  if (typeof found !== 'string' || found === '') {
    throw new EsbError(`${host} answered without a token`, { code: 'InvalidAnswer' });
  }
  return found;
}
