import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/common/clock.ts';
import { sleep } from '../../../src/common/deadline.ts';
import { TaskGroup } from '../../../src/common/task-group.ts';

function group(): { tasks: TaskGroup; faults: string[] } {
  const faults: string[] = [];
  return { tasks: new TaskGroup((name, error) => faults.push(`${name}: ${String(error)}`)), faults };
}

describe('TaskGroup', () => {
  it('ends its tasks and waits for them', async () => {
    const { tasks, faults } = group();
    const ended: string[] = [];
    tasks.run('slow', async (signal) => {
      await sleep(systemClock, 60_000, signal).catch(() => undefined);
      await Promise.resolve();
      ended.push('slow');
    });
    await tasks.stop();
    expect(ended).toEqual(['slow']);
    expect(faults).toEqual([]);
  });

  it('tells of a task that fails, and goes on with the others', async () => {
    const { tasks, faults } = group();
    tasks.run('broken', () => Promise.reject(new Error('no room')));
    tasks.run('thrower', () => {
      throw new Error('at once');
    });
    await Promise.resolve();
    await tasks.stop();
    expect(faults.toSorted()).toEqual(['broken: Error: no room', 'thrower: Error: at once']);
  });

  it('says nothing of a task that ends because it was told to', async () => {
    const { tasks, faults } = group();
    tasks.run('obedient', (signal) => sleep(systemClock, 60_000, signal));
    await tasks.stop();
    expect(faults).toEqual([]);
  });

  it('starts nothing after it was stopped', async () => {
    const { tasks } = group();
    await tasks.stop();
    let started = false;
    tasks.run('late', async () => {
      started = true;
    });
    expect(started).toBe(false);
  });
});
