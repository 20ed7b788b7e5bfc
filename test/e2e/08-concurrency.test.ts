import { describe, expect, it } from 'vitest';
import { ContainerdEvents } from './support/containerd-events.ts';
import { instance } from './support/instance.ts';

describe('fifty callers of one paused worker', () => {
  const esb = instance();

  it('cause one resume, get fifty right answers, and never overlap in the handler', async () => {
    await esb.apply('popular', { nodeName: 'node-1', desiredState: 'Paused', timeoutSeconds: 30 });
    const paused = await esb.waitForPhase('popular', 'Paused');
    const containerId = paused.status?.containerID ?? '';
    const events = await ContainerdEvents.of(esb);
    const client = esb.lambda();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, caller) =>
        esb.invoke('popular', { echo: caller, sleep: 0.01 }, { client }),
      ),
    );
    expect(answers.map((answer) => answer.payload.echo)).toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect(answers.map((answer) => answer.payload.counter).toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 50 }, (_, i) => i + 1),
    );
    expect(Math.max(...answers.map((answer) => answer.payload.overlaps))).toBe(0);
    expect(events.count('/tasks/resumed', containerId)).toBe(1);
  });
});
