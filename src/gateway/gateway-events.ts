import { randomUUID } from 'node:crypto';
import type { Clock } from '../common/clock.ts';
import type { Logger } from '../common/logger.ts';
import { eventsAtOnce, overloaded } from './admission/admission-policy.ts';
import type { Room } from './admission/room.ts';
import type { FleetView } from './agents/fleet-view.ts';
import type { FunctionCall, InvokeResult } from './agents/function-call.ts';
import type { VersionBook } from './agents/version-book.ts';
import type { Invoker } from './dispatch/invoker.ts';
import { EndpointGuard } from './events/endpoint-guard.ts';
import { createPostRecord } from './events/event-destination.ts';
import type { EventKeeper } from './events/event-keeper.ts';
import { EventQueue } from './events/event-queue.ts';
import { type EventStore, eventSettingsOf } from './events/event-store.ts';
import type { Caller } from './lambda/caller.ts';
import type { GatewayMetrics } from './telemetry/gateway-metrics.ts';

/** Where calls of type Event are kept, and run from. */
export type EventPlace =
  /**
   * In this process. The store is the caller's. Without `endpoints`, records of events may be posted as without
   * `--event-destination`.
   */
  | { readonly kind: 'Here'; readonly store: EventStore; readonly endpoints?: EndpointGuard }
  | { readonly kind: 'Elsewhere'; readonly keeper: EventKeeper };

export interface GatewayEventsOptions {
  readonly events: EventPlace;
  readonly view: FleetView;
  readonly book: Pick<VersionBook, 'scaling'>;
  readonly invoker: Pick<Invoker, 'ask' | 'enter' | 'invoke'>;
  /** Runs of events, which no request waits for. */
  readonly room: Room;
  readonly metrics: Pick<GatewayMetrics, 'eventEnded' | 'eventTried' | 'requests'>;
  /** Whether all first lists have come. */
  readonly isReady: () => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The events of a gateway: run from its own store, or handed to the role that keeps them. */
export function createGatewayEvents(options: GatewayEventsOptions): EventKeeper {
  const { book, clock, events, invoker, isReady, logger, metrics, room, view } = options;
  if (events.kind === 'Elsewhere') {
    return events.keeper;
  }
  const run = async (call: FunctionCall, caller: Caller): Promise<InvokeResult> => {
    if (room.overload() !== undefined) {
      throw overloaded();
    }
    const entered = await invoker.enter(call, caller, room);
    try {
      const result = await invoker.invoke(call, caller, entered);
      entered.answered(result.body.length);
      if (result.timings !== undefined) {
        metrics.requests.ran(call.reference.name, result.timings);
      }
      return result;
    } finally {
      entered.release();
    }
  };
  return new EventQueue({
    store: events.store,
    post: createPostRecord(events.endpoints ?? new EndpointGuard({ allowed: [] })),
    settingsOf: (name) => {
      const entry = view.function(name);
      return entry === undefined ? undefined : eventSettingsOf(entry.settings);
    },
    isSwitchedOff: (name) => view.function(name)?.settings.concurrency?.reserved === 0,
    isReady,
    onNextChange: (name, listener) => view.onNextChange(name, listener),
    ask: (call, sent, caller) => heldIn(room, call, caller, () => invoker.ask(call, sent, caller)),
    newRequestId: randomUUID,
    invoke: (call, caller) => heldIn(room, call, caller, () => run(call, caller)),
    concurrencyOf: (name) => {
      const entry = view.function(name);
      return entry === undefined ? 0 : eventsAtOnce(entry, book.scaling(name)?.maxWorkers);
    },
    clock,
    logger,
    onTried: (result) => metrics.eventTried(result),
    onEnded: (result) => metrics.eventEnded(result),
  });
}

/** Counts the payload of an event, and its answer, for as long as the work takes. */
async function heldIn<T>(room: Room, { payload }: FunctionCall, caller: Caller, work: () => Promise<T>): Promise<T> {
  const hold = room.open();
  caller.hold = hold;
  hold.add(payload.length);
  try {
    return await work();
  } finally {
    hold.close();
  }
}
