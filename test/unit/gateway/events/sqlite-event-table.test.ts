import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  DEFAULT_EVENT_SETTINGS,
  decodeClaim,
  encodeHead,
  NO_PROGRESS,
  type StoredEvent,
} from '../../../../src/gateway/events/event-store.ts';
import { DiskReserve, SqliteEventDesk } from '../../../../src/gateway/events/sqlite-event-desk.ts';
import { type NewRow, SqliteEventTable } from '../../../../src/gateway/events/sqlite-event-table.ts';

const limits = { maxEvents: 100, maxBytes: 2 ** 20 };
const all = { events: 10, bytes: 1_000 };

function row(id: string, head: Partial<StoredEvent> = {}): NewRow {
  const target = { kind: 'Function', functionName: 'f' } as const;
  return {
    id,
    partition: 'function:f',
    head: encodeHead({
      target,
      settings: DEFAULT_EVENT_SETTINGS,
      traceId: '',
      traceParent: '',
      hops: 0,
      ...head,
    } as never),
    progress: JSON.stringify(NO_PROGRESS),
    acceptedAt: 0,
    payload: Buffer.from('{}'),
  };
}

async function folder(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'esb-events-'));
  onTestFinished(() => rm(made, { recursive: true, force: true }));
  return made;
}

describe('a file of events that is opened again', () => {
  it('has the claims of the process that opens it, so that their ends count', async () => {
    const file = join(await folder(), 'events.db');
    const before = new SqliteEventTable(file, limits, () => 1_000, 'one');
    before.transaction(() => {
      before.put(row('a'));
      before.put(row('b'));
    });
    const [a, b] = before.transaction(() => before.claim('function:f', all, 30_000));
    before.close();
    const again = new SqliteEventTable(file, limits, () => 2_000, 'one');
    expect(again.partitions()).toEqual([{ partition: 'function:f', dueInMs: 29_000 }]);
    expect(again.transaction(() => again.postpone('a', a?.claim ?? '', '{"failures":1}', 60_000))).toBe(true);
    expect(again.transaction(() => again.exchange('b', b?.claim ?? '', row('record')))).toBe(true);
    expect(again.load.events).toBe(2);
    again.close();
  });

  it('has the events of an earlier process due, each with the try that was under way', async () => {
    const file = join(await folder(), 'events.db');
    const before = new SqliteEventTable(file, limits, () => 1_000, 'one');
    before.transaction(() => before.put(row('a')));
    const [a] = before.transaction(() => before.claim('function:f', all, 30_000));
    before.transaction(() => before.note('a', a?.claim ?? '', '{"nodeName":"n"}'));
    before.close();
    const next = new SqliteEventTable(file, limits, () => 2_000, 'two');
    expect(next.transaction(() => next.postpone('a', a?.claim ?? '', '{}', 0))).toBe(false);
    const [claimed] = next.transaction(() => next.claim('function:f', all, 30_000));
    expect(claimed).toMatchObject({ id: 'a', claim: 'two:1', sent: '{"nodeName":"n"}' });
    // The next try is another one.
    next.transaction(() => next.postpone('a', 'two:1', '{}', 0));
    expect(next.transaction(() => next.claim('function:f', all, 30_000))[0]).not.toHaveProperty('sent');
    next.close();
  });
});

describe('an event that is put twice', () => {
  it('is one event, and fails nothing beside it', async () => {
    const table = new SqliteEventTable(':memory:', limits, () => 1_000, 'one');
    const desk = new SqliteEventDesk(table, new DiskReserve(join(await folder(), 'reserve'), 1_024));
    const put = (number: number, id: string) => ({ number, method: 'put', args: [row(id)] }) as const;
    desk.run([put(1, 'a')]);
    const outcomes = desk.run([put(2, 'b'), put(3, 'a'), { number: 4, method: 'finish', args: ['b'] }]);
    expect(outcomes.map(({ error }) => error)).toEqual([undefined, undefined, undefined]);
    expect(table.load.events).toBe(1);
    table.close();
  });
});

describe('an event with a destination of an unknown kind', () => {
  it('cannot be read, and is tried by no release that does not know its end', () => {
    const settings = { ...DEFAULT_EVENT_SETTINGS, onFailure: { kind: 'Queue', url: 'q' } as never };
    const { events, unreadable } = decodeClaim([
      { ...row('a', { settings }), claim: '1' },
      { ...row('b'), claim: '2' },
    ]);
    expect(events.map(({ event }) => event.requestId)).toEqual(['b']);
    expect(unreadable).toMatchObject([{ requestId: 'a' }]);
  });
});
