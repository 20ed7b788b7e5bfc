import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { InFlightMarker, readMarks } from '../../../../src/agent/invoke/in-flight-marker.ts';
import type { WorkerRecord } from '../../../../src/agent/model/worker-record.ts';
import { OutdatedRecords } from '../../../../src/agent/worker/outdated-records.ts';
import { RecordStore } from '../../../../src/agent/worker/record-store.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { watchFileSyncs } from '../../../support/file-syncs.ts';
import { desiredFixture } from '../../../support/fleet-lab.ts';
import { manualClock } from '../../../support/manual-clock.ts';

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'esb-record-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const container = {
  id: 'hello-1',
  shapeHash: 'v1-a',
  memoryMiB: 128,
  ephemeralStorageMiB: 16,
  timeoutSeconds: 3,
  runtimeInterface: 'Lambda',
} as const;

const record = (change: Partial<WorkerRecord> = {}): WorkerRecord => ({
  version: 1,
  desired: desiredFixture(),
  rest: 'Running',
  container,
  restartCount: 0,
  crashes: { failures: 0, until: 0 },
  stamps: [],
  ...change,
});

const store = (path: string, clock = manualClock(), outdated = folder()): RecordStore => {
  const logger = silentLogger();
  return new RecordStore({ folder: path, outdated: new OutdatedRecords(outdated, logger), clock, logger });
};

describe('records', () => {
  it('are read back as they were saved last, and gone when removed', async () => {
    const path = folder();
    const first = store(path);
    await first.load();
    for (let restartCount = 0; restartCount < 20; restartCount += 1) {
      first.save('uid-of-hello', record({ restartCount }));
    }
    await first.flush();
    expect(await store(path).load()).toEqual([record({ restartCount: 19 })]);
    first.remove('uid-of-hello');
    await first.flush();
    expect(readdirSync(path)).toEqual([]);
  });

  it.each([
    ['cut off', '{"version":1,"desired"'],
    ['of another version', JSON.stringify({ ...record(), version: 99 })],
    ['of another worker', JSON.stringify(record({ desired: desiredFixture({ name: 'other' }) }))],
    ['empty', ''],
  ])('that are %s are set aside and disturb no other', async (_what, text) => {
    const path = folder();
    writeFileSync(join(path, 'uid-of-hello.json'), text);
    writeFileSync(join(path, 'left-over.json.1.tmp'), '');
    const good = record({ desired: desiredFixture({ name: 'good' }) });
    writeFileSync(join(path, 'uid-of-good.json'), JSON.stringify(good));
    expect(await store(path).load()).toEqual([good]);
    expect(readdirSync(path).toSorted()).toEqual(['uid-of-good.json', 'uid-of-hello.json.unreadable']);
  });

  it('that were set aside are counted, and removed after 30 days', async () => {
    const path = folder();
    const day = 24 * 60 * 60;
    const clock = manualClock();
    for (const [name, days] of [
      ['old', 31],
      ['young', 29],
    ] as const) {
      const file = join(path, `uid-of-${name}.json.unreadable`);
      writeFileSync(file, '');
      const at = clock.now() / 1_000 - days * day;
      utimesSync(file, at, at);
    }
    const records = store(path, clock);
    expect(await records.load()).toEqual([]);
    expect(readdirSync(path)).toEqual(['uid-of-young.json.unreadable']);
    expect(records.health).toMatchObject({ ok: true, warning: { reason: 'RecordsSetAside' } });
  });

  it('that cannot be written are told of and tried again', async () => {
    const path = join(folder(), 'workers');
    const clock = manualClock();
    const records = store(path, clock);
    await records.load();
    rmSync(path, { recursive: true });
    records.save('uid-of-hello', record());
    await records.flush();
    expect(records.health).toMatchObject({ ok: false, reason: 'StateUnwritable' });
    mkdirSync(path);
    chmodSync(path, 0o700);
    await clock.advance(2_000);
    await records.flush();
    expect(records.health).toEqual({ ok: true });
    expect(readdirSync(path)).toEqual(['uid-of-hello.json']);
  });

  it('have their name made durable, but for a change of rest alone', async () => {
    const path = folder();
    const records = store(path);
    await records.load();
    const synced = await watchFileSyncs();
    const folders = (): number => synced.splice(0).filter((each) => each === path).length;
    records.save('uid-of-hello', record());
    await records.flush();
    expect(folders()).toBe(1);
    records.save('uid-of-hello', record({ rest: 'Paused' }), 'Rest');
    await records.flush();
    expect(synced).toHaveLength(1);
    expect(folders()).toBe(0);
    // Gathered to one write.
    records.save('uid-of-hello', record({ restartCount: 1 }));
    records.save('uid-of-hello', record({ restartCount: 1, rest: 'Paused' }), 'Rest');
    await records.flush();
    expect(folders()).toBe(1);
    expect(await store(path).load()).toEqual([record({ restartCount: 1, rest: 'Paused' })]);
  });

  it('that are saved at the same time share the writes that make their names durable', async () => {
    const path = folder();
    const records = store(path);
    await records.load();
    const synced = await watchFileSyncs();
    const names = Array.from({ length: 20 }, (_, number) => `worker-${number}`);
    for (const name of names) {
      records.save(`uid-of-${name}`, record({ desired: desiredFixture({ name }) }));
    }
    await records.flush();
    const folders = synced.flatMap((each, index) => (each === path ? [index] : []));
    expect(synced.length - folders.length).toBe(names.length);
    expect(folders.length).toBeLessThan(names.length);
    // The last name was there before the last of them began.
    expect(folders.at(-1)).toBe(synced.length - 1);
    expect(await store(path).load()).toHaveLength(names.length);
  });

  it('that could not be written are made durable when only the rest has changed since', async () => {
    const path = join(folder(), 'workers');
    const records = store(path);
    await records.load();
    rmSync(path, { recursive: true });
    records.save('uid-of-hello', record({ restartCount: 1 }));
    await records.flush();
    mkdirSync(path);
    const synced = await watchFileSyncs();
    records.save('uid-of-hello', record({ restartCount: 1, rest: 'Paused' }), 'Rest');
    await records.flush();
    expect(synced).toContain(path);
  });

  it('tell of no process that is gone, once that is known, also before they are written anew', async () => {
    const path = folder();
    const outdated = folder();
    const clock = manualClock();
    const served = { image: 'hello', epoch: 1, createdAt: '2026-11-01T00:00:00.000Z' };
    const before = record({ served: { ...served, address: { ip: '10.234.0.2', port: 8080 } } });
    const after = record({ served: { ...served, address: { ip: '10.234.0.3', port: 8080 } } });
    const records = store(path, clock, outdated);
    await records.load();
    const load = () => store(path, clock, outdated).load();
    let isFull = false;
    await watchFileSyncs(async () => {
      if (isFull) {
        await Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' }));
      }
    });
    records.save('uid-of-hello', before);
    await records.flush();
    records.forgetProcess('uid-of-hello', 'hello-2');
    expect(await load(), 'another container has another process').toEqual([before]);
    isFull = true;
    records.save('uid-of-hello', { ...before, restartCount: 1 });
    records.forgetProcess('uid-of-hello', 'hello-1');
    await records.flush();
    expect(records.health).toMatchObject({ ok: false, reason: 'DiskFull' });
    expect(await load()).toEqual([record()]);
    isFull = false;
    await clock.advance(2_000);
    await records.flush();
    expect(await load(), 'what is tried again is of the time before').toEqual([record({ restartCount: 1 })]);
    records.forgetProcess('uid-of-hello', 'hello-1');
    records.save('uid-of-hello', after);
    records.forgetProcess('uid-of-hello', 'hello-1');
    await records.flush();
    expect(await load(), 'that one is gone as well').toEqual([record()]);
    records.save('uid-of-hello', after);
    await records.flush();
    expect(await load()).toEqual([after]);
    expect(readdirSync(outdated)).toEqual([]);
    writeFileSync(join(outdated, 'uid-of-hello'), '');
    writeFileSync(join(outdated, 'uid-of-gone'), 'gone-1');
    expect(await load(), 'it was being written when an agent ended').toEqual([record()]);
    expect(readdirSync(outdated)).toEqual(['uid-of-hello']);
  });

  it('that could not be written do not come back once they were removed', async () => {
    const path = join(folder(), 'workers');
    const clock = manualClock();
    const records = store(path, clock);
    await records.load();
    rmSync(path, { recursive: true });
    records.save('uid-of-hello', record());
    await records.flush();
    mkdirSync(path);
    records.remove('uid-of-hello');
    await records.flush();
    await clock.advance(10_000);
    await records.flush();
    expect(readdirSync(path)).toEqual([]);
  });
});

describe('marks of calls in flight', () => {
  it('say that a call is in the worker, and after its answer which stamp it got', () => {
    const path = folder();
    const mark = new InFlightMarker(path, 'uid-1', undefined, (error) => expect.unreachable(String(error)));
    const call = { requestId: 'a-request', until: 1_800_000_000_000 };
    mark.begin('hello-1', { ...call, requestId: 'a-request-with-a-longer-id' });
    mark.begin('hello-1', call);
    const busy = { uid: 'uid-1', containerId: 'hello-1', busy: true, stamp: undefined, call, left: [] };
    expect(readMarks(path)).toEqual([busy]);
    mark.end('2026-11-25T15:00:00.123456Z');
    const idle = { ...busy, busy: false, stamp: '2026-11-25T15:00:00.123456Z' };
    expect(readMarks(path)).toEqual([idle]);
    mark.release();
    expect(readMarks(path)).toEqual([idle]);
    mark.begin('hello-1', { ...call, requestId: 'not an id' });
    expect(readMarks(path)).toEqual([{ ...idle, busy: true, call: { until: call.until } }]);
    mark.release();
    expect(readMarks(path)[0]?.busy, 'the call was not answered').toBe(true);
    mark.remove();
    expect(readMarks(path)).toEqual([]);
  });

  it('go on telling of a call that an earlier run has left, until that is over', () => {
    const path = folder();
    const mark = new InFlightMarker(path, 'uid-1', undefined, (error) => expect.unreachable(String(error)));
    const call = { requestId: 'a-request', until: 1_800_000_000_000 };
    const left = { containerId: 'hello-1', call: { ...call, requestId: 'left' } };
    mark.keep(left.containerId, left.call);
    mark.begin('hello-2', call);
    expect(readMarks(path)).toMatchObject([{ containerId: 'hello-2', busy: true, call, left: [left] }]);
    mark.remove();
    expect(readMarks(path)).toMatchObject([{ busy: false, left: [left] }]);
    mark.begin('hello-2', call);
    mark.forget('hello-1');
    expect(readMarks(path)).toMatchObject([{ containerId: 'hello-2', busy: true, call, left: [] }]);
    mark.remove();
    expect(readMarks(path)).toEqual([]);
  });

  it('go with the last container, be that the one with the call that was left', () => {
    const path = folder();
    const mark = new InFlightMarker(path, 'uid-1', undefined, (error) => expect.unreachable(String(error)));
    mark.keep('hello-1', { requestId: 'left' });
    mark.begin('hello-2', { requestId: 'a-request', until: 1_800_000_000_000 });
    mark.remove();
    mark.forget('hello-1');
    expect(readMarks(path)).toEqual([]);
  });

  it('that were being written count as a call', () => {
    const path = folder();
    writeFileSync(join(path, 'uid-1.mark'), '');
    expect(readMarks(path)).toMatchObject([{ uid: 'uid-1', busy: true, call: {} }]);
  });

  it('of an agent before an upgrade say that a call is in the worker, and no more of it', () => {
    const path = folder();
    writeFileSync(join(path, 'uid-1.mark'), `1 hello-1 ${'-'.repeat(27)}\n`);
    const before = { uid: 'uid-1', containerId: 'hello-1', busy: true, stamp: undefined, call: {}, left: [] };
    expect(readMarks(path)).toEqual([before]);
  });
});
