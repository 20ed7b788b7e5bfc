import type { FailedFile } from './result.ts';

/** Entry of `test/flaky.json`: one test file that failed without a fault of the product. */
export interface FlakyEntry {
  readonly file: string;
  /** Day on which the file was entered, as `2026-12-03`. */
  readonly date: string;
  /** Reason why the file fails now and then. */
  readonly cause: string;
  /** Day on which the cause was mended. The entry stays, so that a second one is seen. */
  readonly mended?: string;
}

/** Longest age in days of an entry whose cause is not mended. */
export const FLAKY_DAYS = 14;
/** Largest number of flaky files with which a run may pass. */
export const MOST_FLAKY = 3;
/** Largest number of failed files that are run again. More of them have another cause than chance. */
const MOST_AGAIN = 8;
const DAY_MS = 86_400_000;

/**
 * Tests of safety: chaos, takeover, simulation, containment, events, and others that hold that nothing is lost, run
 * twice or reached by another tenant. One failure in a thousand is a defect there, so these are never run again.
 */
const safetyTests: readonly RegExp[] = [
  /^test\/unit\/(chaos|simulation)\//,
  /^test\/unit\/agent\/(fleet-invariants|found-by-simulation|simulation-mutations)\./,
  /^test\/unit\/gateway\/(events|handover)\//,
  /^test\/integration\/agent\/containment\./,
  /^test\/integration\/runtime\/confinement\./,
  /^test\/integration\/init\/(attacks|bounds)\./,
  /^test\/integration\/chart\/(attempts|tenant)\./,
  /^test\/integration\/controller\/functions-kills\./,
  /^test\/integration\/gateway\/event/,
  /^test\/e2e\/(08-concurrency|18-chaos|25-takeover)\./,
];

export function isSafetyTest(file: string): boolean {
  return safetyTests.some((pattern) => pattern.test(file));
}

/** Failed files to run once more, each alone. */
export function filesToRepeat(failed: readonly FailedFile[]): readonly FailedFile[] {
  const some = failed.filter(({ file }) => !isSafetyTest(file));
  return some.length > MOST_AGAIN ? [] : some;
}

/** Reasons why the list of flaky files fails a run, at the day of `now` (milliseconds since 1970). */
export function checkFlaky(entries: readonly FlakyEntry[], files: readonly string[], now: number): readonly string[] {
  return entries.flatMap(({ file, date, cause, mended }, index) => {
    const reasons: string[] = [];
    if (isSafetyTest(file)) {
      reasons.push(`test/flaky.json: ${file} is a test of safety, which has to hold always; mend its cause`);
    }
    const since = Date.parse(date);
    if (Number.isNaN(since) || cause.trim() === '') {
      reasons.push(`test/flaky.json: ${file} needs a date such as 2026-12-03 and a cause`);
    }
    if (mended === undefined && !files.includes(file)) {
      reasons.push(`test/flaky.json: there is no ${file}; set "mended" where its cause has gone`);
    }
    if (mended === undefined && now - since > FLAKY_DAYS * DAY_MS) {
      reasons.push(`test/flaky.json: ${file} has stood for more than ${FLAKY_DAYS} days; mend its cause`);
    }
    if (entries.findIndex((each) => each.file === file) < index) {
      reasons.push(`test/flaky.json: ${file} is entered twice; its first mend was none`);
    }
    return reasons;
  });
}

/** Reasons why a run fails in which these files failed at first and passed alone. */
export function judgeFlaky(flaky: readonly string[], entries: readonly FlakyEntry[]): readonly string[] {
  const mended = flaky.filter((file) => entries.some((each) => each.file === file && each.mended !== undefined));
  return [
    ...mended.map((file) => `${file} is flaky again, though test/flaky.json says that its cause was mended`),
    ...(flaky.length > MOST_FLAKY ? [`${flaky.length} files are flaky, and ${MOST_FLAKY} are the most`] : []),
  ];
}
