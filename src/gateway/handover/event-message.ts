import type { FunctionCall } from '../agents/function-call.ts';
import { parseFunctionIdentifier } from '../lambda/function-name.ts';
import { checkPayload, MAX_EVENT_BYTES } from '../lambda/json-payload.ts';
import { LambdaError } from '../lambda/lambda-error.ts';

/** Where a gateway posts an event. The number goes up with a change that earlier programs cannot read. */
export const EVENTS_PATH = '/events/v1';
/** Largest head of an event, in bytes. */
const MAX_HEAD_BYTES = 64 * 1024;
/** Largest request with an event, in bytes. */
export const MAX_MESSAGE_BYTES = MAX_HEAD_BYTES + MAX_EVENT_BYTES;
/** Separates head and payload; text in JSON has none of its own. */
const NEWLINE = 0x0a;
const REQUEST_ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The members of an event beside its payload. Those that a program does not know are passed over. */
interface EventHead {
  readonly requestId: string;
  readonly functionName: string;
  readonly qualifier?: string;
  readonly traceId: string;
  readonly traceParent: string;
}

/** An event on its way from a gateway to the role that keeps it: a line of JSON, and after it the payload as it came. */
export function encodeEvent(call: FunctionCall): Buffer {
  const { name, qualifier } = call.reference;
  const head: EventHead = {
    requestId: call.requestId,
    functionName: name,
    ...(qualifier === undefined ? {} : { qualifier }),
    traceId: call.traceId,
    traceParent: call.traceParent,
  };
  return Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), call.payload]);
}

/**
 * The opposite of {@link encodeEvent}.
 *
 * @throws {LambdaError} InvalidRequestContentException for bytes that are no event or a payload that is no JSON, and the
 *   refusals of a function's name and of a large payload
 */
export function decodeEvent(body: Buffer): FunctionCall {
  const end = body.indexOf(NEWLINE);
  if (end > MAX_HEAD_BYTES) {
    throw noEvent();
  }
  const { functionName, qualifier, requestId, traceId, traceParent } = headOf(body.subarray(0, Math.max(0, end)));
  const payload = body.subarray(end + 1);
  if (payload.length > MAX_EVENT_BYTES) {
    throw new LambdaError('RequestTooLargeException', `An event has at most ${MAX_EVENT_BYTES} bytes.`);
  }
  checkPayload(payload);
  return {
    reference: parseFunctionIdentifier(functionName, qualifier),
    requestId,
    payload,
    clientContext: '',
    tailLog: false,
    traceId,
    traceParent,
  };
}

function headOf(bytes: Buffer): EventHead {
  let head: Partial<Record<keyof EventHead, unknown>>;
  try {
    head = JSON.parse(bytes.toString('utf8')) as typeof head;
  } catch (cause) {
    throw noEvent(cause);
  }
  const { functionName, qualifier, requestId, traceId, traceParent } = head ?? {};
  if (
    typeof functionName !== 'string' ||
    typeof requestId !== 'string' ||
    !REQUEST_ID.test(requestId) ||
    typeof traceId !== 'string' ||
    typeof traceParent !== 'string' ||
    (qualifier !== undefined && typeof qualifier !== 'string')
  ) {
    throw noEvent();
  }
  return { functionName, ...(qualifier === undefined ? {} : { qualifier }), requestId, traceId, traceParent };
}

function noEvent(cause?: unknown): LambdaError {
  return new LambdaError('InvalidRequestContentException', 'The request is no event of a gateway.', { cause });
}
