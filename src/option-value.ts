import { InvalidArgumentError } from 'commander';
import { parseQuantity } from './api/quantity.ts';

/** A log of smaller files would be rotated all the time. */
const leastLogBytes = 64 * 1024;

/** Reads a whole number within these limits. */
export function wholeNumber(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < least || value > most) {
      const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
      throw new InvalidArgumentError(`It must be a whole number ${range}.`);
    }
    return value;
  };
}

/** A quantity as Kubernetes writes it, such as 10Mi. */
export function byteSize(text: string): number {
  const bytes = parseQuantity(text);
  if (bytes === undefined || bytes < leastLogBytes) {
    throw new InvalidArgumentError('It must be a size of at least 64Ki, such as 10Mi.');
  }
  return Math.floor(bytes);
}

/** Collects an option that may be given several times, or once with commas. */
export function repeated(text: string, earlier: readonly string[]): readonly string[] {
  return [...earlier, ...text.split(',').filter((part) => part !== '')];
}
