import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { hasCode } from '../../../../src/common/errors.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { configMaps, type Event, events } from '../../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../../src/kube/api/types.ts';
import { createKubeClient } from '../../../../src/kube/client/client.ts';
import { fencedClient } from '../../../../src/kube/client/fenced-client.ts';
import { EventRecorder, type EventRecorderOptions } from '../../../../src/kube/events/event-recorder.ts';
import { type RecordedEvent, referenceTo } from '../../../../src/kube/events/event-series.ts';
import { type FakeApiServer, startFakeApiServer } from '../../../support/fake-api-server.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { recordingLogger } from '../../../support/recording-logger.ts';
import { waitFor } from '../../../support/wait-for.ts';

const clock = manualClock();
const soon = { timeoutMs: 5000, everyMs: 2 };

let server: FakeApiServer;
let client: KubeClient;

beforeEach(async () => {
  server = await startFakeApiServer();
  client = createKubeClient({ source: server.source });
  return async () => {
    await client.close();
    await server.stop();
  };
});

function recorderOf(options: Partial<EventRecorderOptions> = {}) {
  let writes = 0;
  const counted = <T>(write: Promise<T>): Promise<T> => {
    const count = () => {
      writes++;
    };
    write.then(count, (error: unknown) => hasCode(error, 'AlreadyExists') && count());
    return write;
  };
  const { client: own = client } = options;
  const recorder = new EventRecorder({
    controller: 'test.dev/tester',
    instance: 'tester-1',
    logger: silentLogger(),
    clock,
    ...options,
    client: {
      ...own,
      create: (...given) => counted(own.create(...given)),
      patch: (...given) => counted(own.patch(...given)),
    },
  });
  onTestFinished(() => recorder.stop(0));
  /** Waits until the server has confirmed this many writes in all. */
  const written = (count: number) => waitFor('the writes', () => writes === count, soon);
  return { recorder, written };
}

function event(changes: Partial<RecordedEvent> = {}): RecordedEvent {
  return {
    regarding: referenceTo(configMaps, { metadata: { namespace: 'default', name: 'one', uid: 'u1' } }),
    type: 'Normal',
    reason: 'Started',
    action: 'Start',
    note: 'it started',
    ...changes,
  };
}

const stored = (): readonly Event[] => server.all(events);
test('a Normal event waits for as long as it is told to, a Warning does not, and a stop writes both', async () => {
  const { recorder, written } = recorderOf({ normalAfterMs: 5_000 });
  recorder.start();
  recorder.record(event());
  recorder.record(event());
  recorder.record(event({ type: 'Warning', reason: 'Failed' }));
  await written(1);
  expect(stored().map(({ reason }) => reason)).toEqual(['Failed']);
  await clock.advance(5_000);
  await written(2);
  expect(stored().find(({ reason }) => reason === 'Started')?.series?.count).toBe(2);
  recorder.record(event({ note: 'it started again' }));
  await recorder.stop();
  expect(stored()).toHaveLength(3);
});

test('an event says who saw what of which object', async () => {
  const { recorder, written } = recorderOf();
  recorder.start();
  recorder.record(event());
  await written(1);
  expect(stored()[0]).toMatchObject({
    metadata: { namespace: 'default', name: expect.stringMatching(/^one\./) },
    eventTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
    reportingController: 'test.dev/tester',
    reportingInstance: 'tester-1',
    regarding: { apiVersion: 'v1', kind: 'ConfigMap', namespace: 'default', name: 'one', uid: 'u1' },
    reason: 'Started',
    action: 'Start',
    note: 'it started',
    type: 'Normal',
  });
});

test('equal events become one with a count, which is written seldom', async () => {
  const { recorder, written } = recorderOf();
  recorder.start();
  recorder.record(event());
  await written(1);
  recorder.record(event());
  await written(2);
  expect(stored()[0]?.series?.count).toBe(2);
  for (let number = 0; number < 50; number++) {
    recorder.record(event());
  }
  const writes = server.requests.length;
  await clock.advance(59_000);
  expect(server.requests.length).toBe(writes);
  await clock.advance(2000);
  await written(3);
  expect(stored()[0]?.series?.count).toBe(52);
  expect(stored()).toHaveLength(1);
});

test('what differs is another event, and so is what is equal much later', async () => {
  const { recorder, written } = recorderOf();
  recorder.start();
  recorder.record(event());
  recorder.record(event({ note: 'it started again' }));
  await written(2);
  await clock.advance(7 * 60_000);
  recorder.record(event());
  await written(3);
});

test('a series whose event the server has forgotten begins anew', async () => {
  const { recorder, written } = recorderOf();
  recorder.start();
  recorder.record(event());
  await written(1);
  server.remove(events, { namespace: 'default', name: stored()[0]?.metadata.name ?? '' });
  recorder.record(event());
  await written(2);
  expect(stored().map(({ series }) => series?.count)).toEqual([2]);
});

test('one object cannot flood the server', async () => {
  const { recorder, written } = recorderOf({ burst: 3, refillMs: 1000 });
  recorder.start();
  for (let number = 0; number < 10; number++) {
    recorder.record(event({ note: `note ${number}` }));
  }
  await written(3);
  expect(recorder.pending()).toBe(0);
  await clock.advance(1000);
  recorder.record(event({ note: 'later' }));
  await written(4);
});

test('what waits is bounded, and recording never throws', () => {
  const { recorder } = recorderOf({ capacity: 5, burst: 100 });
  for (let number = 0; number < 8; number++) {
    recorder.record(event({ note: `note ${number}` }));
  }
  expect(recorder.pending()).toBe(5);
});

test('a Warning takes the place of a Normal event that waits', async () => {
  const { recorder, written } = recorderOf({ capacity: 3, burst: 100 });
  for (let number = 0; number < 3; number++) {
    recorder.record(event({ note: `note ${number}` }));
  }
  recorder.record(event({ type: 'Warning', note: 'the disk is full' }));
  expect(recorder.pending()).toBe(3);
  recorder.start();
  await written(3);
  expect(stored().map(({ note }) => note)).toEqual(['note 1', 'note 2', 'the disk is full']);
});

test('a Warning takes the place of a Normal event whose time has not come, too', async () => {
  const { recorder, written } = recorderOf({ capacity: 2, burst: 100, normalAfterMs: 5_000 });
  recorder.start();
  for (let number = 0; number < 6; number++) {
    recorder.record(event({ note: `note ${number}` }));
  }
  recorder.record(event({ type: 'Warning', note: 'the disk is full' }));
  await written(1);
  expect(stored().map(({ note }) => note)).toEqual(['the disk is full']);
  await clock.advance(5_000);
  await waitFor('the latest of the others', () => stored().some(({ note }) => note === 'note 3'), soon);
  expect(stored().map(({ note }) => note)).not.toContain('note 0');
});

test('many objects are told of, however short a time ago the others were', async () => {
  const { recorder, written } = recorderOf({ capacity: 5 });
  recorder.start();
  for (let number = 0; number < 30; number++) {
    recorder.record(
      event({
        regarding: referenceTo(configMaps, { metadata: { name: `map-${number}`, uid: `u${number}` } }),
      }),
    );
    await written(number + 1);
  }
  expect(stored()).toHaveLength(30);
});

test('after a burst, writes are spaced', async () => {
  const { recorder, written } = recorderOf({ writeBurst: 2, writeEveryMs: 100 });
  recorder.start();
  for (let number = 0; number < 4; number++) {
    recorder.record(event({ note: `note ${number}` }));
  }
  await written(2);
  await clock.advance(99);
  expect(stored()).toHaveLength(2);
  await clock.advance(1);
  await written(3);
  // In order to stop, it waits no longer.
  await recorder.stop();
  expect(stored()).toHaveLength(4);
  expect(clock.pending()).toBe(0);
});

test('a server that is away is tried again, and a lost answer makes no second event', async () => {
  const { recorder, written } = recorderOf();
  server.inject(({ method }) => method === 'POST', { kind: 'cut', applied: true });
  recorder.start();
  recorder.record(event());
  await waitFor(
    'the second try',
    async () => {
      await clock.advance(1000);
      return server.requests.filter(({ method }) => method === 'POST').length === 2;
    },
    soon,
  );
  await written(1);
  expect(stored()).toHaveLength(1);
});

test('an event that is refused is dropped, and the next one is written', async () => {
  const { recorder, written } = recorderOf();
  server.inject(({ method }) => method === 'POST', { kind: 'status', status: 403, reason: 'Forbidden' });
  recorder.start();
  recorder.record(event());
  recorder.record(event({ reason: 'Stopped' }));
  await written(1);
  expect(stored().map(({ reason }) => reason)).toEqual(['Stopped']);
});

test('events of a leader that lost its term are dropped without a word', async () => {
  const { logger, lines } = recordingLogger();
  const { recorder } = recorderOf({ client: fencedClient(client, () => false), logger });
  recorder.record(event());
  recorder.record(event({ note: 'another' }));
  recorder.start();
  await recorder.stop();
  expect(recorder.pending()).toBe(0);
  expect(stored()).toEqual([]);
  expect(lines).toEqual([]);
});

test('stopping writes what waits', async () => {
  const { recorder, written } = recorderOf();
  recorder.start();
  recorder.record(event());
  await written(1);
  recorder.record(event());
  await written(2);
  recorder.record(event());
  recorder.record(event({ reason: 'Stopped' }));
  await recorder.stop();
  expect(stored().map(({ reason, series }) => [reason, series?.count])).toEqual([
    ['Started', 3],
    ['Stopped', undefined],
  ]);
  expect(clock.pending()).toBe(0);
});

test('a long note is cut between characters', async () => {
  const { recorder, written } = recorderOf();
  recorder.start();
  recorder.record(event({ note: 'ä'.repeat(2000) }));
  await written(1);
  const note = stored()[0]?.note ?? '';
  expect(Buffer.byteLength(note)).toBeLessThanOrEqual(1024);
  expect(note.length).toBeGreaterThan(500);
});
