import { type Distribution, distributionOf, type Sample } from './distribution.ts';

/** One line of the table, and one entry of the file that `--json` writes. */
export interface BenchResult extends Distribution {
  readonly name: string;
  readonly unit: string;
  readonly baseline: { readonly what: string; readonly p50: number; readonly p99: number };
  readonly ratio: { readonly p50: number; readonly p99: number };
  readonly budget: string;
  readonly met: boolean;
  /** Calls that failed, where that is part of the budget. */
  readonly failures?: number;
  /** Further measurements of the same run, in words. */
  readonly note?: string;
}

export interface Comparison {
  readonly name: string;
  readonly unit: string;
  readonly ours: Sample;
  readonly baseline: { readonly what: string; readonly sample: Sample };
  readonly budget: string;
  readonly met: (ours: Distribution, baseline: Distribution) => boolean;
  readonly failures?: number;
  readonly note?: string;
}

export function compare(comparison: Comparison): BenchResult {
  const ours = distributionOf(comparison.ours);
  const baseline = distributionOf(comparison.baseline.sample);
  return {
    name: comparison.name,
    unit: comparison.unit,
    ...ours,
    baseline: { what: comparison.baseline.what, p50: baseline.p50, p99: baseline.p99 },
    ratio: { p50: ours.p50 / baseline.p50, p99: ours.p99 / baseline.p99 },
    budget: comparison.budget,
    met: comparison.met(ours, baseline),
    ...(comparison.failures === undefined ? {} : { failures: comparison.failures }),
    ...(comparison.note === undefined ? {} : { note: comparison.note }),
  };
}

const digits = (value: number): string => value.toFixed(value < 10 ? 2 : value < 1000 ? 1 : 0);

/** There is no ratio to nothing. */
const ratioText = (value: number): string => (Number.isFinite(value) ? value.toFixed(2) : '–');

/** The results as a Markdown table. */
export function tableOf(results: readonly BenchResult[]): string {
  const rows = results.map((result) => [
    result.name,
    result.unit,
    String(result.n),
    digits(result.p50),
    digits(result.p95),
    digits(result.p99),
    `${digits(result.baseline.p50)} / ${digits(result.baseline.p99)}`,
    `${ratioText(result.ratio.p50)} / ${ratioText(result.ratio.p99)}`,
    result.budget,
    result.met ? 'met' : 'MISSED',
  ]);
  const head = ['what', 'unit', 'n', 'p50', 'p95', 'p99', 'bare p50 / p99', 'ratio p50 / p99', 'budget', ''];
  const widths = head.map((text, column) => Math.max(text.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}
