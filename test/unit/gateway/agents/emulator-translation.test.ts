import { describe, expect, it } from 'vitest';
import { MAX_RESPONSE_BYTES } from '../../../../src/common/emulator-answer.ts';
import {
  timeoutError,
  translateEmulatorAnswer,
  unknownOutcome,
} from '../../../../src/gateway/agents/emulator-translation.ts';

const call = { requestId: 'id-1', timeoutSeconds: 3, now: Date.parse('2026-11-01T00:00:00Z') };

function translate(text: string, status = 200) {
  const body = Buffer.from(text);
  const answer = translateEmulatorAnswer({ status, body, size: body.length }, call);
  return { functionError: answer.functionError, text: answer.body.toString() };
}

describe('an answer of the emulator', () => {
  it.each([
    '{"statusCode":200}',
    'null',
    '""',
    '"Task timed out after 3.00 seconds"',
    '{"message":"Task timed out after 3.00 seconds"}',
    '{"errorMessage":"kept","errorType":"mine","statusCode":500}',
    '{"errorMessage":"only"}',
    '{"errorType":7,"errorMessage":"x"}',
    '[{"errorType":"a","errorMessage":"b"}]',
    'plain text of a custom runtime',
  ])('is left alone: %s', { tags: ['G4'] }, (text) => {
    expect(translate(text)).toEqual({ functionError: false, text });
  });

  it.each([
    ['Python', '{"errorMessage": "no", "errorType": "ValueError", "requestId": "1", "stackTrace": ["a"]}'],
    ['Node.js', '{"errorType":"Error","errorMessage":"no","trace":["Error: no"]}'],
    ['Java', '{"errorMessage":"no","errorType":"java.lang.X","stackTrace":[],"cause":{"errorMessage":"x"}}'],
    ['Go', '{"errorMessage":"no","errorType":"errorString"}'],
    ['one with blanks in front', ' \n{ "errorType": "E", "errorMessage": "m" }'],
  ])('is an error of the function when it is one of %s', { tags: ['G4'] }, (_what, text) => {
    expect(translate(text)).toEqual({ functionError: true, text });
  });

  it.each(['Task timed out after 7.00 seconds', 'Task timed out after 7.00 seconds\n'])(
    'is a timeout: %j',
    { tags: ['P16'] },
    (text) => {
      const answer = translate(text);
      expect(answer.functionError).toBe(true);
      expect(JSON.parse(answer.text)).toEqual({
        errorType: 'Sandbox.Timedout',
        errorMessage: '2026-11-01T00:00:00.000Z id-1 Task timed out after 7.00 seconds',
      });
    },
  );

  it.each([
    ['nothing with status 200', '', 200, 'Runtime.ExitError'],
    ['nothing with status 502', '', 502, 'Runtime.ExitError'],
    ['text with status 504', 'x', 504, 'Runtime.ExitError'],
    ['nothing with status 400', '', 400, 'Runtime.Unknown'],
    ['an error with status 500', '{"errorType":"Init","errorMessage":"m"}', 500, 'Init'],
  ])('is a failure of the runtime when it is %s', { tags: ['P16'] }, (_what, text, status, errorType) => {
    const answer = translate(text, status);
    expect(answer.functionError).toBe(true);
    expect(JSON.parse(answer.text).errorType).toBe(errorType);
  });

  it('is refused when it is larger than Lambda allows', () => {
    const answer = translateEmulatorAnswer(
      { status: 200, body: Buffer.from('"x'), size: MAX_RESPONSE_BYTES + 1 },
      call,
    );
    expect(JSON.parse(answer.body.toString()).errorType).toBe('Function.ResponseSizeTooLarge');
  });
});

describe('what is told in place of an answer', () => {
  it('of a timeout names the time that the function had', () => {
    expect(timeoutError(call).body.toString()).toContain('id-1 Task timed out after 3.00 seconds');
  });

  it('of an unknown outcome says that the function may have run and was not called again', () => {
    const text = unknownOutcome('id-1', 'AgentStopped', 'the agent stopped').body.toString();
    expect(text).toMatch(/the agent stopped\. The outcome is unknown.*It was not called again/);
  });
});
