import { isUtf8 } from 'node:buffer';
import { Agent, fetch } from 'undici';
import { hasCode, messageOf } from '../../common/errors.ts';
import { LATEST } from '../../common/function-arn.ts';
import { functionArn } from '../lambda/function-name.ts';
import type { EndpointGuard } from './endpoint-guard.ts';
import type { EndCondition } from './event-retry.ts';
import {
  DEFAULT_EVENT_SETTINGS,
  type EventProgress,
  type EventSettings,
  MAX_STORED_BYTES,
  NO_PROGRESS,
  type StoredEvent,
} from './event-store.ts';

/** Longest chain of records, each for the end of the one before; Lambda ends recursive loops after about 16. */
const MAX_HOPS = 16;
/** Bytes kept free in a record for the members that have not been added yet, payloads excepted. */
const ROOM_BYTES = 512;
/** Bytes of a record's members beside the payloads, at most. */
const ENVELOPE_BYTES = 8 * 1024;
/** Milliseconds that an endpoint may take to answer. */
const POST_DEADLINE_MS = 30_000;

export interface LastResponse {
  readonly executedVersion: string;
  readonly body: Buffer;
  readonly functionError: boolean;
}

export interface EndedEvent {
  readonly event: StoredEvent;
  readonly condition: EndCondition;
  readonly progress: EventProgress;
  /** Undefined when the function was not reached at the last try. */
  readonly response: LastResponse | undefined;
}

/**
 * The record of an event that has ended, in the shape of Lambda's destinations. Payloads are copied as they are: numbers
 * and the order of members stay. Members that would make the record too large are left out, the answer first.
 *
 * @param now wall-clock milliseconds
 * @param freeBytes free bytes of the store, of which a record takes at most its envelope: the payload of its event is
 *   in the store already
 */
export function eventRecord(ended: EndedEvent, now: number, freeBytes = Number.POSITIVE_INFINITY): Buffer {
  const { event, condition, progress, response } = ended;
  const { target } = event;
  const head = JSON.stringify({
    version: '1.0',
    timestamp: new Date(now).toISOString(),
    requestContext: {
      requestId: event.requestId,
      functionArn:
        target.kind === 'Function'
          ? functionArn({ name: target.functionName, qualifier: target.qualifier ?? LATEST })
          : target.url,
      condition,
      approximateInvokeCount: progress.invocations,
    },
  });
  const most = Math.min(MAX_STORED_BYTES, event.payload.length + ENVELOPE_BYTES + Math.max(0, freeBytes));
  const parts: Buffer[] = [Buffer.from(head.slice(0, -1))];
  const add = (name: string, value: Buffer): void => {
    const size = parts.reduce((sum, part) => sum + part.length, value.length + ROOM_BYTES);
    if (size <= most) {
      parts.push(Buffer.from(`,"${name}":`), value);
    }
  };
  add('requestPayload', event.payload);
  if (response !== undefined) {
    const context = {
      statusCode: 200,
      executedVersion: response.executedVersion,
      functionError: response.functionError ? 'Unhandled' : undefined,
    };
    add('responseContext', Buffer.from(JSON.stringify(context)));
    add('responsePayload', asJson(response.body));
  }
  parts.push(Buffer.from('}'));
  return Buffer.concat(parts);
}

export type NextRecord =
  | { readonly kind: 'Send'; readonly event: StoredEvent }
  /** The event succeeded, and no place is named for its record. */
  | { readonly kind: 'None' }
  /** Why a record is lost. */
  | { readonly kind: 'Drop'; readonly reason: 'NoDestination' | 'DestinationFailed' | 'TooManyHops' };

/**
 * The event that takes the place of one that has ended.
 *
 * @param requestId of the new event
 * @param settingsOf the settings of a function; undefined when it is not known
 * @param now wall-clock milliseconds
 * @param freeBytes of the store
 */
export function recordFor(
  ended: EndedEvent,
  settings: EventSettings,
  settingsOf: (functionName: string) => EventSettings | undefined,
  requestId: string,
  now: number,
  freeBytes?: number,
): NextRecord {
  const { event, condition } = ended;
  const isSuccess = condition === 'Success';
  if (event.target.kind === 'Endpoint') {
    return isSuccess ? { kind: 'None' } : { kind: 'Drop', reason: 'DestinationFailed' };
  }
  const target = isSuccess ? settings.onSuccess : settings.onFailure;
  if (target === undefined) {
    return isSuccess ? { kind: 'None' } : { kind: 'Drop', reason: 'NoDestination' };
  }
  if (event.hops >= MAX_HOPS) {
    return { kind: 'Drop', reason: 'TooManyHops' };
  }
  return {
    kind: 'Send',
    event: {
      requestId,
      target,
      payload: eventRecord(ended, now, freeBytes),
      traceId: event.traceId,
      traceParent: event.traceParent,
      acceptedAt: now,
      hops: event.hops + 1,
      settings: (target.kind === 'Function' ? settingsOf(target.functionName) : undefined) ?? DEFAULT_EVENT_SETTINGS,
      progress: NO_PROGRESS,
    },
  };
}

export type PostResult = { readonly kind: 'Taken' } | { readonly kind: 'NotTaken'; readonly message: string };

/** Brings a record to an HTTP endpoint. Never throws but when the signal fires. */
export type PostRecord = (url: string, record: StoredEvent, signal: AbortSignal) => Promise<PostResult>;

/**
 * Posts records where the guard lets them go. A redirect is not followed: only the author of a LambdaWorker names the
 * address.
 */
export function createPostRecord(guard: EndpointGuard): PostRecord {
  return async (url, record, signal) => {
    // Of this post alone: records are rare, and no connection has to be looked after.
    const egress = record.target.kind === 'Endpoint' ? record.target.egress : undefined;
    const dispatcher = new Agent({ connect: { lookup: guard.lookup(egress) } });
    try {
      guard.check(url, egress);
      const answer = await fetch(url, {
        dispatcher,
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'user-agent': 'esb-gateway',
          'x-amzn-requestid': record.requestId,
          ...(record.traceId === '' ? {} : { 'x-amzn-trace-id': record.traceId }),
          ...(record.traceParent === '' ? {} : { traceparent: record.traceParent }),
        },
        body: new Uint8Array(record.payload),
        redirect: 'manual',
        signal: AbortSignal.any([signal, AbortSignal.timeout(POST_DEADLINE_MS)]),
      });
      await answer.body?.cancel();
      return answer.ok ? { kind: 'Taken' } : { kind: 'NotTaken', message: `the endpoint answered ${answer.status}` };
    } catch (error) {
      signal.throwIfAborted();
      const { cause } = error as { readonly cause?: unknown };
      return { kind: 'NotTaken', message: messageOf(hasCode(cause, 'EndpointRefused') ? cause : error) };
    } finally {
      await dispatcher.destroy();
    }
  };
}

/** An answer as JSON: itself, or a string of it where it is none. */
function asJson(body: Buffer): Buffer {
  const text = body.toString('utf8');
  try {
    JSON.parse(text);
  } catch {
    return Buffer.from(JSON.stringify(text));
  }
  return isUtf8(body) ? body : Buffer.from(text);
}
