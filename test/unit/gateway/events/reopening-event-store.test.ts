import { describe, expect, it, onTestFinished } from 'vitest';
import { EsbError } from '../../../../src/common/errors.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import type { EventStore, StoredEvent } from '../../../../src/gateway/events/event-store.ts';
import { DEFAULT_EVENT_SETTINGS, NO_PROGRESS } from '../../../../src/gateway/events/event-store.ts';
import { ReopeningEventStore } from '../../../../src/gateway/events/reopening-event-store.ts';
import { inThreadEventStore } from '../../../support/in-thread-event-store.ts';
import { manualClock } from '../../../support/manual-clock.ts';

function event(requestId: string): StoredEvent {
  return {
    requestId,
    target: { kind: 'Function', functionName: 'f' },
    payload: Buffer.from('1'),
    traceId: '',
    traceParent: '',
    acceptedAt: 0,
    hops: 0,
    settings: DEFAULT_EVENT_SETTINGS,
    progress: NO_PROGRESS,
  };
}

function lab() {
  const clock = manualClock();
  const inner = inThreadEventStore({ now: () => clock.now() });
  let fault: EsbError | undefined;
  let breakNow: (error: EsbError) => void = () => undefined;
  let opened = 0;
  const store = new ReopeningEventStore({
    open: async (onBroken): Promise<EventStore> => {
      if (fault !== undefined) {
        throw fault;
      }
      opened += 1;
      breakNow = onBroken;
      return inner;
    },
    limits: inner.limits,
    clock,
    logger: silentLogger(),
  });
  onTestFinished(() => store.close());
  return {
    clock,
    store,
    opened: () => opened,
    breakWith: (error: EsbError) => breakNow(error),
    setFault: (error: EsbError | undefined) => {
      fault = error;
    },
  };
}

const damaged = new EsbError('the file is damaged', { code: 'EventStoreUnreadable' });

describe('an event store that is opened until it works', () => {
  it('refuses events with the reason while it cannot be opened, and takes them from then on', async () => {
    const { clock, store, setFault } = lab();
    setFault(damaged);
    await store.start();
    expect(store.health()).toEqual({
      ok: false,
      reason: 'EventStoreUnreadable',
      message: 'the file is damaged',
    });
    await expect(store.put(event('1'))).rejects.toMatchObject({
      code: 'EventStoreUnavailable',
      retryable: true,
      message: 'the file is damaged',
    });
    expect(await store.partitions()).toEqual([]);
    setFault(undefined);
    await clock.advance(1_000);
    await store.put(event('1'));
    expect(store.health()).toEqual({ ok: true });
    expect(store.load().events).toBe(1);
  });

  it('tries again after 1 second, doubling to 30', async () => {
    const { clock, store, opened, setFault } = lab();
    setFault(damaged);
    await store.start();
    for (const seconds of [1, 2, 4, 8, 16, 30, 30]) {
      await clock.advance(seconds * 1_000 - 1);
      await clock.advance(1);
    }
    setFault(undefined);
    await clock.advance(29_999);
    expect(opened()).toBe(0);
    await clock.advance(1);
    expect(opened()).toBe(1);
  });

  it('is opened anew after it broke', async () => {
    const { clock, store, opened, breakWith } = lab();
    await store.start();
    await store.put(event('1'));
    breakWith(new EsbError('the thread ended', { code: 'EventStoreUnavailable' }));
    await clock.advance(999);
    expect(opened()).toBe(1);
    await clock.advance(1);
    expect(opened()).toBe(2);
    await store.put(event('2'));
    expect(store.load().events).toBe(2);
  });
});
