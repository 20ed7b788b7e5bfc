import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Invocation, InvocationResult } from '../../../src/agent/model/invocation.ts';
import { storeUnavailable } from '../../../src/gateway/events/event-store.ts';
import { agentServerLab } from '../../support/agent-server-lab.ts';
import { fakeFleet, viewFixture } from '../../support/fake-fleet.ts';
import { inThreadEventStore } from '../../support/in-thread-event-store.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Ends of the process that keeps the events: 4 each time, more for the whole proof. */
const ENDS = Number(process.env.ESB_EVENT_ENDS ?? '4');
const EVENTS = 5;

type End = 'in order' | 'by a kill' | 'with an answer on its way';

/** A process with events: one that is dead writes nothing more. */
function storeOf(file: string, owner: string) {
  let isDead = false;
  const store = inThreadEventStore({
    file,
    owner,
    before: () => {
      if (isDead) {
        throw storeUnavailable('the process is dead');
      }
    },
  });
  return {
    store,
    die: () => {
      isDead = true;
    },
  };
}

async function ended(end: End): Promise<{ readonly runs: ReadonlyMap<string, number>; readonly left: number }> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-ends-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const fleet = fakeFleet();
  fleet.show(viewFixture());
  const runs = new Map<string, number>();
  const running = new Set<() => void>();
  fleet.onInvoke((invocation: Invocation) => {
    const { onChunk, onHead, requestId } = invocation;
    runs.set(requestId, (runs.get(requestId) ?? 0) + 1);
    const answer = Promise.withResolvers<InvocationResult>();
    running.add(() => {
      onHead({ status: 200, contentType: 'application/json' });
      onChunk(Buffer.from('{}'));
      answer.resolve({
        kind: 'Answered',
        end: { outcome: 'Answered' },
        stamp: '2026-11-01T00:00:00.000001Z',
        timings: { queued: 1, wake: 2, run: 3, start: 'running' },
      });
    });
    return answer.promise;
  });
  const answerAll = (): void => {
    for (const each of running) {
      each();
    }
    running.clear();
  };
  const file = join(folder, 'events.db');
  const lab = await agentServerLab({ fleet });
  const before = storeOf(file, 'one');
  const first = await lab.nextGateway({ events: { kind: 'Here', store: before.store }, eventDrainMs: 50 });
  for (let index = 0; index < EVENTS; index += 1) {
    const accepted = await fetch(`${first.url}/2015-03-31/functions/hello/invocations`, {
      method: 'POST',
      headers: { 'x-amz-invocation-type': 'Event' },
      body: '{}',
    });
    expect(accepted.status).toBe(202);
  }
  await waitFor('an event to run', () => running.size > 0, { everyMs: 5 });
  if (end !== 'in order') {
    before.die();
  }
  if (end === 'with an answer on its way') {
    answerAll();
  }
  await first.gateway.stop();
  await before.store.close();
  const after = storeOf(file, 'two');
  await lab.nextGateway({ events: { kind: 'Here', store: after.store } });
  await waitFor(
    'the end of all events',
    () => {
      answerAll();
      return after.store.load().events === 0;
    },
    { everyMs: 10 },
  );
  return { runs, left: after.store.load().events };
}

describe.each(['in order', 'by a kill', 'with an answer on its way'] as const)('a process that ends %s', (end) => {
  it(`has each event that was under way run once, ${ENDS} times`, { timeout: 30_000 + ENDS * 10_000 }, async () => {
    for (let round = 0; round < ENDS; round += 1) {
      const { left, runs } = await ended(end);
      expect(left).toBe(0);
      expect([...runs.values()]).toEqual(Array.from({ length: EVENTS }, () => 1));
    }
  });
});
