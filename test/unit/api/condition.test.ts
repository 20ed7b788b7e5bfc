import { describe, expect, it } from 'vitest';
import { conditionsOf, isCallable, MAX_MESSAGE_LENGTH, no, progressOf, yes } from '../../../src/api/condition.ts';

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
    expect(progressOf(ready, 'RegistryUnreachable')).toEqual({ Reconciling: { ...ready, status: 'True' } });
    expect(progressOf(ready, 'ImageNotFound')).toEqual({
      Stalled: { status: 'True', reason: 'ImageNotFound', message: 'as it is' },
    });
    expect(progressOf({ ...ready, status: 'Unknown' })).toEqual({});
    expect(progressOf({ ...ready, status: 'True' })).toEqual({});
  });
});

describe('conditions to write', () => {
  const present = [
    { type: 'Ready', status: 'True', reason: 'Running', message: '', lastTransitionTime: '2026-01-01T00:00:00Z' },
  ] as const;
  const of = { present, generation: 3, now: Date.UTC(2026, 10, 14, 12, 30, 15, 999) };
  const [old, stamp] = [present[0].lastTransitionTime, '2026-11-14T12:30:15Z'];

  it('keep the time of the last transition while their status stays', () => {
    expect(conditionsOf({ Ready: yes('Paused', 'frozen') }, of)).toEqual([
      {
        type: 'Ready',
        status: 'True',
        reason: 'Paused',
        message: 'frozen',
        observedGeneration: 3,
        lastTransitionTime: old,
      },
    ]);
  });

  it('take the present time when their status changes or they are new', () => {
    const told = conditionsOf({ Ready: no('Failed', ''), UpToDate: yes('UpToDate', '') }, of);
    expect(told.map(({ lastTransitionTime }) => lastTransitionTime)).toEqual([stamp, stamp]);
  });

  it('are those that have a verdict, and about the generation that it names', () => {
    const verdicts = { Ready: { ...yes('Running', ''), observedGeneration: 2 }, Stalled: undefined };
    expect(conditionsOf(verdicts, of)).toMatchObject([{ type: 'Ready', observedGeneration: 2 }]);
    expect(conditionsOf({ Ready: yes('Running', '') }, { ...of, generation: undefined })[0]).not.toHaveProperty(
      'observedGeneration',
    );
  });

  it('are cut to what the schemas take', () => {
    const [told] = conditionsOf({ Ready: no('Failed', 'x'.repeat(MAX_MESSAGE_LENGTH + 1)) }, of);
    expect(told?.message).toHaveLength(MAX_MESSAGE_LENGTH);
  });
});
