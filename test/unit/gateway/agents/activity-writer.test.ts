import { describe, expect, it } from 'vitest';
import { EsbError } from '../../../../src/common/errors.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { ActivityWriter } from '../../../../src/gateway/agents/activity-writer.ts';
import { manualClock, settle } from '../../../support/manual-clock.ts';

function reference(name: string) {
  return { namespace: 'default', name, uid: `uid-of-${name}` };
}

function lab() {
  const clock = manualClock();
  const written: string[] = [];
  const gone = new Set<string>();
  let fault: EsbError | undefined;
  const writer = new ActivityWriter({
    client: {
      patch: async (type, key, patch, options) => {
        if (fault !== undefined) {
          throw fault;
        }
        expect(type.plural).toBe('lambdaworkers');
        expect(options?.subresource).toBe('status');
        expect(patch.kind).toBe('merge');
        written.push(`${key.name} ${JSON.stringify(patch.body)}`);
        return {} as never;
      },
    },
    clock,
    logger: silentLogger(),
    exists: (uid) => !gone.has(uid),
  });
  return {
    clock,
    writer,
    written,
    gone,
    fail: (error: EsbError | undefined) => {
      fault = error;
    },
  };
}

const patchOf = (name: string, stamp: string): string => `${name} {"status":{"lastInvocationTime":"${stamp}"}}`;
const away = new EsbError('no answer', { code: 'Unreachable', retryable: true });

describe('ActivityWriter', () => {
  it('writes the newest stamp of each worker, at most once in three seconds', async () => {
    const { clock, writer, written } = lab();
    writer.note(reference('a'), 's1');
    writer.note(reference('a'), 's2');
    writer.note(reference('b'), 't1');
    await clock.advance(600);
    expect(written).toEqual([patchOf('a', 's2'), patchOf('b', 't1')]);
    for (let call = 0; call < 60; call += 1) {
      writer.note(reference('a'), `u${call}`);
      await clock.advance(100);
    }
    expect(written.filter((line) => line.startsWith('a'))).toHaveLength(3);
    await clock.advance(3_000);
    expect(written.at(-1)).toBe(patchOf('a', 'u59'));
  });

  it('does nothing, and has no timer, while nobody calls', async () => {
    const { clock, writer, written } = lab();
    writer.note(reference('a'), 's1');
    await clock.advance(10_000);
    expect(written).toHaveLength(1);
    expect(clock.pending()).toBe(0);
  });

  it('keeps the newest stamp while the API server is away, with growing pauses', async () => {
    const { clock, writer, written, fail } = lab();
    fail(away);
    writer.note(reference('a'), 's1');
    await clock.advance(20_000);
    writer.note(reference('a'), 's2');
    fail(undefined);
    await clock.advance(60_000);
    expect(written).toEqual([patchOf('a', 's2')]);
    expect(writer.pending).toBe(0);
  });

  it('drops what belongs to a worker that is gone', async () => {
    const { clock, writer, written, gone, fail } = lab();
    gone.add('uid-of-a');
    writer.note(reference('a'), 's1');
    await clock.advance(600);
    fail(new EsbError('not there', { code: 'NotFound' }));
    writer.note(reference('b'), 's1');
    await clock.advance(600);
    fail(undefined);
    await clock.advance(60_000);
    expect(written).toEqual([]);
    expect(clock.pending()).toBe(0);
  });

  it('drops a stamp that the API server refuses, and holds up nobody else by it', async () => {
    const clock = manualClock();
    const written: string[] = [];
    const writer = new ActivityWriter({
      client: {
        patch: async (_type, key) => {
          if (key.name === 'bad') {
            throw new EsbError('lastInvocationTime is no time', { code: 'Invalid' });
          }
          written.push(key.name);
          return {} as never;
        },
      },
      clock,
      logger: silentLogger(),
      exists: () => true,
    });
    writer.note(reference('bad'), 'rubbish');
    await clock.advance(600);
    writer.note(reference('good'), 's1');
    await clock.advance(600);
    expect(written).toEqual(['good']);
    await clock.advance(10_000);
    expect(writer.pending).toBe(0);
    expect(clock.pending()).toBe(0);
  });

  it('writes what is left at the end, without waiting', async () => {
    const { clock, writer, written } = lab();
    writer.note(reference('a'), 's1');
    await clock.advance(600);
    writer.note(reference('a'), 's2');
    await writer.stop(3_000);
    expect(written.at(-1)).toBe(patchOf('a', 's2'));
  });

  it('ends although the API server is away', async () => {
    const { writer, fail, written } = lab();
    fail(away);
    writer.note(reference('a'), 's1');
    await writer.stop(3_000);
    await settle();
    expect(written).toEqual([]);
  });
});
