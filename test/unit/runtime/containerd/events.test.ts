import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { silentLogger } from '../../../../src/common/logger.ts';
import { TaskGroup } from '../../../../src/common/task-group.ts';
import { containerdEvents } from '../../../../src/runtime/containerd/events.ts';
import type { RuntimeEvent } from '../../../../src/runtime/contract/runtime.ts';
import type { EventSubscription } from '../../../../src/runtime/lifecycle/event-subscription.ts';
import { type FakeContainerd, fakeContainerd } from '../../../support/fake-containerd.ts';
import { type ManualClock, manualClock, settle } from '../../../support/manual-clock.ts';

describe('containerdEvents', () => {
  let fake: FakeContainerd;
  let clock: ManualClock;
  let seen: string[];
  let feed: EventSubscription;

  beforeEach(() => {
    fake = fakeContainerd();
    clock = manualClock();
    seen = [];
    const listener = ({ kind, containerId }: RuntimeEvent): void => void seen.push(`${kind} ${containerId}`);
    feed = containerdEvents({
      events: fake.client.events,
      namespace: 'esb',
      clock,
      logger: silentLogger(),
      listener,
    });
    const tasks = new TaskGroup(() => undefined);
    tasks.run('feed', (signal) => feed.run(signal));
    onTestFinished(() => tasks.stop());
  });
  const emit = (topic: string, containerId = 'w', processId?: string): void => {
    const payload = Buffer.alloc(0);
    fake.emit(processId === undefined ? { topic, containerId, payload } : { topic, containerId, processId, payload });
  };

  it('passes on what happens to tasks', async () => {
    await clock.advance(20);
    await feed.begun;
    emit('/tasks/create');
    emit('/tasks/start');
    emit('/tasks/paused');
    emit('/tasks/resumed');
    emit('/tasks/oom');
    emit('/tasks/exit', 'w', 'w');
    emit('/tasks/exit', 'w', 'an exec');
    emit('/tasks/delete');
    emit('/tasks/checkpointed');
    await settle();
    expect(seen).toEqual(['Created w', 'Created w', 'Paused w', 'Resumed w', 'OutOfMemory w', 'Exited w', 'Deleted w']);
  });

  it('has begun only when an event comes back', async () => {
    fake.echoes = false;
    let begun = false;
    void feed.begun.then(() => {
      begun = true;
    });
    await clock.advance(1000);
    expect(begun).toBe(false);
    fake.echoes = true;
    await clock.advance(100);
    expect(begun).toBe(true);
  });

  it('subscribes anew after a break and says that something may have been missed', async () => {
    await clock.advance(20);
    await feed.begun;
    fake.breakSubscriptions();
    await settle();
    expect(seen).toEqual(['Disconnected ']);
    await clock.advance(200);
    expect(seen).toEqual(['Disconnected ', 'Reconnected ']);
    emit('/tasks/paused');
    await settle();
    expect(seen).toEqual(['Disconnected ', 'Reconnected ', 'Paused w']);
  });

  it('notices a subscription that has gone dead', async () => {
    await clock.advance(20);
    await feed.begun;
    fake.echoes = false;
    await clock.advance(35_000);
    expect(seen).toEqual([]);
    await clock.advance(6000);
    fake.echoes = true;
    await clock.advance(1000);
    expect(seen).toEqual(['Disconnected ', 'Reconnected ']);
  });
});
