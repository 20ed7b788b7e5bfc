import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { resolveSecrets } from '../../../src/agent/secrets/resolve-secrets.ts';
import { createSecretCache, type SecretCache } from '../../../src/agent/secrets/secret-cache.ts';
import { DeadlineError } from '../../../src/common/deadline.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { ApiError } from '../../../src/kube/api/api-error.ts';
import { desiredFixture } from '../../support/fleet-lab.ts';
import { type ManualClock, manualClock, settle } from '../../support/manual-clock.ts';
import { waitFor } from '../../support/wait-for.ts';

const encoded = (value: string): string => Buffer.from(value).toString('base64');

interface Lab {
  readonly clock: ManualClock;
  readonly reader: SecretCache;
  asked: number;
  answer: () => Promise<object | undefined>;
}

function setUp(): Lab {
  const folder = mkdtempSync(join(tmpdir(), 'esb-secrets-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const clock = manualClock();
  const lab: Lab = {
    clock,
    asked: 0,
    answer: () => Promise.resolve(secretOf('old')),
    reader: createSecretCache({
      client: {
        get: () => {
          lab.asked += 1;
          return lab.answer() as never;
        },
      },
      folder,
      agents: { kind: 'Users' },
      clock,
      logger: silentLogger(),
    }),
  };
  return lab;
}

function secretOf(value: string): object {
  return { metadata: { name: 's' }, data: { a: encoded(value), b: encoded(value) } };
}

const away = (): Promise<undefined> => Promise.reject(ApiError.unreachable('get', new Error('refused')));

/** Value that is read from an API server that hangs, and milliseconds of the clock until then. */
async function timed(lab: Lab): Promise<{ readonly value: string | undefined; readonly ms: number }> {
  const hung = Promise.withResolvers<undefined>();
  lab.answer = () => hung.promise;
  const begun = lab.clock.monotonic();
  const { asked } = lab;
  let found: { readonly value: string | undefined; readonly ms: number } | undefined;
  void lab.reader.read('shop', 's', 'a').then((value) => {
    found = { value, ms: lab.clock.monotonic() - begun };
  });
  await waitFor('the question', () => lab.asked > asked);
  while (found === undefined) {
    await lab.clock.advance(50);
  }
  hung.reject(new DeadlineError('get', 10_000));
  await settle();
  return found;
}

describe('a Secret', () => {
  it('is asked for once, for however many variables of a start', async () => {
    const lab = setUp();
    const env = Array.from({ length: 20 }, (_, index) => ({
      name: `V${index}`,
      secret: { name: 's', key: index % 2 === 0 ? 'a' : 'b' },
    }));
    const shape = await resolveSecrets(desiredFixture({ env }), lab.reader);
    expect(shape.env).toHaveLength(20);
    expect(lab.asked).toBe(1);
  });

  it('that is kept does not wait for an API server that hangs, and is a few minutes old at most', async () => {
    const lab = setUp();
    await lab.reader.read('shop', 's', 'a');
    expect(await timed(lab)).toEqual({ value: 'old', ms: 100 });
    await lab.clock.advance(5 * 60_000);
    // Kept for long: the server is given more time, once.
    expect(await timed(lab)).toEqual({ value: 'old', ms: 2_000 });
    expect(await timed(lab)).toEqual({ value: 'old', ms: 100 });
  });

  it('is new at the next start after a server that was slow', async () => {
    const lab = setUp();
    await lab.reader.read('shop', 's', 'a');
    const slow = Promise.withResolvers<object>();
    lab.answer = () => slow.promise;
    const first = lab.reader.read('shop', 's', 'a');
    await waitFor('the question', () => lab.asked === 2);
    await lab.clock.advance(100);
    expect(await first).toBe('old');
    slow.resolve(secretOf('new'));
    lab.answer = away;
    await waitFor('the new value', async () => (await lab.reader.read('shop', 's', 'a')) === 'new');
  });

  it('whose grant was taken away is forgotten with all its keys', async () => {
    const lab = setUp();
    await lab.reader.read('shop', 's', 'a');
    await lab.reader.read('shop', 's', 'b');
    lab.answer = () => Promise.reject(ApiError.fromAnswer('get', 403, ''));
    await expect(lab.reader.read('shop', 's', 'a')).rejects.toMatchObject({ code: 'SecretForbidden' });
    lab.answer = away;
    await expect(lab.reader.read('shop', 's', 'b')).rejects.toMatchObject({ code: 'Unreachable' });
  });

  it('that there is none of is not waited for either, and none is kept of what no worker names', async () => {
    const lab = setUp();
    lab.answer = () => Promise.resolve(undefined);
    expect(await lab.reader.read('shop', 's', 'a')).toBeUndefined();
    lab.answer = away;
    expect(await lab.reader.read('shop', 's', 'a')).toBeUndefined();
    await lab.reader.keepOnly([]);
    await expect(lab.reader.read('shop', 's', 'a')).rejects.toMatchObject({ code: 'Unreachable' });
  });
});
