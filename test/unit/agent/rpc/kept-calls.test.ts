import { describe, expect, it } from 'vitest';
import type { InvocationResult } from '../../../../src/agent/model/invocation.ts';
import { KeptCalls } from '../../../../src/agent/rpc/kept-calls.ts';
import { manualClock, settle } from '../../../support/manual-clock.ts';

const result = { kind: 'Answered', stamp: '', timings: { queued: 0, wake: 0, run: 0, start: 'running' } } as const;
const key = (requestId: string) => ({ uid: 'uid', requestId });

function lab() {
  const clock = manualClock();
  const kept = new KeptCalls(clock);
  /** Begins a call; the function that is returned ends it. */
  const begin = (requestId: string, chunks: readonly Buffer[], namespace = 'default') => {
    const ended = Promise.withResolvers<InvocationResult>();
    const taker = { onHead: () => undefined, onChunk: () => undefined };
    void kept.run(namespace, key(requestId), taker, ({ onChunk, onHead }) => {
      onHead({ status: 200, contentType: 'application/json' });
      for (const chunk of chunks) {
        onChunk(chunk);
      }
      return ended.promise;
    });
    return async (by: InvocationResult = result) => {
      ended.resolve(by);
      await settle();
    };
  };
  const ask = (requestId: string, from = 0, namespaces: ReadonlySet<string> = new Set(['default'])) => {
    const chunks: Buffer[] = [];
    const answer = kept.recover(
      { ...key(requestId), from, onHead: () => undefined, onChunk: (chunk) => chunks.push(chunk) },
      namespaces,
    );
    return answer === undefined ? undefined : answer.then(({ kind }) => `${kind} ${Buffer.concat(chunks).toString()}`);
  };
  return { clock, kept, begin, ask };
}

describe('a call whose answer is kept', () => {
  it('is there for who asks before its end and after, from any byte on', async () => {
    const { ask, begin } = lab();
    const end = begin('a', [Buffer.from('ha'), Buffer.from('lf')]);
    const early = ask('a');
    await end();
    expect(await early).toBe('Answered half');
    expect(await ask('a', 3)).toBe('Answered f');
  });

  it('goes to the newest of those who ask before its end, and the others are told so', async () => {
    const { ask, begin } = lab();
    const end = begin('a', [Buffer.from('half')]);
    const askers = Array.from({ length: 100 }, () => ask('a'));
    const earlier = askers.slice(0, -1).map(async (asked) => await asked);
    expect(await Promise.all(earlier)).toEqual(Array.from({ length: 99 }, () => 'Unknown half'));
    await end();
    expect(await askers.at(-1)).toBe('Answered half');
  });

  it('is that of the newest call with its id', async () => {
    const { ask, begin } = lab();
    await begin('a', [Buffer.from('old')])();
    const end = begin('a', [Buffer.from('new')]);
    await end();
    expect(await ask('a')).toBe('Answered new');
  });

  it('is nothing for gateways of other namespaces', async () => {
    const { ask, begin } = lab();
    await begin('a', [])();
    expect(ask('a', 0, new Set(['other']))).toBeUndefined();
    expect(await ask('a', 0, new Set(['default']))).toBe('Answered ');
  });

  it('is forgotten ten minutes after its end, at the next call', async () => {
    const { ask, begin, clock } = lab();
    await begin('a', [])();
    await clock.advance(10 * 60_000);
    await begin('b', [])();
    expect(ask('a')).toBeUndefined();
    expect(ask('b')).toBeDefined();
  });

  it('is not kept beyond 1 MiB, nor all together beyond 16 MiB: the oldest of the greediest namespace go', async () => {
    const { ask, begin, kept } = lab();
    const mebibyte = Buffer.alloc(2 ** 20);
    await begin('large', [mebibyte, Buffer.from('1')])();
    expect(ask('large')).toBeUndefined();
    await begin('other', [Buffer.from('1')], 'other')();
    for (let index = 0; index < 40; index += 1) {
      await begin(String(index), [mebibyte])();
      expect(kept.bytes).toBeLessThanOrEqual(16 * 2 ** 20);
    }
    expect(ask('0')).toBeUndefined();
    expect(ask('39')).toBeDefined();
    expect(ask('other', 0, new Set(['other']))).toBeDefined();
  });

  it('is one of 8,192 that have ended', async () => {
    const { ask, begin } = lab();
    const end = begin('long', []);
    await begin('first', [])();
    for (let index = 0; index < 8_192; index += 1) {
      void begin(String(index), [])();
    }
    await settle();
    expect(ask('first')).toBeUndefined();
    expect(ask('long')).toBeDefined();
    await end();
  });

  it('makes no room for one that was refused, and has not begun', async () => {
    const { ask, begin } = lab();
    await begin('first', [])();
    for (let index = 0; index < 8_192; index += 1) {
      void begin(String(index), [])({ kind: 'Refused', reason: 'Busy', message: 'other calls have all places' });
    }
    await settle();
    expect(ask('first')).toBeDefined();
    expect(ask('0')).toBeUndefined();
  });
});
