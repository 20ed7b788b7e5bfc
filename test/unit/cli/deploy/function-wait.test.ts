import { describe, expect, it } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import { untilCurrent } from '../../../../src/cli/deploy/function-wait.ts';
import { EsbError } from '../../../../src/common/errors.ts';
import type { KubeClient } from '../../../../src/kube/api/types.ts';
import { functionReads } from '../../../support/function-reads.ts';

const { signal } = new AbortController();
const hello = (observedGeneration: number, ready: 'True' | 'False'): LambdaFunction =>
  ({
    metadata: { namespace: 'default', name: 'hello', uid: 'own', generation: 1 },
    status: {
      observedGeneration,
      conditions: [{ type: 'Ready', status: ready, observedGeneration, reason: 'Test', message: 'one of two' }],
    },
  }) as unknown as LambdaFunction;

async function wait(client: Pick<KubeClient, 'get'>, waitMs = 60_000): Promise<readonly string[]> {
  const notes: string[] = [];
  const step = { note: (text: string) => void notes.push(text) };
  await untilCurrent(client, hello(0, 'False'), { step, waitMs, signal });
  return notes;
}

describe('the wait for a function', () => {
  it('goes on until it is ready, and says why it is not', async () => {
    expect(await wait(functionReads(hello(0, 'True'), hello(1, 'False'), hello(1, 'True')))).toEqual([
      'the controller has not looked at it yet',
      'one of two',
    ]);
  });

  it('outlives an API server that is away for a moment', async () => {
    const away = new EsbError('connection refused', { code: 'Unreachable' });
    expect(await wait(functionReads(away, hello(1, 'True')))).toEqual(['connection refused']);
    await expect(wait(functionReads(away), 0)).rejects.toBe(away);
  });

  it('ends with a function that was deleted and made again, however ready that is', async () => {
    const other = { ...hello(1, 'True'), metadata: { ...hello(1, 'True').metadata, uid: 'another' } };
    await expect(wait(functionReads(other))).rejects.toThrow(/deleted default\/hello meanwhile, and made another/);
  });

  it('ends with a function that is gone, and when its time is over', async () => {
    await expect(wait(functionReads(undefined))).rejects.toThrow(/deleted default\/hello/);
    await expect(wait(functionReads(hello(1, 'False')), 0)).rejects.toThrow(/not up to date after 0 s: one of two/);
  });
});
