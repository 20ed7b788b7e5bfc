import { describe, expect, test } from 'vitest';
import { AbortedError, DeadlineError } from '../../../../src/common/deadline.ts';
import { ApiError, isUnavailable } from '../../../../src/kube/api/api-error.ts';

const status = (fields: object): string => JSON.stringify({ kind: 'Status', ...fields });

describe('an error answer', () => {
  test.each([
    ['a Status', 409, status({ reason: 'AlreadyExists', message: 'there is one' }), 'AlreadyExists', false],
    ['a Status without a reason', 409, status({ message: 'x' }), 'Conflict', false],
    ['plain text', 404, '404 page not found', 'NotFound', false],
    ['nothing', 503, '', 'ServiceUnavailable', true],
    ['a page of a proxy', 502, '<html>', 'InternalError', true],
    ['too many requests', 429, 'Too many requests', 'TooManyRequests', true],
    ['a version that is gone', 410, status({ reason: 'Gone' }), 'Expired', false],
    [
      'a version of the future',
      504,
      status({ reason: 'Timeout', details: { causes: [{ reason: 'ResourceVersionTooLarge' }] } }),
      'ResourceVersionTooLarge',
      true,
    ],
    ['something new', 418, 'teapot', 'Unknown', false],
  ])('with %s', (_, code, body, expected, retryable) => {
    expect(ApiError.fromAnswer('get it', code, body)).toMatchObject({
      code: expected,
      retryable,
      status: code,
    });
  });

  test('says what was being done and what the server said', () => {
    expect(ApiError.fromAnswer('get pods x', 403, status({ message: 'no way' })).message).toBe('get pods x: no way');
    expect(ApiError.fromAnswer('get pods x', 503, '').message).toBe('get pods x: HTTP status 503');
    expect(ApiError.fromAnswer('get', 500, 'x'.repeat(10_000)).message.length).toBeLessThan(600);
  });

  test.each([
    ['the header', '3', status({ details: { retryAfterSeconds: 9 } }), 3000],
    ['the Status', undefined, status({ details: { retryAfterSeconds: 9 } }), 9000],
    ['nothing', undefined, status({}), undefined],
    ['a date, which the API server does not send', 'Wed, 21 Oct 2026 07:28:00 GMT', '', undefined],
  ])('takes the wait from %s', (_, header, body, expected) => {
    expect(ApiError.fromAnswer('x', 429, body, header).retryAfterMs).toBe(expected);
  });
});

test('what only says that the server cannot be asked now', () => {
  expect(isUnavailable(ApiError.unreachable('x', new Error('refused')))).toBe(true);
  expect(isUnavailable(new DeadlineError('x', 1))).toBe(true);
  expect(isUnavailable(ApiError.fromAnswer('x', 500, ''))).toBe(true);
  expect(isUnavailable(ApiError.fromAnswer('x', 403, ''))).toBe(false);
  expect(isUnavailable(new AbortedError('x'))).toBe(false);
  expect(isUnavailable(new Error('x'))).toBe(false);
});
