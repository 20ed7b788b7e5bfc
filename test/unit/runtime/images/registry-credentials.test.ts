import { describe, expect, it } from 'vitest';
import { findCredentials } from '../../../../src/runtime/images/registry-credentials.ts';

const secret = (auths: Readonly<Record<string, unknown>>): string => JSON.stringify({ auths });
const auth = (text: string): { auth: string } => ({ auth: Buffer.from(text).toString('base64') });
const repository = 'team/hello';

describe('findCredentials', () => {
  it.each([
    ['registry.example', 'registry.example'],
    ['https://registry.example/v2/', 'registry.example'],
    ['registry.example/team', 'registry.example'],
    ['registry.example/team/hello', 'registry.example'],
    ['127.0.0.1:5000', '127.0.0.1:5000'],
    ['Registry.Example', 'registry.example'],
    ['*.example', 'registry.example'],
    ['*.*.amazonaws.com', '123.eu.amazonaws.com'],
    ['reg*y.example:5000', 'registry.example:5000'],
    ['https://index.docker.io/v1/', 'registry-1.docker.io'],
    ['docker.io', 'registry-1.docker.io'],
  ])('under %s finds those for %s', (key, host) => {
    expect(findCredentials([secret({ [key]: auth('me:secret') })], host, repository)).toEqual({
      username: 'me',
      password: 'secret',
    });
  });

  it.each([
    ['registry.example/other', 'registry.example'],
    ['registry.example/tea', 'registry.example'],
    ['registry.example:5000', 'registry.example'],
    ['registry.example', 'registry.example:5000'],
    ['*.example', 'a.registry.example'],
    ['ab*ba.example', 'aba.example'],
    ['*.example', 'registry.example.evil.test'],
  ])('under %s finds none for %s', (key, host) => {
    expect(findCredentials([secret({ [key]: auth('me:secret') })], host, repository)).toBeUndefined();
  });

  it('takes the entry with the longest path', () => {
    const secrets = [
      secret({ 'registry.example': auth('all:x'), 'registry.example/team': auth('team:x') }),
      secret({ 'registry.example/team/hello': auth('hello:x') }),
    ];
    const found = (path: string): unknown => findCredentials(secrets, 'registry.example', path);
    expect(found('team/hello')).toMatchObject({ username: 'hello' });
    expect(found('team/other')).toMatchObject({ username: 'team' });
    expect(found('hello')).toMatchObject({ username: 'all' });
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
    expect(findCredentials(secrets, 'registry.example', repository)).toEqual({
      username: 'me',
      password: 'it:is',
    });
    expect(findCredentials(secrets, 'third.example', repository)).toBeUndefined();
  });

  it('knows tokens, and passwords with colons', () => {
    const secrets = [secret({ a: { identitytoken: 'token', auth: 'x' }, b: auth('me:it:is') })];
    expect(findCredentials(secrets, 'a', repository)).toEqual({ identityToken: 'token' });
    expect(findCredentials(secrets, 'b', repository)).toEqual({ username: 'me', password: 'it:is' });
  });
});
