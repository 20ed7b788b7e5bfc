import { randomUUID } from 'node:crypto';
import { crc32 } from 'node:zlib';

/*
 * How a trace is told from one program to the next: `traceparent` of W3C Trace Context (level 1), and `X-Amzn-Trace-Id` of AWS
 * X-Ray, which is what Lambda and its runtimes know. Both name the same 16 bytes: a Root of
 * X-Ray is a trace id cut after its first four bytes.
 */

/** Names one span of one trace. */
export interface TraceContext {
  /** 32 hexadecimal digits, in lower case and not all zero. */
  readonly traceId: string;
  /** 16 hexadecimal digits, in lower case and not all zero. */
  readonly spanId: string;
  /** Whether the trace is to be kept, by the decision of its first program. */
  readonly sampled: boolean;
}

const traceParentForm = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const rootForm = /^1-([0-9a-f]{8})-([0-9a-f]{24})$/i;
const spanForm = /^[0-9a-f]{16}$/;
const noTrace = '0'.repeat(32);
const noSpan = '0'.repeat(16);
const sampledFlag = 1;
/** Longest header that is looked at, in characters: one of X-Ray has well below 200. */
const maxHeader = 2_048;

/** The span of a `traceparent`; undefined for an invalid one. */
export function parseTraceParent(text: string): TraceContext | undefined {
  const match = text.length > maxHeader ? null : traceParentForm.exec(text);
  if (match === null) {
    return undefined;
  }
  const [, traceId = '', spanId = '', flags = '', rest] = match;
  // Only later versions may say more than version 00.
  const isMalformed = rest !== undefined && text.startsWith('00');
  if (isMalformed || traceId === noTrace || spanId === noSpan) {
    return undefined;
  }
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & sampledFlag) === sampledFlag };
}

/** A `traceparent` of version 00. */
export function formatTraceParent({ traceId, spanId, sampled }: TraceContext): string {
  return `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`;
}

/** The span of an `X-Amzn-Trace-Id`; undefined for one without a whole Root and Parent. */
export function parseXRay(text: string): TraceContext | undefined {
  const fields = xRayFields(text);
  const traceId = traceIdOf(fields);
  const spanId = fields.get('parent')?.value.toLowerCase() ?? '';
  if (traceId === undefined || traceId === noTrace || spanId === noSpan || !spanForm.test(spanId)) {
    return undefined;
  }
  // Without a decision, also written as `?`, the trace is sampled.
  return { traceId, spanId, sampled: fields.get('sampled')?.value !== '0' };
}

/** An `X-Amzn-Trace-Id` of Root, Parent and Sampled. */
export function formatXRay({ traceId, spanId, sampled }: TraceContext): string {
  return `Root=1-${traceId.slice(0, 8)}-${traceId.slice(8)};Parent=${spanId};Sampled=${sampled ? 1 : 0}`;
}

/**
 * The `X-Amzn-Trace-Id` that continues from a span. Fields of the given header beside Root, Parent and Sampled are
 * kept; a header of another trace is left as it is.
 *
 * @param given the caller's header; empty for none
 */
export function continuedXRay(given: string, context: TraceContext): string {
  if (given === '') {
    return formatXRay(context);
  }
  const fields = xRayFields(given);
  if (traceIdOf(fields) !== context.traceId) {
    return given;
  }
  const others = [...fields].filter(([name]) => !known.has(name)).map(([, field]) => `;${field.text}`);
  return `${formatXRay(context)}${others.join('')}`;
}

/**
 * The `X-Amzn-Trace-Id` that a function is given, which Lambda never leaves out: Root, Parent, Sampled and Lineage. All
 * that the caller has sent stays, but for a Root that is none. No call is sampled that the caller does not sample.
 *
 * @param given the caller's header; empty for none
 * @param lineage name of the function
 */
export function completeXRay(given: string, lineage: string): string {
  if (given === '') {
    // Most calls come without, and this is on the path of each.
    return `${newRoot()};${newParent()};Sampled=0;${lineageOf(lineage)}`;
  }
  const fields = xRayFields(given);
  const root = traceIdOf(fields);
  const head = [
    root === undefined ? newRoot() : fields.get('root')?.text,
    (root === undefined ? undefined : fields.get('parent')?.text) ?? newParent(),
    fields.get('sampled')?.text ?? 'Sampled=0',
  ];
  const others = [...fields].filter(([name]) => !known.has(name)).map(([, { text }]) => text);
  const last = fields.has('lineage') ? [] : [lineageOf(lineage)];
  return [...head, ...others, ...last].join(';');
}

function newRoot(): string {
  return `Root=1-${hex(Math.floor(Date.now() / 1000))}-${digits(24)}`;
}

function newParent(): string {
  return `Parent=${digits(16)}`;
}

function lineageOf(name: string): string {
  return `Lineage=1:${hex(crc32(name))}:0`;
}

const known: ReadonlySet<string> = new Set(['root', 'parent', 'sampled']);

/** Random hexadecimal digits, 24 at most. */
function digits(count: number): string {
  const uuid = randomUUID();
  return `${uuid.slice(24)}${uuid.slice(0, 8)}${uuid.slice(9, 13)}`.slice(0, count);
}

function hex(value: number): string {
  return value.toString(16).padStart(8, '0');
}

/** The parent span of a call, by its `traceparent` or else its `X-Amzn-Trace-Id`; undefined for none. Either may be empty. */
export function parentOf(traceParent: string, traceId: string): TraceContext | undefined {
  return parseTraceParent(traceParent) ?? parseXRay(traceId);
}

/** The trace of the Root, if there is a whole one. */
function traceIdOf(fields: ReadonlyMap<string, XRayField>): string | undefined {
  const root = rootForm.exec(fields.get('root')?.value ?? '');
  return root === null ? undefined : `${root[1]}${root[2]}`.toLowerCase();
}

interface XRayField {
  readonly text: string;
  readonly value: string;
}

/** The `name=value` parts by their name in lower case; the first of each counts. */
function xRayFields(text: string): Map<string, XRayField> {
  const fields = new Map<string, XRayField>();
  if (text.length > maxHeader) {
    return fields;
  }
  for (const part of text.split(';')) {
    const field = part.trim();
    const at = field.indexOf('=');
    const name = field.slice(0, Math.max(0, at)).toLowerCase();
    if (at > 0 && !fields.has(name)) {
      fields.set(name, { text: field, value: field.slice(at + 1).trim() });
    }
  }
  return fields;
}
