import { describe, expect, it, onTestFinished } from 'vitest';
import { patience } from '../support/patience.ts';
import { type CounterAnswer, instance } from './support/instance.ts';
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

describe('two reserved calls', () => {
  /** In full 20,000 (`ESB_RESERVED_CALLS`), about three minutes. */
  const count = Number(process.env.ESB_RESERVED_CALLS ?? 200);
  const esb = instance();
  const parts = new Parts(esb);

  it(`are never three at once, by ${count} calls of three gateways, while a worker moves to and fro`, {
    timeout: (120_000 + count * 30) * patience(),
  }, async () => {
    const names = ['reserved-1', 'reserved-2', 'reserved-3', 'reserved-4'];
    for (const name of names) {
      await esb.apply(name, { functionName: 'reserved', timeoutSeconds: 30, concurrency: { reserved: 2 } });
    }
    const gateway = await parts.furtherGateway();
    onTestFinished(() => gateway.stop());
    for (const name of names) {
      await esb.ready(name);
    }
    const shares = await Promise.all(names.map(async (name) => (await esb.worker(name)).status?.assignment?.share));
    expect(shares.toSorted((one = 0, other = 0) => one - other)).toEqual([0, 0, 1, 1]);
    const clients = [...(await parts.gateways()), gateway.url].map((url) => esb.lambda(url));
    expect(clients).toHaveLength(3);
    const answers: CounterAnswer[] = [];
    let begun = 0;
    const caller = async (index: number): Promise<void> => {
      const client = clients[index % clients.length];
      while (begun < count && client !== undefined) {
        begun += 1;
        const { payload } = await esb.invoke('reserved', { sleep: 0.005, times: true }, { client });
        answers.push(payload);
      }
    };
    const callers = Promise.all(Array.from({ length: 18 }, (_, index) => caller(index)));
    const over = callers.then(() => true);
    // One with a share leaves its node, and what is reserved goes to another.
    while (begun < count) {
      const nodeName = (await esb.worker('reserved-1')).status?.assignment?.nodeName === 'node-1' ? 'node-2' : 'node-1';
      await esb.patch('reserved-1', { nodeName });
      await Promise.race([
        over,
        esb.waitForWorker('reserved-1', `on ${nodeName}`, ({ status }) => status?.assignment?.nodeName === nodeName),
      ]);
    }
    await callers;
    expect(answers).toHaveLength(count);
    expect(mostAtOnce(answers.map(({ times }) => times ?? [0, Number.POSITIVE_INFINITY]))).toBe(2);
    // More workers than one of each share have had calls, or none has moved.
    expect(new Set(answers.map(({ bootId }) => bootId)).size).toBeGreaterThan(1);
  });
});

/** The most intervals that have a moment in common. */
function mostAtOnce(intervals: readonly (readonly [number, number])[]): number {
  const changes = intervals.flatMap(([began, ended]) => [[began, 1] as const, [ended, -1] as const]);
  let running = 0;
  let most = 0;
  for (const [, change] of changes.toSorted(
    ([one, begins], [other, otherBegins]) => one - other || begins - otherBegins,
  )) {
    running += change;
    most = Math.max(most, running);
  }
  return most;
}
