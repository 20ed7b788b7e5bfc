import { EsbError } from '../common/errors.ts';

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * A point in time in milliseconds since the epoch, given as a duration before `now`, such as `90s` or `1h30m`, or as a
 * date.
 *
 * @throws {EsbError} `InvalidArgument` for anything else
 */
export function parseSince(text: string, now: number): number {
  if (/^(?:\d+(?:\.\d+)?(?:ms|[smhd]))+$/.test(text)) {
    let total = 0;
    for (const [, count, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhd])/g)) {
      total += Number(count) * (unitMs[unit ?? ''] ?? 0);
    }
    return Math.max(1, Math.floor(now - total));
  }
  const date = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(date)) {
    throw new EsbError(`${text} is neither a duration such as 90s, 10m or 1h30m nor a date`, {
      code: 'InvalidArgument',
    });
  }
  return date;
}
