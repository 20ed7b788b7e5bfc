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

describe('fifty callers of one paused worker with sixty-four places', () => {
  const esb = instance();

  it('run in one process of Node.js at once, each with the right answer, and go through the gateway', async () => {
    await esb.apply('wide', {
      image: esb.image('nodejs-counter'),
      nodeName: 'node-1',
      desiredState: 'Paused',
      timeoutSeconds: 30,
      concurrency: { perWorker: 64, queueDepth: 100 },
    });
    await esb.waitUntilPaused('wide');
    const client = esb.lambda();
    const begun = Date.now();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, caller) => esb.invoke('wide', { echo: caller, sleep: 1 }, { client })),
    );
    expect(answers.map((answer) => answer.payload.echo)).toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect(new Set(answers.map((answer) => answer.payload.bootId)).size).toBe(1);
    expect(new Set(answers.map((answer) => answer.payload.counter)).size).toBe(50);
    // All but the first find others in the handler, since they take a minute one after the other.
    expect(Math.max(...answers.map((answer) => answer.payload.overlaps))).toBe(49);
    expect(Date.now() - begun).toBeLessThan(30_000);
  });
});
