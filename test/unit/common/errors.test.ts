import { describe, expect, it } from 'vitest';
import { EsbError, errnoOf, hasCode, messageOf } from '../../../src/common/errors.ts';

describe('EsbError', () => {
  it('passes one of ours through and keeps a foreign one as its cause', () => {
    const ours = new EsbError('full', { code: 'DiskFull', retryable: true });
    const foreign = new TypeError('undefined is not a function');
    expect(EsbError.from(ours)).toBe(ours);
    expect(EsbError.from(foreign)).toMatchObject({
      code: 'Internal',
      retryable: false,
      cause: foreign,
      message: foreign.message,
    });
  });

  it('is told by its code', () => {
    expect(hasCode(new EsbError('full', { code: 'DiskFull' }), 'DiskFull')).toBe(true);
    expect(hasCode(Object.assign(new Error('full'), { code: 'DiskFull' }), 'DiskFull')).toBe(false);
  });

  it('reads the errno of a system error and the text of anything', () => {
    expect(errnoOf(Object.assign(new Error('gone'), { code: 'ENOENT' }))).toBe('ENOENT');
    expect(errnoOf('ENOENT')).toBeUndefined();
    expect(messageOf('plain')).toBe('plain');
  });
});
