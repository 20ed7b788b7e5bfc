import { describe, expect, it } from 'vitest';
import { isCallable, progressOf } from '../../../src/api/condition.ts';

const condition = (type: string, status: 'True' | 'False' | 'Unknown', reason: string) => ({ type, status, reason });

describe('whether a worker answers calls', () => {
  it.each([
    ['as its agent says', true, [condition('Ready', 'False', 'Replacing'), condition('Callable', 'True', 'Running')]],
    [
      'kept at rest',
      false,
      [condition('Ready', 'True', 'PausedByOwner'), condition('Callable', 'False', 'PausedByOwner')],
    ],
    ['of an agent before the condition', true, [condition('Ready', 'True', 'Paused')]],
    [
      'lost, by a controller before the condition',
      false,
      [condition('Ready', 'Unknown', 'NodeLost'), condition('Callable', 'True', 'Running')],
    ],
    [
      'moved to an agent before the condition',
      true,
      [condition('Ready', 'True', 'Running'), condition('Callable', 'Unknown', 'Reassigned')],
    ],
    ['that nobody knows of', false, []],
  ] as const)('%s', (_name, wanted, conditions) => {
    expect(isCallable(conditions)).toBe(wanted);
  });
});

describe('what becomes of an object that is not ready', () => {
  it('passes by itself or lasts, by its cause, and is told only while that is known', () => {
    const ready = { status: 'False', reason: 'ReplacementFailed', message: 'as it is' } as const;
    expect(progressOf(ready, 'RegistryUnreachable')).toEqual({
      ...ready,
      type: 'Reconciling',
      status: 'True',
    });
    expect(progressOf(ready, 'ImageNotFound')).toEqual({
      type: 'Stalled',
      status: 'True',
      reason: 'ImageNotFound',
      message: 'as it is',
    });
    expect(progressOf({ ...ready, status: 'Unknown' })).toBeUndefined();
    expect(progressOf({ ...ready, status: 'True' })).toBeUndefined();
  });
});
