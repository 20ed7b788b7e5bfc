import { describe, expect, it } from 'vitest';
import { instance } from './support/instance.ts';
import { Parts } from './support/parts.ts';

describe('fifty callers of one paused worker', () => {
  const esb = instance();
  const parts = new Parts(esb);

  it('cause one resume, get fifty right answers, and never overlap in the handler', async () => {
    await esb.apply('popular', { nodeName: 'node-1', desiredState: 'Paused', timeoutSeconds: 30 });
    await esb.waitUntilPaused('popular');
    const before = await parts.resumes();
    const client = esb.lambda();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, caller) => esb.invoke('popular', { echo: caller, sleep: 0.01 }, { client })),
    );
    expect(answers.map((answer) => answer.payload.echo)).toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect(answers.map((answer) => answer.payload.counter).toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 50 }, (_, i) => i + 1),
    );
    expect(Math.max(...answers.map((answer) => answer.payload.overlaps))).toBe(0);
    expect(await parts.resumes()).toBe(before + 1);
  });
});
