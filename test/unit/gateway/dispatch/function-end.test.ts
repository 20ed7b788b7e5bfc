import { describe, expect, it } from 'vitest';
import { MAX_RESPONSE_BYTES } from '../../../../src/common/emulator-answer.ts';
import { answerOfFunction, type WholeAnswer } from '../../../../src/gateway/dispatch/function-end.ts';
import type { FunctionEnd } from '../../../../src/protocol/generated/agent.ts';

function answer(end: Partial<FunctionEnd>, text = '', whole: Partial<WholeAnswer> = {}) {
  const body = Buffer.from(text);
  const { body: told, ...rest } = answerOfFunction(
    { outcome: 'FUNCTION_OUTCOME_ANSWERED', errorType: '', lateError: '', ...end },
    { body, size: body.length, contentType: '', ...whole },
    'id-1',
  );
  return { ...rest, text: told.toString() };
}

const error = (errorType: string, errorMessage: string): string => JSON.stringify({ errorType, errorMessage });

describe('an answer whose end is known', () => {
  it.each(['', 'null', '{"errorType":"E","errorMessage":"returned"}', 'Task timed out after 3.00 seconds'])(
    'is left alone: %j',
    (text) => {
      expect(answer({}, text, { contentType: 'text/plain' })).toEqual({
        outcome: 'answered',
        functionError: false,
        contentType: 'text/plain',
        text,
      });
    },
  );

  it('over 6 MB is refused in the words of AWS, by the word of the worker or by its size', () => {
    const text = error(
      'Function.ResponseSizeTooLarge',
      `Response payload size exceeded maximum allowed payload size (${MAX_RESPONSE_BYTES} bytes).`,
    );
    const tooLarge = { outcome: 'too-large', functionError: true, text };
    expect(answer({}, 'x', { size: MAX_RESPONSE_BYTES + 1 })).toEqual(tooLarge);
    expect(answer({ outcome: 'FUNCTION_OUTCOME_TOO_LARGE' }, 'the beginning')).toEqual(tooLarge);
  });
});

describe('an error', () => {
  it.each([
    ['ERROR', 'answered'],
    ['TIMEOUT', 'timed-out'],
    ['EXITED', 'exited'],
    ['INTERRUPTED', 'interrupted'],
    ['UNSPECIFIED', 'answered'],
  ] as const)('%s goes on as the worker sends it', (kind, outcome) => {
    for (const text of ['{"errorType":"E","errorMessage":"m","custom":1}', 'no JSON']) {
      expect(answer({ outcome: `FUNCTION_OUTCOME_${kind}` }, text)).toEqual({ outcome, functionError: true, text });
    }
  });

  it('that came late takes the place of what came before', () => {
    const lateError = '{"errorType":"E"}';
    for (const kind of ['ERROR', 'TOO_LARGE', 'EXITED'] as const) {
      const told = answer({ outcome: `FUNCTION_OUTCOME_${kind}`, lateError }, 'begun', { size: 2 ** 24 });
      expect(told).toMatchObject({ functionError: true, text: lateError });
    }
  });

  it.each([
    ['ERROR', '', 'Runtime.Unknown'],
    ['ERROR', 'E', 'E'],
    ['TIMEOUT', '', 'Sandbox.Timedout'],
    ['EXITED', '', 'Runtime.ExitError'],
    ['INTERRUPTED', '', 'Runtime.TruncatedResponse'],
    ['UNSPECIFIED', '', 'Runtime.Unknown'],
  ] as const)('%s of which the worker says no more than %j', (kind, errorType, told) => {
    const { text } = answer({ outcome: `FUNCTION_OUTCOME_${kind}`, errorType });
    expect(JSON.parse(text)).toMatchObject({
      errorType: told,
      errorMessage: expect.stringMatching(/^RequestId: id-1 Error: /),
    });
  });
});
