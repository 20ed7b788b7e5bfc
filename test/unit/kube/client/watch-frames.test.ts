import fc from 'fast-check';
import { expect, test } from 'vitest';
import { keyText, parseKeyText } from '../../../../src/kube/api/object-key.ts';
import { collectionPath, objectPath, queryText } from '../../../../src/kube/api/resource-path.ts';
import { leases, nodes, secrets } from '../../../../src/kube/api/resource-types.ts';
import { linesOf } from '../../../../src/kube/client/watch-frames.ts';

async function collect(chunks: readonly Uint8Array[]): Promise<string[]> {
  const lines: string[] = [];
  const stream = (async function* () {
    yield* chunks;
  })();
  for await (const line of linesOf(stream)) {
    lines.push(line);
  }
  return lines;
}

test('lines come out whole, however the bytes were cut', async () => {
  const line = fc.string({ unit: fc.constantFrom('a', 'ä', '€', '😀', '{', '\r'), maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(line, { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 9 })),
      async (lines, cuts) => {
        const bytes = Buffer.from(lines.map((text) => `${text}\n`).join(''));
        const chunks: Uint8Array[] = [];
        let at = 0;
        for (const size of cuts) {
          chunks.push(bytes.subarray(at, at + size));
          at += size;
        }
        chunks.push(bytes.subarray(at));
        const whole = bytes.toString().split('\n');
        expect(await collect(chunks)).toEqual(whole.filter((text) => text !== ''));
      },
    ),
  );
});

test('a last line without its end is not a line', async () => {
  expect(await collect([Buffer.from('{"a":1}\n{"b"')])).toEqual(['{"a":1}']);
});

test('paths', () => {
  expect(collectionPath(secrets, undefined)).toBe('/api/v1/secrets');
  expect(collectionPath(secrets, 'default')).toBe('/api/v1/namespaces/default/secrets');
  expect(objectPath(leases, { namespace: 'a', name: 'b' }, undefined)).toBe(
    '/apis/coordination.k8s.io/v1/namespaces/a/leases/b',
  );
  expect(objectPath(nodes, { name: 'n' }, 'status')).toBe('/api/v1/nodes/n/status');
  expect(queryText({ a: 'x=y', b: undefined, c: true, d: '' })).toBe('?a=x%3Dy&c=true');
});

test('keys as text', () => {
  for (const key of [{ name: 'n' }, { namespace: 'a', name: 'b' }]) {
    expect(parseKeyText(keyText(key))).toEqual(key);
  }
});
