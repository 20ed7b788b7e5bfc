import { describe, expect, it } from 'vitest';
import type { InitState } from '../../../src/init/contract.ts';
import { readinessBy } from '../../../src/init/readiness.ts';

const state = (change: Partial<InitState>): InitState => ({
  phase: 'Starting',
  idle: false,
  initMs: 0,
  restarts: 0,
  ...change,
});

describe('a worker', () => {
  it.each([undefined, state({}), state({ phase: 'Stopping' })])('is waited for while its init says %o', (told) => {
    expect(readinessBy({ state: told })).toEqual({ kind: 'Waiting' });
  });

  it('is ready when its init says so', () => {
    const ready = state({ phase: 'Ready', idle: true, initMs: 12 });
    expect(readinessBy({ state: ready })).toEqual({ kind: 'Ready', state: ready });
  });

  it.each([
    [
      { errorType: 'Runtime.ExitError', message: 'Runtime exited with error: exit status 3' },
      'Runtime.ExitError: Runtime exited with error: exit status 3',
    ],
    [
      { errorType: 'Function.Sad', message: 'reported', body: '{"errorMessage":"no cheese","errorType":"Sad"}' },
      'Function.Sad: no cheese',
    ],
    [{ errorType: 'Function.Sad', message: 'reported', body: 'no JSON' }, 'Function.Sad: reported'],
    [{ errorType: 'Function.Sad', message: 'reported', body: '[null]' }, 'Function.Sad: reported'],
    [{ errorType: 'Function.Sad', message: 'reported', body: '{"errorMessage":7}' }, 'Function.Sad: reported'],
  ])('fails with the words of its fault %o', (fault, message) => {
    const readiness = readinessBy({ state: state({ phase: 'Failed', fault }) });
    expect(readiness).toMatchObject({ kind: 'Failed', error: { code: 'InitFailed', message } });
  });

  it('fails when its init broke the protocol', () => {
    const readiness = readinessBy({ state: undefined, breach: 'a frame of 1 GiB' });
    expect(readiness).toMatchObject({
      kind: 'Failed',
      error: { message: 'Runtime.Unknown: a frame of 1 GiB', abused: true },
    });
  });
});
