import type { FunctionSettings } from '../../api/function-settings.ts';
import type { EventDestination, LambdaWorkerSpec } from '../../api/lambda-worker.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import type { SentTry } from '../agents/function-call.ts';

export type EventTarget =
  | { readonly kind: 'Function'; readonly functionName: string; readonly qualifier?: string }
  /** Posted to as JSON: the destination of a record. */
  | {
      readonly kind: 'Endpoint';
      readonly url: string;
      /** The class of the function that names the URL; absent where the function has none of its own. */
      readonly egress?: EgressClass;
    };

/** Destinations that a function may reach, as `spec.network.egress`. */
export type EgressClass = NonNullable<NonNullable<LambdaWorkerSpec['network']>['egress']>;

/** The event settings of a function, as in `spec.asyncInvoke`. */
export interface EventSettings {
  /** Tries after a function error, beside the first. */
  readonly maximumRetryAttempts: number;
  readonly maximumEventAgeSeconds: number;
  /** Where the record of an event goes that the function has handled. */
  readonly onSuccess: EventTarget | undefined;
  /** Where the record of an event goes that was given up. */
  readonly onFailure: EventTarget | undefined;
}

/** Lambda's defaults: two more tries, six hours, no destinations. */
export const DEFAULT_EVENT_SETTINGS: EventSettings = {
  maximumRetryAttempts: 2,
  maximumEventAgeSeconds: 21_600,
  onSuccess: undefined,
  onFailure: undefined,
};

/** The event settings of a function, from its resource, with Lambda's defaults. */
export function eventSettingsOf({ asyncInvoke, network }: FunctionSettings): EventSettings {
  return {
    ...DEFAULT_EVENT_SETTINGS,
    ...asyncInvoke,
    onSuccess: targetOf(asyncInvoke?.onSuccess, network?.egress),
    onFailure: targetOf(asyncInvoke?.onFailure, network?.egress),
  };
}

/** The API server lets through exactly one of the two, and only addresses that can be parsed. */
function targetOf(destination: EventDestination | undefined, egress: EgressClass | undefined): EventTarget | undefined {
  const { functionName, url } = destination ?? {};
  if (functionName !== undefined) {
    return { kind: 'Function', functionName };
  }
  return url !== undefined && URL.canParse(url)
    ? { kind: 'Endpoint', url, ...(egress === undefined ? {} : { egress }) }
    : undefined;
}

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

/** A call of type Event, or the record of one on its way to its destination. */
export interface StoredEvent {
  /** The function sees the same at each try. No two events share one. */
  readonly requestId: string;
  readonly target: EventTarget;
  /** JSON, as it came. */
  readonly payload: Buffer;
  readonly traceId: string;
  readonly traceParent: string;
  /** Wall-clock milliseconds, from which the age is counted. */
  readonly acceptedAt: number;
  /** 0 for a caller's event, one more for each record that followed from it. */
  readonly hops: number;
  /** The settings of the function at acceptance: for the time after the function is gone. */
  readonly settings: EventSettings;
  readonly progress: EventProgress;
}

/** An event that is this gateway's to try, until its lease is over. */
export interface ClaimedEvent {
  readonly event: StoredEvent;
  /** Tells this claim from any other of the same event. */
  readonly claim: string;
  /** The try that an earlier process had under way when it ended; undefined for none, or where no store keeps it. */
  readonly sent?: SentTry | undefined;
}

/** The events of one target, which wait for each other. */
export interface EventPartition {
  readonly partition: string;
  /** Milliseconds until the first of them may be tried, or its lease is over; 0 or less for now. */
  readonly dueInMs: number;
}

/** Events in a store. */
export interface EventLoad {
  readonly events: number;
  /** Bytes of their payloads. */
  readonly bytes: number;
}

export const NO_LOAD: EventLoad = { events: 0, bytes: 0 };

/** The limits of a store. A record takes the place of its event, even beyond the limits. */
export interface EventLimits {
  readonly maxEvents: number;
  readonly maxBytes: number;
}

export interface ClaimLimits {
  readonly events: number;
  /** Bytes of payloads. */
  readonly bytes: number;
}

export interface Claimed {
  readonly events: readonly ClaimedEvent[];
  /** Events that this program cannot read. The store has put them off for {@link PARK_MS}. */
  readonly unreadable: readonly UnreadableEvent[];
}

export interface UnreadableEvent {
  readonly requestId: string;
  readonly reason: string;
  /** Wall-clock milliseconds. */
  readonly acceptedAt: number;
}

/** Milliseconds that an event which cannot be read rests before the next attempt to read it. */
export const PARK_MS = 60 * 60_000;

/** Bytes of the largest payload in a store: a record has the largest payload of an event (1 MiB), with room around it. */
export const MAX_STORED_BYTES = (1024 + 64) * 1024;

/**
 * Keeps events until they are done.
 *
 * Guarantees: an event for which {@link EventStore.put} has resolved survives the end by force of any process and of
 * the machine, until it is finished, postponed or exchanged; each of these is one step, done whole or not at all. An
 * event is claimed by one gateway at a time; the claims of a killed gateway lapse. Every method throws {@link EsbError}
 * `EventStoreUnavailable`, retryable, when its effect is uncertain or did not happen.
 */
export interface EventStore {
  /** Milliseconds between two polls when this gateway put nothing: others put events into a shared store. */
  readonly pollMs: number;
  readonly limits: EventLimits;
  /**
   * Keeps an event. Resolves once the event is durable. An event whose request id is there is the same one, and is not
   * kept twice.
   *
   * @throws {EsbError} `EventStoreFull` when there is no room, or the partition of the event has its share;
   *   `EventStoreUncertain` when the event may have been kept
   */
  put(event: StoredEvent): Promise<void>;
  /** Every partition that has events. */
  partitions(): Promise<readonly EventPartition[]>;
  /** Takes due events of a partition, oldest first, for `leaseMs` milliseconds, within `limits`. */
  claim(partition: string, limits: ClaimLimits, leaseMs: number): Promise<Claimed>;
  /** Has the leases of these events end `leaseMs` from now. Of one that has lapsed nothing is said. */
  renew(claimed: readonly ClaimedEvent[], leaseMs: number): Promise<void>;
  /** Notes to which worker a try goes, for the process that claims the event after this one. */
  note(claimed: ClaimedEvent, sent: SentTry): Promise<void>;
  /** Removes an event that is done, even if another gateway has claimed it. */
  finish(requestId: string): Promise<void>;
  /**
   * Gives an event back, to be tried after `delayMs`. Says whether that had an effect: it has none when the claim has
   * lapsed and another has it.
   */
  postpone(claimed: ClaimedEvent, progress: EventProgress, delayMs: number): Promise<boolean>;
  /** Replaces an event by `successor`. Says whether that had an effect, as {@link EventStore.postpone}. */
  exchange(claimed: ClaimedEvent, successor: StoredEvent): Promise<boolean>;
  /** The load of the store, as last known. */
  load(): EventLoad;
  /** Whether events can be kept, by last knowledge. */
  health(): Health;
  /** Lets pending calls end, and closes the store. */
  close(): Promise<void>;
}

export function partitionOf(target: EventTarget): string {
  return target.kind === 'Function' ? `function:${target.functionName}` : `endpoint:${new URL(target.url).origin}`;
}

/** The function of a partition; undefined for the partition of an endpoint. */
export function functionOfPartition(partition: string): string | undefined {
  return partition.startsWith('function:') ? partition.slice('function:'.length) : undefined;
}

/** The reason for which an event finds no room; undefined when there is room. */
export type Fullness = 'Store' | 'Partition';

/**
 * Why an event finds no room; undefined when there is room. No partition holds more than stays free for all others: one
 * alone has at most half, and a further one still finds room (the dynamic thresholds of Choudhury and Hahne, 1998, as
 * for waiting calls).
 *
 * @param held load of the store
 * @param ofPartition load of the event's partition
 * @param bytes bytes of the event's payload
 */
export function fullnessFor(
  limits: EventLimits,
  held: EventLoad,
  ofPartition: EventLoad,
  bytes: number,
): Fullness | undefined {
  const freeEvents = limits.maxEvents - held.events - 1;
  const freeBytes = limits.maxBytes - held.bytes - bytes;
  if (freeEvents < 0 || freeBytes < 0) {
    return 'Store';
  }
  return ofPartition.events > freeEvents || ofPartition.bytes > freeBytes ? 'Partition' : undefined;
}

export function storeFull(fullness: Fullness, limits: EventLimits): EsbError {
  const message =
    fullness === 'Store'
      ? `the event store holds ${limits.maxEvents} events or ${limits.maxBytes} bytes already`
      : 'the events of the function take their share of the event store already';
  return new EsbError(message, { code: 'EventStoreFull' });
}

export function storeUnavailable(message: string, cause?: unknown): EsbError {
  return new EsbError(message, { code: 'EventStoreUnavailable', cause });
}

/** The error of a write whose end is not known. */
export function storeUncertain(message: string, cause?: unknown): EsbError {
  return new EsbError(message, { code: 'EventStoreUncertain', cause });
}

type EventHead = Omit<StoredEvent, 'requestId' | 'payload' | 'acceptedAt' | 'progress'>;

/** The columns of an event beside its payload, as text. */
export function encodeHead({ target, traceId, traceParent, hops, settings }: StoredEvent): string {
  return JSON.stringify({ target, traceId, traceParent, hops, settings } satisfies EventHead);
}

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
  // JSON has no undefined.
  const settings = { ...DEFAULT_EVENT_SETTINGS, ...head.settings };
  const targets = [head.target, settings.onFailure, settings.onSuccess].filter((target) => target !== undefined);
  if (!targets.every(isKnownTarget)) {
    throw new EsbError(`the event has a target of an unknown kind`, { code: 'EventUnreadable' });
  }
  return {
    ...head,
    settings,
    requestId: row.id,
    payload: Buffer.from(row.payload.buffer, row.payload.byteOffset, row.payload.byteLength),
    acceptedAt: row.acceptedAt,
    progress: { ...NO_PROGRESS, ...(JSON.parse(row.progress) as Partial<EventProgress>) },
  };
}

function isKnownTarget(target: EventTarget): boolean {
  return (
    (target.kind === 'Function' && typeof target.functionName === 'string') ||
    (target.kind === 'Endpoint' && URL.canParse(target.url))
  );
}

/** The events of rows that were claimed. One row that cannot be read hinders no other. */
export function decodeClaim(rows: readonly (EventRow & { readonly claim: string; readonly sent?: string })[]): Claimed {
  const events: ClaimedEvent[] = [];
  const unreadable: UnreadableEvent[] = [];
  for (const row of rows) {
    try {
      const { claim, sent } = row;
      events.push({
        event: decodeEvent(row),
        claim,
        ...(sent === undefined ? {} : { sent: JSON.parse(sent) as SentTry }),
      });
    } catch (error) {
      unreadable.push({ requestId: row.id, reason: messageOf(error), acceptedAt: row.acceptedAt });
    }
  }
  return { events, unreadable };
}
