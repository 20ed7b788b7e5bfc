import { describe, expect, it } from 'vitest';
import { toldEnd } from '../../../../src/agent/invoke/function-end.ts';

const whole = { contentType: 'application/json', streaming: false };
const stream = { contentType: '', streaming: true };
const size = 2;
const durationUs = 1;

describe('the end of a call in the words of Lambda', () => {
  it('is the answer alone of a function that answered', () => {
    expect(toldEnd('r', 'Answered', { size, durationUs }, whole)).toEqual({ end: { outcome: 'Answered' } });
    expect(toldEnd('r', 'Answered', { size: 0, durationUs }, undefined)).toEqual({ end: { outcome: 'Answered' } });
  });

  it('is the error that the runtime has reported', () => {
    const end = { errorType: 'ValueError', size, durationUs };
    expect(toldEnd('r', 'Error', end, whole)).toEqual({ end: { outcome: 'Error', errorType: 'ValueError' } });
  });

  it.each([
    ['Timeout', 'Sandbox.Timedout', 'Task timed out after 3.00 seconds'],
    ['Exited', 'Runtime.ExitError', 'Runtime exited with error: exit status 1'],
    ['Interrupted', 'Runtime.TruncatedResponse', 'the runtime broke its answer off'],
  ] as const)('is an error of the type %s where no answer had begun, and else a late one', (outcome, type, message) => {
    const error = { errorType: type, errorMessage: `RequestId: r Error: ${message}` };
    const none = toldEnd('r', outcome, { message, size: 0, durationUs }, undefined);
    expect(none.end).toEqual({ outcome, errorType: type });
    expect(JSON.parse(String(none.payload))).toEqual(error);
    const late = toldEnd('r', outcome, { message, size, durationUs }, whole);
    expect(late.payload).toBeUndefined();
    expect(JSON.parse(String(late.end.lateError))).toEqual(error);
  });

  it('names no call where an answer is too large', () => {
    const { payload } = toldEnd('r', 'TooLarge', { message: 'Response payload size', size: 0, durationUs }, undefined);
    expect(JSON.parse(String(payload))).toEqual({
      errorType: 'Function.ResponseSizeTooLarge',
      errorMessage: 'Response payload size',
    });
  });

  it('has the error of a stream that broke as the runtime reported it', () => {
    const errorBody = '{"errorType":"E","errorMessage":"m"}';
    const { end } = toldEnd('r', 'Error', { errorType: 'E', errorBody, size, durationUs }, stream);
    expect(end).toEqual({ outcome: 'Error', errorType: 'E', lateError: errorBody });
    const without = toldEnd('r', 'Error', { errorType: 'E', size, durationUs }, stream);
    expect(JSON.parse(String(without.end.lateError))).toMatchObject({ errorType: 'E' });
  });
});
