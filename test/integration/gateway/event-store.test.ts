import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, open as openFile, rm, stat, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import pino from 'pino';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../src/common/clock.ts';
import type { EsbError } from '../../../src/common/errors.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import {
  type ClaimedEvent,
  DEFAULT_EVENT_SETTINGS,
  type EventLimits,
  type EventStore,
  NO_PROGRESS,
  type StoredEvent,
} from '../../../src/gateway/events/event-store.ts';
import { openEventStore } from '../../../src/gateway/events/event-store-choice.ts';
import { PostgresEventStore } from '../../../src/gateway/events/postgres-event-store.ts';
import { SqliteEventChannel } from '../../../src/gateway/events/sqlite-event-channel.ts';
import { sqliteEventStore } from '../../../src/gateway/events/sqlite-event-store.ts';
import { run } from '../../support/command.ts';
import { manualClock } from '../../support/manual-clock.ts';
import { type PostgresServer, startPostgresServer } from '../../support/postgres-server.ts';
import { waitFor } from '../../support/wait-for.ts';

const LANE = 'function:f';
const roomy: EventLimits = { maxEvents: 100_000, maxBytes: 2 ** 30 };

function event(requestId: string, changes: Partial<StoredEvent> = {}): StoredEvent {
  return {
    requestId,
    target: { kind: 'Function', functionName: 'f' },
    payload: Buffer.from('{"n":1}'),
    traceId: 'Root=1-2-3',
    traceParent: '00-1-2-01',
    acceptedAt: 1_700_000_000_123,
    hops: 0,
    settings: DEFAULT_EVENT_SETTINGS,
    progress: NO_PROGRESS,
    ...changes,
  };
}

/** Claims up to `events` events, of any size. */
async function take(
  store: EventStore,
  lane: string,
  events: number,
  leaseMs: number,
): Promise<readonly ClaimedEvent[]> {
  const claimed = await store.claim(lane, { events, bytes: 2 ** 30 }, leaseMs);
  expect(claimed.unreadable).toEqual([]);
  return claimed.events;
}

interface Kind {
  readonly name: string;
  /** Opens the store of this test again each time; its content stays. */
  open(limits?: EventLimits): Promise<EventStore>;
  /** Starts the next test with nothing. */
  next(): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
}

function sqlite(): Kind {
  let folder = '';
  return {
    name: 'SQLite',
    open: async (limits = roomy) =>
      sqliteEventStore(
        await SqliteEventChannel.open({
          owner: 'test',
          folder,
          limits,
          onBroken: (error) => {
            throw error;
          },
        }),
        limits,
      ),
    async next() {
      await rm(folder, { recursive: true, force: true });
      folder = await mkdtemp(join(tmpdir(), 'esb-events-'));
    },
    async start() {
      folder = await mkdtemp(join(tmpdir(), 'esb-events-'));
    },
    stop: () => rm(folder, { recursive: true, force: true }),
  };
}

function postgres(): Kind {
  let server: PostgresServer | undefined;
  let connectionString = '';
  let databases = 0;
  return {
    name: 'PostgreSQL',
    open: async (limits = roomy) =>
      new PostgresEventStore({
        connectionString,
        namespace: 'default',
        limits,
        clock: systemClock,
        logger: silentLogger(),
      }),
    async next() {
      databases += 1;
      connectionString = (await server?.createDatabase(`events_${databases}`)) ?? '';
    },
    async start() {
      server = await startPostgresServer();
    },
    stop: async () => server?.stop(),
  };
}

describe.each([sqlite(), postgres()])('an event store in $name', (kind) => {
  beforeAll(() => kind.start());
  afterAll(() => kind.stop());

  /** A test with an empty store; `reopen` closes it and opens it again. */
  const withStore =
    (work: (store: EventStore, reopen: () => Promise<EventStore>) => Promise<void>, limits: EventLimits = roomy) =>
    async (): Promise<void> => {
      await kind.next();
      let store = await kind.open(limits);
      try {
        await work(store, async () => {
          await store.close();
          store = await kind.open(limits);
          return store;
        });
      } finally {
        await store.close();
      }
    };

  it(
    'gives back what it was given, after it was closed and opened',
    withStore(async (store, reopen) => {
      const whole = event('1', {
        target: { kind: 'Function', functionName: 'f', qualifier: '$LATEST' },
        payload: Buffer.from([0x22, 0xc3, 0xa9, 0x00, 0xff, 0x22]),
        hops: 3,
        settings: {
          maximumRetryAttempts: 0,
          maximumEventAgeSeconds: 60,
          onSuccess: { kind: 'Function', functionName: 'next' },
          onFailure: { kind: 'Endpoint', url: 'http://letters.example/x' },
        },
        progress: { failures: 1, invocations: 2, setbacks: 3, misses: 4 },
      });
      await store.put(whole);
      const again = await reopen();
      const [claimed, ...others] = await take(again, LANE, 10, 30_000);
      expect(claimed?.event).toEqual(whole);
      expect(others).toEqual([]);
    }),
  );

  it(
    'hands out the oldest first, each to one alone, and by lane',
    withStore(async (store) => {
      for (const id of ['1', '2', '3']) {
        await store.put(event(id));
      }
      await store.put(event('other', { target: { kind: 'Function', functionName: 'g' } }));
      await store.put(event('letter', { target: { kind: 'Endpoint', url: 'http://letters.example:81/x' } }));
      const ids = async (lane: string, limit: number): Promise<readonly string[]> =>
        (await take(store, lane, limit, 30_000)).map(({ event: { requestId } }) => requestId);
      expect(await ids(LANE, 2)).toEqual(['1', '2']);
      expect(await ids(LANE, 2)).toEqual(['3']);
      expect(await ids(LANE, 2)).toEqual([]);
      expect(await ids('function:g', 2)).toEqual(['other']);
      expect(await ids('endpoint:http://letters.example:81', 2)).toEqual(['letter']);
    }),
  );

  it(
    'tells of each lane when its next event is due',
    withStore(async (store) => {
      await store.put(event('1'));
      await store.put(event('2', { target: { kind: 'Function', functionName: 'g' } }));
      const [claimed] = await take(store, 'function:g', 1, 30_000);
      if (claimed === undefined) {
        throw new Error('nothing was claimed');
      }
      await store.postpone(claimed, NO_PROGRESS, 60_000);
      const lanes = await store.partitions();
      expect(lanes.map(({ partition }) => partition)).toEqual([LANE, 'function:g']);
      expect(lanes[0]?.dueInMs).toBeLessThanOrEqual(0);
      expect(lanes[1]?.dueInMs).toBeGreaterThan(30_000);
      expect(lanes[1]?.dueInMs).toBeLessThanOrEqual(60_000);
    }),
  );

  it(
    'forgets what is done, and keeps what is postponed with its progress',
    withStore(async (store, reopen) => {
      await store.put(event('1'));
      await store.put(event('2'));
      const [one, two] = await take(store, LANE, 2, 30_000);
      if (one === undefined || two === undefined) {
        throw new Error('two had to be claimed');
      }
      await store.finish(one.event.requestId);
      const progress = { failures: 1, invocations: 1, setbacks: 0, misses: 0 };
      await store.postpone(two, progress, 0);
      const again = await take(await reopen(), LANE, 10, 30_000);
      expect(again.map(({ event: { requestId, progress: kept } }) => ({ requestId, kept }))).toEqual([
        { requestId: '2', kept: progress },
      ]);
    }),
  );

  it(
    'puts a successor in the place of an event, in one step',
    withStore(async (store, reopen) => {
      await store.put(event('1'));
      const [claimed] = await take(store, LANE, 1, 30_000);
      if (claimed === undefined) {
        throw new Error('nothing was claimed');
      }
      const successor = event('letter', {
        target: { kind: 'Endpoint', url: 'http://letters.example/' },
        payload: Buffer.alloc(2 * 2 ** 20, 0x20),
        hops: 1,
      });
      await store.exchange(claimed, successor);
      // A second time, as after an answer that was lost: nothing is there to be exchanged.
      await store.exchange(claimed, event('letter-again'));
      const again = await reopen();
      expect((await again.partitions()).map(({ partition }) => partition)).toEqual(['endpoint:http://letters.example']);
      expect((await take(again, 'endpoint:http://letters.example', 10, 30_000)).map(({ event: kept }) => kept)).toEqual(
        [successor],
      );
    }),
  );

  it(
    'hands an event out again when its lease is over, and then heeds the new claim alone',
    withStore(async (store) => {
      await store.put(event('1'));
      const [first] = await take(store, LANE, 1, 50);
      const second = await waitFor('the lease to be over', async () => (await take(store, LANE, 1, 30_000))[0], {
        everyMs: 10,
      });
      if (first === undefined) {
        throw new Error('it had to be claimed twice');
      }
      expect(second.event).toEqual(first.event);
      await store.postpone(first, { ...NO_PROGRESS, failures: 9 }, 0);
      await store.exchange(first, event('letter'));
      await store.renew([first], 0);
      expect(await take(store, LANE, 10, 30_000)).toEqual([]);
      await store.postpone(second, NO_PROGRESS, 0);
      expect(await take(store, LANE, 10, 30_000)).toHaveLength(1);
    }),
  );

  it(
    'leaves an event to its gateway for as long as the lease is renewed',
    withStore(async (store) => {
      await store.put(event('1'));
      // Long enough for a disk that takes its time to write a renewal.
      const leaseMs = 2_000;
      const claimed = await take(store, LANE, 1, leaseMs);
      for (let turn = 0; turn < 5; turn += 1) {
        // The pace of the calls.
        await delay(500);
        await store.renew(claimed, leaseMs);
      }
      expect(await take(store, LANE, 1, leaseMs)).toEqual([]);
      await store.renew([], leaseMs);
    }),
  );

  it(
    'refuses more events, and more bytes, than it may hold, and takes new ones when there is room',
    withStore(
      async (store) => {
        const full = expect.objectContaining({ code: 'EventStoreFull', retryable: true });
        const ofOther = (id: string, bytes = 7): StoredEvent =>
          event(id, { target: { kind: 'Function', functionName: id }, payload: Buffer.alloc(bytes) });
        await store.put(event('1', { payload: Buffer.alloc(450) }));
        await expect(store.put(ofOther('big', 600))).rejects.toEqual(full);
        await store.put(ofOther('2'));
        await store.put(ofOther('3'));
        await expect(store.put(ofOther('4'))).rejects.toEqual(full);
        const [claimed] = await take(store, LANE, 1, 30_000);
        if (claimed === undefined) {
          throw new Error('nothing was claimed');
        }
        // The record of a failure takes the place of its event, and is never refused.
        await store.exchange(claimed, event('letter', { payload: Buffer.alloc(2_000) }));
        const [letter] = await take(store, LANE, 10, 30_000).then((all) =>
          all.filter(({ event: { requestId } }) => requestId === 'letter'),
        );
        if (letter === undefined) {
          throw new Error('the letter has to be there');
        }
        await store.finish(letter.event.requestId);
        await waitFor('room', async () => {
          await store.put(event('5'));
          return true;
        });
      },
      { maxEvents: 3, maxBytes: 1_000 },
    ),
  );

  it(
    'gives no function more of its room than stays free for the others',
    withStore(
      async (store) => {
        const share = expect.objectContaining({
          code: 'EventStoreFull',
          message: expect.stringContaining('share'),
        });
        const ofOther = (id: string): StoredEvent => event(id, { target: { kind: 'Function', functionName: 'g' } });
        for (const id of ['1', '2', '3', '4', '5']) {
          await store.put(event(id));
        }
        await expect(store.put(event('6'))).rejects.toEqual(share);
        await store.put(ofOther('7'));
        await store.put(ofOther('8'));
        await expect(store.put(ofOther('9'))).resolves.toBeUndefined();
      },
      { maxEvents: 10, maxBytes: 2 ** 20 },
    ),
  );

  it(
    'hands out no more bytes than were asked for, and none of an event that is larger',
    withStore(async (store) => {
      for (const id of ['1', '2', '3']) {
        await store.put(event(id, { payload: Buffer.alloc(1_000) }));
      }
      const claim = async (bytes: number): Promise<readonly string[]> =>
        (await store.claim(LANE, { events: 10, bytes }, 30_000)).events.map(({ event: one }) => one.requestId);
      expect(await claim(999)).toEqual([]);
      expect(await claim(2_999)).toEqual(['1', '2']);
      expect(await claim(2_999)).toEqual(['3']);
    }),
  );

  it(
    'puts off an event that it cannot read, and hands out those behind it',
    withStore(async (store, reopen) => {
      const unknown = { kind: 'Queue', name: 'q' } as unknown as StoredEvent['target'];
      await store.put(event('1'));
      const [first] = await take(store, LANE, 1, 30_000);
      if (first === undefined) {
        throw new Error('nothing was claimed');
      }
      // As a newer program writes: in the lane of a function, with a target of a kind that is not known here.
      await store.exchange(first, { ...event('odd'), target: Object.assign(unknown, { kind: 'Function' }) });
      await store.put(event('2', { target: { kind: 'Function', functionName: 'undefined' } }));
      const lane = 'function:undefined';
      const claimed = await store.claim(lane, { events: 10, bytes: 2 ** 20 }, 30_000);
      expect(claimed.events.map(({ event: one }) => one.requestId)).toEqual(['2']);
      expect(claimed.unreadable.map(({ requestId }) => requestId)).toEqual(['odd']);
      expect(await take(store, lane, 10, 30_000)).toEqual([]);
      const again = await reopen();
      await waitFor('the count', () => again.load().events === 2);
    }),
  );

  it(
    'keeps every one of many that come at once',
    withStore(async (store, reopen) => {
      const ids = Array.from({ length: 500 }, (_, index) => String(index));
      await Promise.all(ids.map((id) => store.put(event(id))));
      const again = await reopen();
      await waitFor('the count', () => again.load().events === 500);
      const claims = await Promise.all(Array.from({ length: 10 }, () => take(again, LANE, 100, 30_000)));
      const found = claims.flat().map(({ event: { requestId } }) => requestId);
      expect(found.toSorted()).toEqual(ids.toSorted());
    }),
  );
});

/** A way to a PostgreSQL server that keeps back the question for the number of events. */
async function countHold(connectionString: string) {
  const url = new URL(connectionString);
  const target = join(url.searchParams.get('host') ?? '', '.s.PGSQL.5432');
  const folder = await mkdtemp(join(tmpdir(), 'esb-hold-'));
  const sockets: Socket[] = [];
  let holding = false;
  let held: (() => void) | undefined;
  const relay = createServer((near) => {
    const far = connect(target);
    sockets.push(near, far);
    near.on('error', () => far.destroy()).on('close', () => far.destroy());
    far.on('error', () => near.destroy()).pipe(near);
    near.on('data', (bytes) => {
      if (holding && bytes.includes('count(*)')) {
        held = () => far.write(bytes);
      } else {
        far.write(bytes);
      }
    });
  });
  relay.listen(join(folder, '.s.PGSQL.5432'));
  await once(relay, 'listening');
  onTestFinished(async () => {
    relay.close();
    for (const socket of sockets) {
      socket.destroy();
    }
    await rm(folder, { recursive: true });
  });
  url.searchParams.set('host', folder);
  return {
    connectionString: url.href,
    hold: () => {
      holding = true;
    },
    isHeld: () => held !== undefined,
    release: () => {
      holding = false;
      held?.();
    },
  };
}

describe('the event store in SQLite', () => {
  const options = async () => {
    const folder = await mkdtemp(join(tmpdir(), 'esb-events-'));
    return { folder, limits: roomy, owner: 'test', onBroken: () => undefined };
  };

  it('belongs to one process, and says so to another', async () => {
    const open = await options();
    const channel = await SqliteEventChannel.open(open);
    await expect(SqliteEventChannel.open(open)).rejects.toMatchObject({
      code: 'EventStoreLocked',
      message: expect.stringContaining('give each its own --state-dir'),
    });
    await channel.close();
    await (await SqliteEventChannel.open(open)).close();
    await rm(open.folder, { recursive: true });
  });

  it('is readable by its owner alone', async () => {
    const open = await options();
    const channel = await SqliteEventChannel.open(open);
    await sqliteEventStore(channel, roomy).put(event('1'));
    for (const name of ['events.db', 'events.db-wal']) {
      expect((await stat(join(open.folder, name))).mode & 0o777, name).toBe(0o600);
    }
    await channel.close();
    await rm(open.folder, { recursive: true });
  });

  it('ends events on a full disk, refuses new ones, and takes them once there is room', async () => {
    const open = await options();
    await run('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', open.folder]);
    try {
      const filler = join(open.folder, 'filler');
      const channel = await SqliteEventChannel.open(open);
      const store = sqliteEventStore(channel, roomy);
      for (let index = 0; index < 8; index += 1) {
        await store.put(event(String(index), { payload: Buffer.alloc(500_000, 0x20) }));
      }
      const claimed = await take(store, LANE, 8, 30_000);
      expect(claimed).toHaveLength(8);
      await writeFile(filler, Buffer.alloc(32 * 2 ** 20)).catch(() => undefined);
      const refusals = new Set<unknown>();
      for (let index = 0; index < 12; index += 1) {
        const put = store.put(event(`more-${index}`, { payload: Buffer.alloc(1_000_000, 0x20) }));
        refusals.add(
          await put.then(
            () => 'kept',
            (error: EsbError) => error.code,
          ),
        );
      }
      expect(refusals).toContain('EventStoreDiskFull');
      expect(store.health()).toMatchObject({ ok: false, reason: 'EventStoreDiskFull' });
      for (const each of claimed.slice(0, 4)) {
        await store.finish(each.event.requestId);
      }
      for (const each of claimed.slice(4, 6)) {
        await store.postpone(each, NO_PROGRESS, 0);
      }
      // The next gateway begins on a disk without any room, and with what was claimed.
      await channel.close();
      await writeFile(filler, Buffer.alloc(32 * 2 ** 20)).catch(() => undefined);
      const again = sqliteEventStore(await SqliteEventChannel.open(open), roomy);
      expect(again.health()).toMatchObject({ ok: false, reason: 'EventStoreDiskFull' });
      expect((await again.partitions()).map(({ partition }) => partition)).toEqual([LANE]);
      await rm(filler);
      await waitFor(
        'room',
        async () => {
          await again.put(event('room'));
          return true;
        },
        { timeoutMs: 20_000 },
      );
      expect(again.health()).toEqual({ ok: true });
      expect((await take(again, LANE, 100, 30_000)).length).toBeGreaterThanOrEqual(3);
      await again.close();
    } finally {
      await run('umount', ['-l', open.folder]);
      await rm(open.folder, { recursive: true });
    }
  });

  it('does not keep a gateway from starting when its file is damaged, and takes events once the file is gone', async () => {
    const { folder } = await options();
    const file = join(folder, 'events.db');
    await writeFile(file, 'something else entirely, and long enough to be looked at');
    const store = await openEventStore(
      {
        stateDir: folder,
        namespace: 'default',
        events: { store: 'sqlite', databaseFile: undefined, maxEvents: 10, maxBytes: 2 ** 20 },
      },
      { env: {}, clock: systemClock, logger: silentLogger() },
    );
    expect(store.health()).toMatchObject({ ok: false, reason: 'EventStoreUnreadable' });
    await expect(store.put(event('1'))).rejects.toMatchObject({ code: 'EventStoreUnavailable' });
    await rm(file);
    await waitFor('the store', async () => {
      await store.put(event('1'));
      return true;
    });
    expect(store.health()).toEqual({ ok: true });
    await store.close();
    await rm(folder, { recursive: true });
  });

  it('takes no more events into a file that is damaged while it is open, and goes on once the file is gone', async () => {
    const { folder } = await options();
    const file = join(folder, 'events.db');
    const openIt = () =>
      openEventStore(
        {
          stateDir: folder,
          namespace: 'default',
          events: { store: 'sqlite', databaseFile: undefined, maxEvents: 1_000, maxBytes: 2 ** 30 },
        },
        { env: {}, clock: systemClock, logger: silentLogger() },
      );
    const before = await openIt();
    for (let index = 0; index < 50; index += 1) {
      await before.put(event(`${index}`, { payload: Buffer.alloc(20_000, 32) }));
    }
    await before.close();
    const store = await openIt();
    await store.put(event('last'));
    // All but the first page, as a disk that has lost its blocks.
    const { size } = await stat(file);
    const handle = await openFile(file, 'r+');
    await handle.write(Buffer.alloc(size - 4_096, 0xa5), 0, size - 4_096, 4_096);
    await handle.close();
    await expect(take(store, LANE, 10, 30_000)).rejects.toMatchObject({ code: 'EventStoreUnavailable' });
    await expect(store.put(event('lost'))).rejects.toMatchObject({ code: 'EventStoreUnavailable' });
    await waitFor('the reason', () => {
      const health = store.health();
      return !health.ok && health.reason === 'EventStoreUnreadable';
    });
    await rm(file);
    await waitFor('the store', () =>
      store.put(event('1')).then(
        () => true,
        () => false,
      ),
    );
    expect(store.health()).toEqual({ ok: true });
    expect((await take(store, LANE, 10, 30_000)).map((each) => each.event.requestId)).toEqual(['1']);
    await store.close();
    await rm(folder, { recursive: true });
  });

  it('says what is wrong with a file that is none of its own', async () => {
    const open = await options();
    await writeFile(join(open.folder, 'events.db'), 'something else entirely, and long enough to be looked at');
    await expect(SqliteEventChannel.open(open)).rejects.toMatchObject({ code: 'EventStoreUnreadable' });
    await rm(open.folder, { recursive: true });
  });
});

describe('the event store in PostgreSQL', () => {
  let server: PostgresServer;

  beforeAll(async () => {
    server = await startPostgresServer();
  });

  afterAll(() => server.stop());

  const open = (connectionString: string, namespace = 'default', limits = roomy) =>
    new PostgresEventStore({
      connectionString,
      namespace,
      limits,
      clock: systemClock,
      logger: silentLogger(),
    });

  it('is made once by gateways that start at once, and hands each event to one of them', async () => {
    const database = await server.createDatabase('together');
    const stores = Array.from({ length: 4 }, () => open(database));
    const ids = Array.from({ length: 200 }, (_, index) => String(index));
    await Promise.all(ids.map(async (id, index) => stores[index % 4]?.put(event(id))));
    const claims = await Promise.all(
      Array.from({ length: 40 }, async (_, index) => take(stores[index % 4] as EventStore, LANE, 7, 30_000)),
    );
    const found = claims.flat().map((claimed) => claimed.event.requestId);
    expect(new Set(found).size).toBe(found.length);
    await Promise.all(stores.map((store) => store.close()));
  });

  it('keeps the events of namespaces apart', async () => {
    const database = await server.createDatabase('apart');
    const [one, other] = [open(database, 'one'), open(database, 'other')];
    await one.put(event('1'));
    expect(await other.partitions()).toEqual([]);
    expect(await take(other, LANE, 10, 30_000)).toEqual([]);
    expect(await take(one, LANE, 10, 30_000)).toHaveLength(1);
    await Promise.all([one.close(), other.close()]);
  });

  it('refuses no event because another one was put while the events were counted', async () => {
    const clock = manualClock();
    const way = await countHold(await server.createDatabase('counting'));
    const store = new PostgresEventStore({
      connectionString: way.connectionString,
      namespace: 'default',
      limits: { maxEvents: 3, maxBytes: 1_000 },
      clock,
      logger: silentLogger(),
    });
    onTestFinished(() => store.close());
    const put = (id: string): Promise<void> => store.put(event(id, { target: { kind: 'Function', functionName: id } }));
    await put('1');
    way.hold();
    await clock.advance(1_000);
    await waitFor('the count to be on its way', way.isHeld);
    await put('2');
    way.release();
    await waitFor('the count', () => store.load().events === 3);
    await put('3');
    await expect(put('4')).rejects.toMatchObject({ code: 'EventStoreFull' });
  });

  it.each(['off', 'local', 'remote_write'])(
    'is durable also where the database has synchronous_commit %s',
    async (level) => {
      const database = await server.createDatabase(`careless_${level}`);
      await server.query(`ALTER DATABASE careless_${level} SET synchronous_commit = ${level}`);
      const store = open(database);
      await store.put(event('1'));
      await server.kill();
      await server.start();
      await waitFor('the event to be there', async () => (await take(store, LANE, 10, 30_000)).length === 1);
      await store.close();
    },
  );

  it('refuses while the server is away, and goes on when it is back', async () => {
    const database = await server.createDatabase('away');
    const store = open(database, 'default', { ...roomy, maxEvents: 10 });
    await store.put(event('1'));
    await server.kill();
    const codeOf = (asked: Promise<unknown>): Promise<string | undefined> =>
      asked.then(
        () => undefined,
        (error: EsbError) => error.code,
      );
    // Processes of the server that have a connection outlive their parent for a moment.
    await waitFor('the server to be gone', async () => (await codeOf(store.partitions())) === 'EventStoreUnavailable');
    // An event that was not put takes no room. The fate of an event on a former connection is unknown.
    for (let refused = 0; refused < 12; ) {
      const code = await codeOf(store.put(event(randomUUID())));
      expect(code).toBeOneOf(['EventStoreUnavailable', 'EventStoreUncertain']);
      refused += code === 'EventStoreUnavailable' ? 1 : 0;
    }
    await server.start();
    await waitFor('the store to go on', async () => {
      await store.put(event('3'));
      return true;
    });
    const found = (await take(store, LANE, 10, 30_000)).map(({ event: { requestId } }) => requestId);
    expect(found).toContain('1');
    expect(found).toContain('3');
    await store.close();
  });

  it('outlives a server that ends while it is asked', async () => {
    const database = await server.createDatabase('ending');
    const store = open(database);
    await store.put(event('1'));
    const client = new pg.Client({ connectionString: database });
    client.on('error', () => undefined);
    await client.connect();
    await client.query('BEGIN');
    await client.query('LOCK TABLE esb_events');
    const put = store.put(event('2')).catch((error: EsbError) => error.code);
    await waitFor('it to wait for the lock', async () => {
      const waiting = await server.query('SELECT 1 FROM pg_locks WHERE NOT granted');
      return waiting.length > 0;
    });
    await server.kill();
    expect(await put).toBe('EventStoreUncertain');
    await server.start();
    await waitFor('the store to go on', () =>
      store.put(event('3')).then(
        () => true,
        () => false,
      ),
    );
    await store.close();
  });

  it('refuses tables of a newer version', async () => {
    const database = await server.createDatabase('newer');
    const store = open(database);
    await store.put(event('1'));
    await server.query('UPDATE esb_event_layout SET layout = 99', 'newer');
    const next = open(database);
    await expect(next.partitions()).rejects.toMatchObject({ code: 'EventStoreUnreadable' });
    await Promise.all([store.close(), next.close()]);
  });

  it('never shows the connection string', async () => {
    const lines: string[] = [];
    const logger = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) });
    const flags = {
      stateDir: '/nowhere',
      namespace: 'default',
      events: { store: 'postgres' as const, databaseFile: undefined, maxEvents: 10, maxBytes: 1_000 },
    };
    const context = { clock: systemClock, logger, onBroken: () => undefined };
    const shown = (error: unknown): string => {
      logger.error({ err: error }, 'failed');
      return String(error);
    };
    for (const value of [
      'postgres://esb:hunter2@127.0.0.1:1/postgres',
      'postgres://esb:hunter2@host with spaces/x',
      'hunter2',
    ]) {
      const message = await openEventStore(flags, { ...context, env: { ESB_EVENT_DATABASE: value } })
        .then(async (store) => {
          const failed = await store.partitions().catch(shown);
          await store.close();
          return failed;
        })
        .catch(shown);
      expect(message).toMatch(/event database/);
    }
    await expect(openEventStore(flags, { ...context, env: {} })).rejects.toMatchObject({
      code: 'EventDatabaseMissing',
    });
    expect(lines.join('')).not.toContain('hunter2');
  });
});
