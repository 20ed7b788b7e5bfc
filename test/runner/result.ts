import { readFile } from 'node:fs/promises';
import { root } from './program.ts';

/** Result of a stage. */
export interface StageResult {
  readonly passed: number;
  readonly failed: number;
  /** Reasons of the failures, in the order in which they came. */
  readonly reasons: readonly string[];
  /** Seconds by test file. */
  readonly seconds?: Readonly<Record<string, number>>;
}

export const nothing: StageResult = { passed: 0, failed: 0, reasons: [] };
const REASON_LENGTH = 3_000;

export function endOf(output: string): string {
  return output.slice(-REASON_LENGTH);
}

export function sum(results: readonly StageResult[]): StageResult {
  return {
    passed: results.reduce((total, { passed }) => total + passed, 0),
    failed: results.reduce((total, { failed }) => total + failed, 0),
    reasons: results.flatMap(({ reasons }) => reasons),
    seconds: Object.assign({}, ...results.map(({ seconds }) => seconds)),
  };
}

/** Fields of vitest's JSON report that are read here. */
interface VitestReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages: readonly string[] | null;
    }[];
  }[];
}

export interface ReportOptions {
  readonly ok: boolean;
  /** How vitest ended, with the end of its output. */
  readonly how: string;
  /** Whether a run without a test is fine. */
  readonly mayBeEmpty: boolean;
  /** Whether tests may be left out, as a filter by tag does. Otherwise one that did not run counts as a failure. */
  readonly mayLeaveOut: boolean;
}

/** Reads the JSON report of vitest. */
export async function readReport(file: string, options: ReportOptions): Promise<StageResult> {
  let report: VitestReport;
  try {
    report = JSON.parse(await readFile(file, 'utf8')) as VitestReport;
  } catch {
    return options.ok && options.mayBeEmpty
      ? nothing
      : { ...nothing, failed: 1, reasons: [`vitest left no report: ${options.how}`] };
  }
  const reasons: string[] = [];
  for (const suite of report.testResults) {
    const path = suite.name.replace(`${root}/`, '');
    const failed = suite.assertionResults.filter((test) => test.status === 'failed');
    for (const test of failed) {
      const why = (test.failureMessages ?? []).join('\n').slice(0, REASON_LENGTH);
      reasons.push(`${path} > ${test.fullName}\n${why}`);
    }
    if (suite.status === 'failed' && failed.length === 0) {
      reasons.push(`${path}\n${suite.message.slice(0, REASON_LENGTH)}`);
    }
  }
  if (report.numPendingTests > 0 && !options.mayLeaveOut) {
    // A skipped test is not a passed one.
    reasons.push(`${report.numPendingTests} tests did not run`);
  }
  if (!options.ok && reasons.length === 0) {
    reasons.push(options.how);
  }
  const failed = Math.max(report.numFailedTests, reasons.length);
  return { passed: report.numPassedTests, failed, reasons };
}
