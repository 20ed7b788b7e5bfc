import { describe, expect, it } from 'vitest';
import { parsePlatforms } from '../../../hack/image/target.ts';

describe('platforms of an image', () => {
  it('are a list', () => {
    expect(parsePlatforms('linux/amd64,linux/arm64')).toEqual(['amd64', 'arm64']);
    expect(parsePlatforms('linux/arm64')).toEqual(['arm64']);
  });

  it.each(['', 'arm64', 'linux/arm64,', 'linux/riscv64', 'linux/arm64,linux/arm64'])('are not %j', (text) => {
    expect(() => parsePlatforms(text)).toThrow('no list of platforms such as linux/amd64,linux/arm64');
  });
});
