import { EsbError } from '../common/errors.ts';

/**
 * Where a gateway streams its load to the leading controller, as lines of JSON. The number goes up with a change that
 * earlier programs cannot read.
 */
export const LOAD_PATH = '/demand/v1';
/** Annotation of the Lease of controllers: `HOST:PORT` at which the leader takes load. */
export const LOAD_ADDRESS_ANNOTATION = 'esb.dev/demand-address';
/** Milliseconds after which a gateway repeats its whole load, also as a sign of life. */
export const LOAD_EVERY_MS = 5_000;
/** Milliseconds without a line, or without an answer to one, after which a stream counts as dead. */
export const LOAD_SILENCE_MS = 20_000;
/** Bytes of a line at most. */
export const MAX_LOAD_BYTES = 1024 * 1024;
/** Functions and versions in a report at most: as many as fit in a line with the longest names. */
export const MAX_LOADS = 10_000;
/** More calls than any gateway holds. */
const MAX_CALLS = 1_000_000;
const FUNCTION_NAME = /^[a-zA-Z0-9_-]{1,64}$/;

/** Calls of a function, or of one of its versions, in one gateway. */
export interface FunctionLoad {
  readonly functionName: string;
  /** Undefined for $LATEST. */
  readonly version: number | undefined;
  /** Calls that run or wait now. */
  readonly calls: number;
  /** The most at once since the report before. */
  readonly peak: number;
}

/** One word of a gateway. */
export type LoadReport =
  /** All of its calls: what is not in the list has none. */
  | { readonly kind: 'all'; readonly load: readonly FunctionLoad[] }
  | { readonly kind: 'changes'; readonly load: readonly FunctionLoad[] }
  /** The gateway ends, and all of its calls have. */
  | { readonly kind: 'bye' };

/** One line, with its end. */
export function encodeReport(report: LoadReport): string {
  const load = report.kind === 'bye' ? [] : report.load;
  const rows = load.map(({ calls, functionName, peak, version }) => [functionName, version ?? 0, calls, peak]);
  return `${JSON.stringify(report.kind === 'bye' ? { kind: 'bye' } : { kind: report.kind, demand: rows })}\n`;
}

/**
 * The opposite of {@link encodeReport}.
 *
 * @throws {EsbError} `InvalidArgument` for a line that is no report
 */
export function decodeReport(line: string): LoadReport {
  let value: { readonly kind?: unknown; readonly demand?: unknown };
  try {
    value = Object(JSON.parse(line)) as typeof value;
  } catch (cause) {
    throw noReport('the line is no JSON', cause);
  }
  const { demand: load, kind } = value;
  if (kind === 'bye') {
    return { kind };
  }
  if ((kind !== 'all' && kind !== 'changes') || !Array.isArray(load) || load.length > MAX_LOADS) {
    throw noReport('its form is another');
  }
  return { kind, load: load.map(loadOf) };
}

function loadOf(row: unknown): FunctionLoad {
  const [functionName, version, calls, peak]: readonly unknown[] = Array.isArray(row) ? row : [];
  if (typeof functionName !== 'string' || !FUNCTION_NAME.test(functionName)) {
    throw noReport('a row names no function');
  }
  if (!isCount(version, 2 ** 31 - 1) || !isCount(calls, MAX_CALLS) || !isCount(peak, MAX_CALLS)) {
    throw noReport(`a number of ${functionName} is none`);
  }
  return { functionName, version: version === 0 ? undefined : version, calls, peak };
}

function isCount(value: unknown, most: number): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= most;
}

function noReport(why: string, cause?: unknown): EsbError {
  return new EsbError(`a report of load cannot be read: ${why}`, { code: 'InvalidArgument', cause });
}
