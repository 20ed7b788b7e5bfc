import { expect, it } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import { functionProgress } from '../../../../src/cli/deploy/function-progress.ts';

function functionAt(observedGeneration: number | undefined, ...conditions: readonly object[]): LambdaFunction {
  return {
    metadata: { name: 'hello', generation: 2 },
    spec: {},
    status: observedGeneration === undefined ? undefined : { observedGeneration, conditions },
  } as unknown as LambdaFunction;
}

const condition = (type: string, status: string, observedGeneration = 2) => ({
  type,
  status,
  observedGeneration,
  reason: 'Because',
  message: 'of this',
});

it.each([
  ['the controller has not looked at', functionAt(undefined), 'InProgress'],
  ['was looked at in an earlier form', functionAt(1, condition('Ready', 'True', 1)), 'InProgress'],
  ['has no condition yet', functionAt(2), 'InProgress'],
  ['has the condition of an earlier form', functionAt(2, condition('Ready', 'True', 1)), 'InProgress'],
  ['is on its way', functionAt(2, condition('Ready', 'False'), condition('Reconciling', 'True')), 'InProgress'],
  ['is ready', functionAt(2, condition('Ready', 'True')), 'Current'],
  ['lasts', functionAt(2, condition('Ready', 'False'), condition('Stalled', 'True')), 'Failed'],
] as const)('a function that %s', (_, found, kind) => {
  expect(functionProgress(found).kind).toBe(kind);
});

it('tells why in the words of the condition', () => {
  expect(functionProgress(functionAt(2, condition('Stalled', 'True')))).toEqual({
    kind: 'Failed',
    reason: 'Because',
    message: 'of this',
  });
  expect(functionProgress(functionAt(2, condition('Ready', 'False')))).toEqual({
    kind: 'InProgress',
    message: 'of this',
  });
});
