/** A failure in the form of the runtimes. */
export interface RuntimeError {
  readonly errorType: string;
  readonly errorMessage: string;
}

/** Largest answer that AWS, and the emulator, let a function give: 6 MiB and 100 bytes. */
export const MAX_RESPONSE_BYTES = 6 * 1024 * 1024 + 100;

/** Bytes that suffice to recognise a timeout, and the beginning of an error. */
const START_BYTES = 96;
const TIMEOUT_TEXT = /^\s*Task timed out after (\d+)\.\d\d seconds\s*$/;

/** Every member that the runtime interface clients (Python, Node.js, Java, .NET, Ruby, Go, Rust) put into an error. */
const ERROR_MEMBERS: ReadonlySet<string> = new Set([
  'errorMessage',
  'errorType',
  'stackTrace',
  'trace',
  'requestId',
  'cause',
  'causes',
]);

const STARTS_LIKE_ERROR = /^\s*\{\s*"(?:errorMessage|errorType|stackTrace|trace|requestId|causes?)"/;

/** Seconds after which the emulator gave up a call, where an answer says so: a line of text, not JSON. */
export function timedOutAfter(body: Buffer): number | undefined {
  const timeout = body.length <= START_BYTES ? TIMEOUT_TEXT.exec(startOf(body)) : null;
  return timeout === null ? undefined : Number(timeout[1]);
}

/**
 * The error in an answer that is nothing else: `errorType`, `errorMessage` and **no member that runtimes do not
 * write**. An ordinary answer costs one test of its first bytes.
 */
export function runtimeErrorIn(body: Buffer): RuntimeError | undefined {
  if (!STARTS_LIKE_ERROR.test(startOf(body))) {
    return undefined;
  }
  const error = errorMembersIn(body);
  return error !== undefined && Object.keys(error).every((member) => ERROR_MEMBERS.has(member)) ? error : undefined;
}

/** The object in a body that has `errorType` and `errorMessage`, among any other members. */
export function errorMembersIn(body: Buffer): RuntimeError | undefined {
  try {
    const value = JSON.parse(body.toString('utf8')) as Partial<RuntimeError> | null;
    const isError = typeof value?.errorType === 'string' && typeof value.errorMessage === 'string';
    return isError ? (value as RuntimeError) : undefined;
  } catch {
    return undefined;
  }
}

function startOf(body: Buffer): string {
  return body.toString('latin1', 0, START_BYTES);
}
