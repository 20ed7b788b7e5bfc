import { validateHeaderName, validateHeaderValue } from 'node:http';
import { unreachable } from '../../common/errors.ts';
import type { FunctionOutcome } from '../agents/function-call.ts';
import type { LambdaError } from '../lambda/lambda-error.ts';
import type { HeaderList } from './cors.ts';

/** The answer of a function as its client gets it. */
export interface UrlAnswer extends AnswerHead {
  readonly body: Buffer;
}

/** Status and headers of an answer. */
export interface AnswerHead {
  readonly status: number;
  /** A cookie is a `set-cookie` of its own. */
  readonly headers: HeaderList;
}

/** Type of an answer that begins with its status and headers, as runtimes mark it that stream. */
const WITH_PRELUDE = 'application/vnd.awslambda.http-integration-response';
/** Bytes between status and headers, in JSON, and the body. */
export const PRELUDE_END = Buffer.alloc(8);

/** Most bytes of status and headers: of a prelude as it is written, and of the headers of an answer as they are sent. */
export const MAX_PRELUDE_BYTES = 64 * 1024;
/** Bytes between a header and its value, and after that. */
const BETWEEN_BYTES = 4;

/** Headers that the gateway sets itself, or that are between two programs which are connected. */
const NOT_OF_FUNCTION = new Set([
  'connection',
  'content-length',
  'keep-alive',
  'proxy-authenticate',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'x-amzn-requestid',
  'x-amzn-trace-id',
]);

const JSON_TYPE: HeaderList = [['content-type', 'application/json']];

/** The one answer to a host without a URL, a URL that is closed, and a sender without proof or right. */
const FORBIDDEN = answer(403, { Message: 'Forbidden' });

/** Whether an answer of this type begins with its status and headers. */
export function hasPrelude(contentType: string): boolean {
  return (contentType.split(';')[0] ?? '').trim().toLowerCase() === WITH_PRELUDE;
}

/**
 * The answer of a function that was not streamed; undefined for one that makes none. JSON without a `statusCode` is the
 * body of an answer with status 200.
 *
 * @param contentType of the payload, as its runtime says
 */
export function urlAnswerOf(payload: Buffer, contentType: string): UrlAnswer | undefined {
  if (hasPrelude(contentType)) {
    const end = payload.indexOf(PRELUDE_END);
    const head = end < 0 ? undefined : preludeOf(payload.subarray(0, end));
    return head === undefined ? undefined : { ...head, body: payload.subarray(end + PRELUDE_END.length) };
  }
  const told = parsed(payload);
  if (told === undefined) {
    return undefined;
  }
  if (!isRecord(told.value) || told.value.statusCode === undefined) {
    return { status: 200, headers: [['content-type', 'application/json']], body: payload };
  }
  const head = headOf(told.value, 'application/json');
  const { body, isBase64Encoded } = told.value;
  const text = body === undefined || body === null ? '' : typeof body === 'string' ? body : JSON.stringify(body);
  return head === undefined
    ? undefined
    : { ...head, body: Buffer.from(text, isBase64Encoded === true ? 'base64' : 'utf8') };
}

/** Status and headers of an answer that is streamed; undefined for a text that has none, or is too long. */
export function preludeOf(text: Buffer): AnswerHead | undefined {
  const told = text.length > MAX_PRELUDE_BYTES ? undefined : parsed(text);
  return told === undefined || !isRecord(told.value)
    ? undefined
    : headOf({ statusCode: 200, ...told.value }, 'application/octet-stream');
}

/**
 * The answer to a request that ran nothing. Names of functions, workers and nodes stay inside: anybody may send such a
 * request.
 */
export function refusalOf(error: LambdaError): UrlAnswer {
  const { errorName, reason, retryAfterSeconds, status } = error;
  if (errorName === 'IncompleteSignatureException') {
    return FORBIDDEN;
  }
  const retry: HeaderList = retryAfterSeconds === undefined ? [] : [['retry-after', String(retryAfterSeconds)]];
  switch (status) {
    case 403:
      // The signer needs the reason, and knows of the URL.
      return errorName === 'InvalidSignatureException' || errorName === 'ExpiredTokenException'
        ? answer(403, { Message: error.message })
        : FORBIDDEN;
    case 404:
      return answer(503, { Message: 'Service Unavailable' }, retry);
    case 408:
      return answer(408, { Message: 'Request Timeout' }, [['connection', 'close']]);
    case 413:
      return answer(413, { Message: 'Request Entity Too Large' });
    case 429:
      return answer(429, { ...(reason === undefined ? {} : { Reason: reason }), Message: 'Rate Exceeded.' }, retry);
    case 431:
      return answer(431, { Message: 'Request Header Fields Too Large' });
    // The function has no workers yet.
    case 409:
    case 502:
    case 503:
      return answer(503, { Message: 'Service Unavailable' }, retry);
    default:
      return status < 500
        ? answer(400, { Message: 'Bad Request' })
        : answer(500, { Message: 'Internal Server Error' }, retry);
  }
}

/** The answer to a call whose function gave none; its error is in the log of the function. */
export function failureOf(outcome: FunctionOutcome): UrlAnswer {
  switch (outcome) {
    case 'timed-out':
      return answer(504, { Message: 'Gateway Timeout' });
    case 'answered':
    case 'exited':
    case 'interrupted':
    case 'too-large':
    case 'init-failed':
    case 'unknown':
      return { status: 502, headers: JSON_TYPE, body: Buffer.from('Internal Server Error') };
    default:
      return unreachable(outcome);
  }
}

function answer(status: number, body: object, more: HeaderList = []): UrlAnswer {
  return { status, headers: [...JSON_TYPE, ...more], body: Buffer.from(JSON.stringify(body)) };
}

/** @param usualType type of the body where the function names none */
function headOf(answer: Readonly<Record<string, unknown>>, usualType: string): AnswerHead | undefined {
  const status = statusOf(answer.statusCode);
  const own = fieldsOf(answer.headers);
  const cookies = listOf(answer.cookies)?.map((cookie) => ['set-cookie', cookie] as const);
  if (status === undefined || own === undefined || cookies === undefined) {
    return undefined;
  }
  const kept = own.filter(([name]) => !NOT_OF_FUNCTION.has(name));
  const type: HeaderList = kept.some(([name]) => name === 'content-type') ? [] : [['content-type', usualType]];
  const headers = [...type, ...kept, ...cookies];
  const bytes = headers.reduce((sum, [name, value]) => sum + name.length + value.length + BETWEEN_BYTES, 0);
  return bytes <= MAX_PRELUDE_BYTES && headers.every(isHeader) ? { status, headers } : undefined;
}

/** A status that ends a request; interim ones are not for functions to send. */
function statusOf(value: unknown): number | undefined {
  const status = typeof value === 'string' && /^\d{3}$/.test(value) ? Number(value) : value;
  return typeof status === 'number' && Number.isInteger(status) && status >= 200 && status <= 599 ? status : undefined;
}

/** Headers by their names in small letters. Of two spellings of a name the last counts; each cookie is one. */
function fieldsOf(value: unknown): HeaderList | undefined {
  if (value === undefined || value === null) {
    return [];
  }
  if (!isRecord(value)) {
    return undefined;
  }
  const fields = new Map<string, readonly string[]>();
  for (const [spelling, each] of Object.entries(value)) {
    const name = spelling.toLowerCase();
    const values = listOf(each === null ? [] : [each].flat());
    if (values === undefined) {
      return undefined;
    }
    fields.set(name, name === 'set-cookie' ? [...(fields.get(name) ?? []), ...values] : values);
  }
  return [...fields].flatMap(([name, values]) => values.map((text) => [name, text] as const));
}

/** Texts, and numbers and truth values as texts; undefined where there is anything else. */
function listOf(value: unknown): readonly string[] | undefined {
  if (value === undefined || value === null) {
    return [];
  }
  return Array.isArray(value) && value.every((each) => ['string', 'number', 'boolean'].includes(typeof each))
    ? value.map(String)
    : undefined;
}

function isHeader([name, value]: readonly [string, string]): boolean {
  try {
    validateHeaderName(name);
    validateHeaderValue(name, value);
    return true;
  } catch {
    return false;
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parsed(text: Buffer): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text.toString('utf8')) as unknown };
  } catch {
    return undefined;
  }
}
