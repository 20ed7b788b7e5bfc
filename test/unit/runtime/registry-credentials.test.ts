import { describe, expect, it } from 'vitest';
import { findCredentials } from '../../../src/runtime/registry-credentials.ts';

const secret = (auths: Readonly<Record<string, unknown>>): string => JSON.stringify({ auths });
const auth = (text: string): { auth: string } => ({ auth: Buffer.from(text).toString('base64') });

describe('findCredentials', () => {
  it.each([
    ['registry.example', 'registry.example'],
    ['https://registry.example/v2/', 'registry.example'],
    ['registry.example/team', 'registry.example'],
    ['127.0.0.1:5000', '127.0.0.1:5000'],
    ['Registry.Example', 'registry.example'],
    ['https://index.docker.io/v1/', 'registry-1.docker.io'],
    ['docker.io', 'registry-1.docker.io'],
  ])('under %s finds those for %s', (key, host) => {
    expect(findCredentials([secret({ [key]: auth('me:secret') })], host)).toEqual({
      username: 'me',
      password: 'secret',
    });
  });

  it('takes the first secret that has some for the host', () => {
    const secrets = [
      'not JSON',
      '[]',
      '{"auths":null}',
      secret({ 'other.example': auth('you:secret') }),
      secret({ 'registry.example': {} }),
      secret({ 'registry.example': auth('no colon') }),
      secret({ 'registry.example': { username: 'me', password: 'it:is' } }),
      secret({ 'registry.example': auth('late:secret') }),
    ];
    expect(findCredentials(secrets, 'registry.example')).toEqual({ username: 'me', password: 'it:is' });
    expect(findCredentials(secrets, 'third.example')).toBeUndefined();
  });

  it('knows tokens, and passwords with colons', () => {
    const secrets = [secret({ a: { identitytoken: 'token', auth: 'x' }, b: auth('me:it:is') })];
    expect(findCredentials(secrets, 'a')).toEqual({ identityToken: 'token' });
    expect(findCredentials(secrets, 'b')).toEqual({ username: 'me', password: 'it:is' });
  });
});
