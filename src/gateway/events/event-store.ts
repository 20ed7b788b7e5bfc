import { EsbError, messageOf } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';

/** Where an event goes. */
export type EventTarget =
  | { readonly kind: 'Function'; readonly functionName: string; readonly qualifier?: string }
  /** Posted to as JSON: the destination of a record of failure. */
  | { readonly kind: 'Endpoint'; readonly url: string };

/** What becomes of an event, as `spec.asyncInvoke` of the function says. */
export interface EventSettings {
  /** Tries after a function error, beside the first. */
  readonly maximumRetryAttempts: number;
  readonly maximumEventAgeSeconds: number;
  readonly onFailure: EventTarget | undefined;
}

/** What Lambda does where nothing is said: two more tries, six hours, no destination. */
export const DEFAULT_EVENT_SETTINGS: EventSettings = {
  maximumRetryAttempts: 2,
  maximumEventAgeSeconds: 21_600,
  onFailure: undefined,
};

/** How far an event has come. */
export interface EventProgress {
  /** Tries that came to a function error. */
  readonly failures: number;
  /** Tries that may have reached the function: all but those that were refused. */
  readonly invocations: number;
  /** Tries in a row that came to nothing: throttled, no worker, outcome unknown. */
  readonly setbacks: number;
  /** Tries in a row for which there was no such function; they count as setbacks too. */
  readonly misses: number;
}

/** The progress of an event that was not tried yet. */
export const NO_PROGRESS: EventProgress = { failures: 0, invocations: 0, setbacks: 0, misses: 0 };

/** A call of type Event, or the record of one that failed on its way to its destination. */
export interface StoredEvent {
  /** The function sees the same at each try. No two events share one. */
  readonly requestId: string;
  readonly target: EventTarget;
  /** JSON, as it came. */
  readonly payload: Buffer;
  readonly traceId: string;
  readonly traceParent: string;
  /** Wall-clock milliseconds. What counts for the age. */
  readonly acceptedAt: number;
  /** 0 for a caller's event, one more for each record of failure that followed from it. */
  readonly hops: number;
  /** Those of the function at its acceptance: for when the function is gone. */
  readonly settings: EventSettings;
  readonly progress: EventProgress;
}

/** An event that is this gateway's to try, until its lease is over. */
export interface ClaimedEvent {
  readonly event: StoredEvent;
  /** Tells this claim from any other of the same event. */
  readonly claim: string;
}

/** The events of one target, which wait for each other. */
export interface EventLane {
  readonly lane: string;
  /** Milliseconds until the first of them may be tried, or its lease is over; 0 or less for now. */
  readonly dueInMs: number;
}

/** What a store holds. */
export interface EventLoad {
  readonly events: number;
  /** Bytes of their payloads. */
  readonly bytes: number;
}

/** The load of an empty store. */
export const NO_LOAD: EventLoad = { events: 0, bytes: 0 };

/** How much a store takes. A record of failure takes the place of its event, whatever the limits are. */
export interface EventLimits {
  readonly maxEvents: number;
  readonly maxBytes: number;
}

/** The most that one claim takes. */
export interface ClaimLimits {
  readonly events: number;
  /** Bytes of payloads. */
  readonly bytes: number;
}

/** What a claim came to. */
export interface Claimed {
  readonly events: readonly ClaimedEvent[];
  /** Events that this program cannot read. The store has put them off for {@link PARK_MS}. */
  readonly unreadable: readonly UnreadableEvent[];
}

/** An event that this program cannot read. */
export interface UnreadableEvent {
  readonly requestId: string;
  readonly reason: string;
  /** Wall-clock milliseconds. */
  readonly acceptedAt: number;
}

/** Milliseconds that an event which cannot be read rests before the next attempt to read it. */
export const PARK_MS = 60 * 60_000;

/** Bytes of the largest payload that a store may hold: records written by earlier versions reach the limit of a synchronous call. */
export const MAX_STORED_BYTES = 6 * 2 ** 20 + 100;

/**
 * Where events are until they are done.
 *
 * Guarantees: what {@link EventStore.put} has resolved for is found again after the end by force of any process and of the
 * machine, until it is finished, postponed or exchanged; each of these is one step that happens whole or not at all. An event
 * is claimed by one gateway at a time; the claims of one that was killed lapse. Every method throws
 * {@link EsbError} `EventStoreUnavailable`, retryable, when it is not known to have happened.
 */
export interface EventStore {
  /** Milliseconds after which it is worth a look though nothing was put here: others put into a shared store. */
  readonly pollMs: number;
  readonly limits: EventLimits;
  /**
   * Keeps an event. Resolves once it is durable.
   *
   * @throws {EsbError} `EventStoreFull` when there is no room, or the lane of the event has its share;
   *   `EventStoreUncertain` when the event may have been kept all the same
   */
  put(event: StoredEvent): Promise<void>;
  /** Every lane that has events. */
  lanes(): Promise<readonly EventLane[]>;
  /** Takes events of a lane that are due, oldest first, for `leaseMs` milliseconds, within `limits`. */
  claim(lane: string, limits: ClaimLimits, leaseMs: number): Promise<Claimed>;
  /** Has the leases of these events end `leaseMs` from now. Of one that has lapsed nothing is said. */
  renew(claimed: readonly ClaimedEvent[], leaseMs: number): Promise<void>;
  /** Removes an event, whoever has it now: it is done. */
  finish(requestId: string): Promise<void>;
  /** Gives an event back, to be tried after `delayMs`. Nothing happens when the claim has lapsed and another has it. */
  postpone(claimed: ClaimedEvent, progress: EventProgress, delayMs: number): Promise<void>;
  /** Puts `successor` in the place of an event. Nothing happens when the claim has lapsed and another has it. */
  exchange(claimed: ClaimedEvent, successor: StoredEvent): Promise<void>;
  /** What is held, by last knowledge. */
  load(): EventLoad;
  /** Whether events can be kept, by last knowledge. */
  health(): Health;
  /** Lets what was asked end. */
  close(): Promise<void>;
}

/** The lane of a target. */
export function laneOf(target: EventTarget): string {
  return target.kind === 'Function'
    ? `function:${target.functionName}`
    : `endpoint:${new URL(target.url).origin}`;
}

/** The function of a lane; undefined for that of an endpoint. */
export function functionOfLane(lane: string): string | undefined {
  return lane.startsWith('function:') ? lane.slice('function:'.length) : undefined;
}

/** The reason for which an event finds no room; undefined when there is room. */
export type Fullness = 'Store' | 'Lane';

/**
 * Whether an event finds room. No lane holds more than what stays free for all others: one lane alone has at most half, and a
 * further one still finds room (the dynamic thresholds of Choudhury and Hahne, 1998, as for waiting calls).
 *
 * @param held all that the store holds
 * @param ofLane what the store holds of the event's lane
 * @param bytes of the event's payload
 */
export function fullnessFor(
  limits: EventLimits,
  held: EventLoad,
  ofLane: EventLoad,
  bytes: number,
): Fullness | undefined {
  const freeEvents = limits.maxEvents - held.events - 1;
  const freeBytes = limits.maxBytes - held.bytes - bytes;
  if (freeEvents < 0 || freeBytes < 0) {
    return 'Store';
  }
  return ofLane.events > freeEvents || ofLane.bytes > freeBytes ? 'Lane' : undefined;
}

/** The refusal of an event for which there is no room. */
export function storeFull(fullness: Fullness, limits: EventLimits): EsbError {
  const message =
    fullness === 'Store'
      ? `the event store holds ${limits.maxEvents} events or ${limits.maxBytes} bytes already`
      : 'the events of the function take their share of the event store already';
  return new EsbError(message, { code: 'EventStoreFull', retryable: true });
}

/** The error of a store that cannot be asked. */
export function storeUnavailable(message: string, cause?: unknown): EsbError {
  return new EsbError(message, { code: 'EventStoreUnavailable', retryable: true, cause });
}

/** The error of a write whose end is not known. */
export function storeUncertain(message: string, cause?: unknown): EsbError {
  return new EsbError(message, { code: 'EventStoreUncertain', retryable: true, cause });
}

type EventHead = Omit<StoredEvent, 'requestId' | 'payload' | 'acceptedAt' | 'progress'>;

/** What a store keeps of an event beside its payload, as text. */
export function encodeHead(event: StoredEvent): string {
  const { target, traceId, traceParent, hops, settings } = event;
  const head: EventHead = { target, traceId, traceParent, hops, settings };
  return JSON.stringify(head);
}

/** One row of a store. */
export interface EventRow {
  readonly id: string;
  readonly head: string;
  readonly progress: string;
  readonly acceptedAt: number;
  readonly payload: Uint8Array;
}

/** The event of a row. @throws {Error} for a row that this program cannot read */
function decodeEvent(row: EventRow): StoredEvent {
  const head = JSON.parse(row.head) as EventHead;
  const { target } = head;
  const isKnown =
    (target.kind === 'Function' && typeof target.functionName === 'string') ||
    (target.kind === 'Endpoint' && URL.canParse(target.url));
  if (!isKnown) {
    throw new EsbError(`the event has a target of an unknown kind`, { code: 'EventUnreadable' });
  }
  return {
    ...head,
    // JSON has no undefined.
    settings: { ...DEFAULT_EVENT_SETTINGS, ...head.settings },
    requestId: row.id,
    payload: Buffer.from(row.payload.buffer, row.payload.byteOffset, row.payload.byteLength),
    acceptedAt: row.acceptedAt,
    progress: { ...NO_PROGRESS, ...(JSON.parse(row.progress) as Partial<EventProgress>) },
  };
}

/** The events of rows that were claimed. One row that cannot be read hinders no other. */
export function decodeClaim(rows: readonly (EventRow & { readonly claim: string })[]): Claimed {
  const events: ClaimedEvent[] = [];
  const unreadable: UnreadableEvent[] = [];
  for (const row of rows) {
    try {
      events.push({ event: decodeEvent(row), claim: row.claim });
    } catch (error) {
      unreadable.push({ requestId: row.id, reason: messageOf(error), acceptedAt: row.acceptedAt });
    }
  }
  return { events, unreadable };
}
