import { describe, expect, it } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import { applyFunction, lookAt, untilCurrent } from '../../../../src/cli/deploy/deploy.ts';
import { EsbError, hasCode } from '../../../../src/common/errors.ts';
import type { KubeClient } from '../../../../src/kube/api/types.ts';
import { manualClock } from '../../../support/manual-clock.ts';

const { signal } = new AbortController();
const hello = (observedGeneration: number, ready: 'True' | 'False'): LambdaFunction =>
  ({
    metadata: { namespace: 'default', name: 'hello', generation: 1 },
    status: {
      observedGeneration,
      conditions: [{ type: 'Ready', status: ready, observedGeneration, reason: 'Test', message: 'one of two' }],
    },
  }) as unknown as LambdaFunction;

/** A client whose reads end in turn as these do; the last one goes on. */
function reads(...outcomes: readonly (LambdaFunction | EsbError | undefined)[]): Pick<KubeClient, 'get'> {
  let at = -1;
  return {
    get: (() => {
      at = Math.min(at + 1, outcomes.length - 1);
      const outcome = outcomes[at];
      return outcome instanceof EsbError ? Promise.reject(outcome) : Promise.resolve(outcome);
    }) as KubeClient['get'],
  };
}

async function wait(client: Pick<KubeClient, 'get'>, waitMs = 60_000): Promise<readonly string[]> {
  const notes: string[] = [];
  const step = { note: (text: string) => void notes.push(text) };
  await untilCurrent(client, hello(0, 'False'), { step, clock: manualClock(), waitMs, signal });
  return notes;
}

describe('the wait for a function', () => {
  it('goes on until it is ready, and says why it is not', async () => {
    expect(await wait(reads(hello(0, 'True'), hello(1, 'False'), hello(1, 'True')))).toEqual([
      'the controller has not looked at it yet',
      'one of two',
    ]);
  });

  it('outlives an API server that is away for a moment', async () => {
    const away = new EsbError('connection refused', { code: 'Unreachable' });
    expect(await wait(reads(away, hello(1, 'True')))).toEqual(['connection refused']);
    await expect(wait(reads(away), 0)).rejects.toBe(away);
  });

  it('ends with a function that is gone, and when its time is over', async () => {
    await expect(wait(reads(undefined))).rejects.toThrow(/deleted default\/hello/);
    await expect(wait(reads(hello(1, 'False')), 0)).rejects.toThrow(/not up to date after 0 s: one of two/);
  });
});

it('a cluster without the resource, and a user without the right, are refused with the way out', async () => {
  const look = (code: 'NotFound' | 'Forbidden') =>
    lookAt(reads(new EsbError('no', { code })), 'hello', { namespace: 'team' }, signal);
  await expect(look('NotFound')).rejects.toSatisfy(
    (error) => hasCode(error, 'NotFound') && /install/.test(error.message),
  );
  await expect(look('Forbidden')).rejects.toSatisfy(
    (error) => hasCode(error, 'Forbidden') && /namespace team/.test(error.message),
  );
});

it('settings that a scaler has taken over while the image was built are left to the scaler', async () => {
  const bodies: object[] = [];
  const found = {
    metadata: { namespace: 'team', name: 'hello', generation: 2, managedFields: [] },
    spec: { template: { spec: { image: 'old' } }, scaling: { minWorkers: 5 } },
  } as unknown as LambdaFunction;
  const client = {
    ...reads(found),
    patch: ((_kind: unknown, _name: unknown, { body }: { readonly body: object }) => {
      bodies.push(body);
      return Promise.resolve({ ...found, metadata: { ...found.metadata, generation: 2 + bodies.length } });
    }) as KubeClient['patch'],
  };
  const code = { name: 'hello', image: 'registry.example/hello@sha256:0', handler: 'app.handler' };
  const options = { namespace: 'team', forceConflicts: false };
  expect(await applyFunction(client, code, options, signal)).toMatchObject({ isSame: false });
  const { handler, image } = code;
  expect(bodies).toMatchObject([{ spec: { template: { spec: { image, handler } } } }]);
  expect(JSON.stringify(bodies)).not.toContain('scaling');
});
