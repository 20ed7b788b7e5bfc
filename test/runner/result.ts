import { readFile } from 'node:fs/promises';
import { root } from './program.ts';

/** Result of a stage. */
export interface StageResult {
  readonly passed: number;
  readonly failed: number;
  /** Reasons of failures that belong to no test file, in the order in which they came. */
  readonly reasons: readonly string[];
  readonly failedFiles?: readonly FailedFile[];
  /** Seconds by test file. */
  readonly seconds?: Readonly<Record<string, number>>;
}

/** Test file with a test that failed. */
export interface FailedFile {
  readonly stage: string;
  readonly file: string;
  /** Number of its tests that passed. */
  readonly passed: number;
  /** Reason of each failure: at least one. */
  readonly reasons: readonly string[];
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
    failedFiles: results.flatMap(({ failedFiles = [] }) => failedFiles),
    seconds: Object.assign({}, ...results.map(({ seconds }) => seconds)),
  };
}

/** Fields of vitest's JSON report that are read here. */
interface VitestReport {
  readonly numPassedTests: number;
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
  readonly stage: string;
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
  const failedFiles = report.testResults
    .filter(({ status }) => status === 'failed')
    .map(({ name, message, assertionResults }) => {
      const file = name.replace(`${root}/`, '');
      const tests = assertionResults
        .filter(({ status }) => status === 'failed')
        .map(({ fullName, failureMessages }) => `${file} > ${fullName}\n${cut((failureMessages ?? []).join('\n'))}`);
      return {
        stage: options.stage,
        file,
        passed: assertionResults.filter(({ status }) => status === 'passed').length,
        reasons: tests.length > 0 ? tests : [`${file}\n${cut(message)}`],
      };
    });
  const reasons: string[] = [];
  // A skipped test is not a passed one. A file that failed leaves out the rest of its tests, and is listed anyway.
  const leftOut = report.testResults
    .filter(({ status }) => status !== 'failed')
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ status }) => status !== 'passed').length;
  if (leftOut > 0 && !options.mayLeaveOut) {
    reasons.push(`${leftOut} tests did not run`);
  }
  if (!options.ok && failedFiles.length === 0 && reasons.length === 0) {
    reasons.push(options.how);
  }
  const failed = reasons.length + failedFiles.reduce((total, file) => total + file.reasons.length, 0);
  return { passed: report.numPassedTests, failed, reasons, failedFiles };
}

function cut(text: string): string {
  return text.slice(0, REASON_LENGTH);
}
