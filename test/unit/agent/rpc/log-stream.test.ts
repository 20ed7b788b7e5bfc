import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { type LogCall, serveLogs } from '../../../../src/agent/rpc/log-stream.ts';
import type { GetLogsRequest, LogChunk } from '../../../../src/protocol/generated/agent.ts';
import { fakeFleet, viewFixture } from '../../../support/fake-fleet.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { type MemoryWorkerLog, memoryWorkerLogs } from '../../../support/memory-worker-logs.ts';

const uid = 'uid-of-hello';

/** A stream as grpc-js gives it; it takes `room` messages until it is drained. */
class FakeCall extends EventEmitter {
  readonly chunks: LogChunk[] = [];
  readonly request: GetLogsRequest;
  room = Number.POSITIVE_INFINITY;

  constructor(request: Partial<GetLogsRequest>) {
    super();
    this.request = {
      worker: { namespace: 'default', name: 'hello', uid: '' },
      tailLines: 0,
      follow: false,
      sinceMs: 0,
      requestId: '',
      previous: false,
      ...request,
    };
  }

  write(chunk: LogChunk): boolean {
    this.chunks.push(chunk);
    this.room -= 1;
    return this.room > 0;
  }

  text(): string {
    return this.chunks.map(({ data }) => data.toString()).join('');
  }
}

function lab(request: Partial<GetLogsRequest>) {
  const fleet = fakeFleet();
  const clock = manualClock();
  const logs = new Map<string, MemoryWorkerLog>();
  const call = new FakeCall(request);
  const stop = new AbortController();
  const serve = () => {
    let isDone = false;
    const done = serveLogs(
      call as unknown as LogCall,
      fleet,
      { workerLogs: memoryWorkerLogs(logs) },
      clock,
      stop.signal,
    ).finally(() => {
      isDone = true;
    });
    return { done, isDone: () => isDone };
  };
  return { fleet, clock, logs, call, stop, serve };
}

describe('serving a log', () => {
  it('stays with a worker whose container is replaced, and ends with the worker', async () => {
    const { fleet, clock, logs, call, serve } = lab({ follow: true });
    logs.set('first', { text: 'one\n' });
    fleet.show(viewFixture({ containerId: 'first' }));
    const { done, isDone } = serve();
    await clock.advance(1_000);
    logs.set('first', { text: 'one\ntwo\nnot ended' });
    logs.set('second', { text: 'three\n' });
    await clock.advance(250);
    fleet.show(viewFixture({ containerId: 'second' }));
    await clock.advance(1_000);
    expect(call.text()).toBe('one\ntwo\nnot endedthree\n');
    expect(isDone()).toBe(false);
    fleet.remove(uid);
    await clock.advance(1_000);
    await done;
  });

  it('shows what a container wrote that failed to start and is no more', async () => {
    const { fleet, logs, call, serve } = lab({});
    logs.set('failed', { text: 'cannot find my wand\n', uid });
    const { containerId: _, ...without } = viewFixture();
    fleet.show(without);
    await serve().done;
    expect(call.text()).toBe('cannot find my wand\n');
  });

  it('ends when the caller hangs up, also one who takes nothing in any more', async () => {
    const { fleet, clock, logs, call, serve } = lab({ follow: true });
    call.room = 1;
    logs.set('c', { text: 'one\n' });
    fleet.show(viewFixture({ containerId: 'c' }));
    const { done, isDone } = serve();
    await clock.advance(1_000);
    expect(isDone()).toBe(false);
    call.emit('cancelled');
    await done;
    expect(call.listenerCount('drain')).toBe(0);
  });

  it('sends on once there is room, in messages of a bounded size', async () => {
    const { fleet, clock, logs, call, serve } = lab({});
    call.room = 1;
    logs.set('c', { text: `${'x'.repeat(600_000)}\n` });
    fleet.show(viewFixture({ containerId: 'c' }));
    const { done } = serve();
    await clock.advance(10);
    expect(call.chunks).toHaveLength(1);
    call.room = Number.POSITIVE_INFINITY;
    call.emit('drain');
    await done;
    expect(call.text().length).toBe(600_001);
    expect(call.chunks.every(({ data }) => data.length <= 256 * 1024)).toBe(true);
  });

  it('ends when the agent stops', async () => {
    const { fleet, clock, logs, stop, serve } = lab({ follow: true });
    logs.set('c', { text: 'one\n' });
    fleet.show(viewFixture({ containerId: 'c' }));
    const { done } = serve();
    await clock.advance(1_000);
    stop.abort();
    await done;
  });

  it('refuses a worker that is not here', async () => {
    const { serve } = lab({ worker: { namespace: 'default', name: 'hello', uid: 'other' } });
    await expect(serve().done).rejects.toMatchObject({ code: 'NotFound' });
  });
});
