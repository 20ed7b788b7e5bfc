import { describe, expect, it } from 'vitest';
import { AccessKeys, deriveSigningKey, parseAccessKey } from '../../../../src/gateway/access/access-keys.ts';
import type { Secret } from '../../../../src/kube/api/resource-types.ts';
import { recordingLogger } from '../../../support/recording-logger.ts';

const secretAccessKey = 'a-secret-of-forty-characters-0123456789a';

function secret(entries: Readonly<Record<string, unknown>>): Secret {
  const data = Object.entries(entries).map(([id, entry]) => {
    const text = typeof entry === 'string' ? entry : JSON.stringify(entry);
    return [id, Buffer.from(text).toString('base64')];
  });
  return { metadata: { name: 'esb-access-keys', namespace: 'default' }, data: Object.fromEntries(data) };
}

describe('access key', () => {
  it('says whom it stands for; everybody who has one is authenticated', () => {
    const key = parseAccessKey('AKID', JSON.stringify({ secretAccessKey, user: 'alice', groups: ['a', 'b'] }));
    expect(key.principal).toEqual({
      kind: 'AccessKey',
      accessKeyId: 'AKID',
      user: 'alice',
      groups: ['a', 'b', 'system:authenticated'],
    });
    expect(key.sessionToken).toBeUndefined();
    expect(key.expiresAtMs).toBe(Number.POSITIVE_INFINITY);
  });

  it('may be a temporary one', () => {
    const key = parseAccessKey(
      'AKID',
      JSON.stringify({ secretAccessKey, user: 'alice', sessionToken: 't', expires: '2026-03-01T12:00:00Z' }),
    );
    expect(key).toMatchObject({ sessionToken: 't', expiresAtMs: Date.parse('2026-03-01T12:00:00Z') });
  });

  it('keeps the signing keys that it has derived, however many regions callers name', () => {
    const key = parseAccessKey('AKID', JSON.stringify({ secretAccessKey, user: 'alice' }));
    expect(key.signingKey('20260301', 'r', 'lambda')).toBe(key.signingKey('20260301', 'r', 'lambda'));
    for (let n = 0; n < 40; n += 1) {
      expect(key.signingKey('20260301', `r${n}`, 'lambda')).toEqual(
        deriveSigningKey(secretAccessKey, '20260301', `r${n}`, 'lambda'),
      );
    }
  });

  it.each<[string, unknown, string]>([
    ['no JSON', `{${secretAccessKey}`, 'it is not JSON'],
    ['no object', '"text"', 'it is not a JSON object'],
    ['no secret', { user: 'a' }, 'secretAccessKey must be'],
    ['a short secret', { secretAccessKey: 'short', user: 'a' }, 'secretAccessKey must be'],
    ['no user', { secretAccessKey }, 'user must be'],
    ['groups that are none', { secretAccessKey, user: 'a', groups: [1] }, 'groups must be'],
    ['a token that is none', { secretAccessKey, user: 'a', sessionToken: 1 }, 'sessionToken must be'],
    ['an end that is none', { secretAccessKey, user: 'a', expires: 'soon' }, 'expires must be'],
  ])('with %s is refused, without a word of its value', (_what, entry, message) => {
    const text = typeof entry === 'string' ? entry : JSON.stringify(entry);
    expect(() => parseAccessKey('AKID', text)).toThrow(message);
    expect(() => parseAccessKey('AKID', text)).not.toThrow(secretAccessKey);
  });
});

describe('access keys', () => {
  it('are those of the Secret as it is now', () => {
    const keys = new AccessKeys(recordingLogger().logger);
    const first = secret({ A: { secretAccessKey, user: 'a' }, B: { secretAccessKey, user: 'b' } });
    keys.apply({ kind: 'added', object: first });
    const known = keys.get('A');
    expect(known?.principal).toMatchObject({ user: 'a' });
    const second = secret({ A: { secretAccessKey, user: 'a' }, C: { secretAccessKey, user: 'c' } });
    keys.apply({ kind: 'updated', object: second, old: first });
    expect(keys.get('A')).toBe(known);
    expect(keys.get('B')).toBeUndefined();
    expect(keys.get('C')).toBeDefined();
    keys.apply({ kind: 'deleted', object: second });
    expect(keys.size).toBe(0);
  });

  it('are good although one entry makes no sense, which the log tells without its value', () => {
    const { logger, lines } = recordingLogger();
    const keys = new AccessKeys(logger);
    keys.apply({
      kind: 'added',
      object: secret({ A: { secretAccessKey, user: 'a' }, B: `{${secretAccessKey}` }),
    });
    expect(keys.size).toBe(1);
    expect(lines).toContainEqual(expect.objectContaining({ level: 40, accessKeyId: 'B', reason: 'it is not JSON' }));
    expect(JSON.stringify(lines)).not.toContain(secretAccessKey);
  });
});
