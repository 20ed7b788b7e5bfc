import { describe, expect, it, onTestFinished } from 'vitest';
import { isTrue, workerConditions } from '../../src/api/condition.ts';
import { functionManifest } from '../support/function-manifest.ts';
import { patience } from '../support/patience.ts';
import { waitFor } from '../support/wait-for.ts';
import { type CounterAnswer, functionTimeout, instance } from './support/instance.ts';
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
  /** In full 100,000 (`ESB_RESERVED_CALLS`). */
  const count = Number(process.env.ESB_RESERVED_CALLS ?? 200);
  const esb = instance();
  const parts = new Parts(esb);
  const names = [0, 1, 2, 3].map((ordinal) => `reserved-latest-${ordinal}`);

  const apply = async (change: number): Promise<void> => {
    const owner = functionManifest('reserved', {
      scaling: { mode: 'Fixed', minWorkers: 4 },
      reservedConcurrency: 2,
      rollout: { maxSurge: 2, maxUnavailable: 0 },
      template: {
        spec: {
          image: esb.image('python-counter'),
          env: [{ name: 'CHANGE', value: String(change) }],
          timeoutSeconds: functionTimeout(30),
        },
      },
    });
    await esb.kubectl(['apply', '-f', '-'], { input: owner });
  };
  /** One call without a client of AWS, which would make a hundred thousand of them slow. */
  const call = async (url: string): Promise<Pick<CounterAnswer, 'bootId' | 'times'>> => {
    const body = JSON.stringify({ sleep: 0.003, times: true });
    const response = await fetch(url, { method: 'POST', body, signal: AbortSignal.timeout(60_000 * patience()) });
    const text = await response.text();
    if (response.status !== 200 || response.headers.has('x-amz-function-error')) {
      throw new Error(`${response.status}: ${text}`);
    }
    const { bootId, times = [0, Number.POSITIVE_INFINITY] } = JSON.parse(text) as CounterAnswer;
    return { bootId, times };
  };
  const isChanged = async (change: number): Promise<boolean> => {
    const workers = await Promise.all(names.map((name) => esb.worker(name)));
    return workers.every(
      ({ metadata, spec, status }) =>
        spec.env?.[0]?.value === String(change) &&
        status?.observedGeneration === metadata.generation &&
        isTrue(status?.conditions, workerConditions.ready),
    );
  };

  it(`are never three at once, by ${count} calls of three gateways, while workers change and move`, {
    timeout: (180_000 + count * 30) * patience(),
  }, async () => {
    onTestFinished(async () => {
      await esb.kubectl(['delete', 'lf', 'reserved', '--ignore-not-found', `--timeout=${90 * patience()}s`]);
      for (const name of names) {
        await esb.kubectl(['wait', `lw/${name}`, '--for=delete', `--timeout=${90 * patience()}s`]);
      }
    }, 180_000 * patience());
    await apply(0);
    await waitFor('the first workers', () => isChanged(0), { timeoutMs: 90_000 });
    const gateway = await parts.furtherGateway();
    onTestFinished(() => gateway.stop());
    await esb.ready('reserved-latest-0');
    const shares = await Promise.all(names.map(async (name) => (await esb.worker(name)).status?.assignment?.share));
    expect(shares.toSorted((one = 0, other = 0) => one - other)).toEqual([0, 0, 1, 1]);
    const gateways = [...(await parts.gateways()), gateway.url];
    expect(gateways).toHaveLength(3);
    const answers: Pick<CounterAnswer, 'bootId' | 'times'>[] = [];
    let begun = 0;
    let changes = 0;
    let moves = 0;
    const isEnough = (): boolean => begun >= count && moves >= 2;
    const caller = async (url: string | undefined): Promise<void> => {
      while (!isEnough()) {
        begun += 1;
        answers.push(await call(`${url}/2015-03-31/functions/reserved/invocations`));
      }
    };
    const callers = Promise.all(Array.from({ length: 18 }, (_, index) => caller(gateways[index % gateways.length])));
    const over = callers.then(() => true);
    const until = (what: string, probe: () => Promise<boolean>): Promise<boolean> =>
      Promise.race([over, waitFor(what, probe, { timeoutMs: 90_000 })]);
    while (!isEnough()) {
      // Two workers at a time have two containers, and one of them leaves its node meanwhile.
      changes += 1;
      await apply(changes);
      const mover = names[changes % names.length] ?? '';
      const nodeName = (await esb.worker(mover)).status?.assignment?.nodeName === 'node-1' ? 'node-2' : 'node-1';
      await esb.patch(mover, { nodeName });
      // The change may come after, and take the wish for that node away.
      await until(`change ${changes}`, () => isChanged(changes));
      await esb.patch(mover, { nodeName });
      const isMoved = async (): Promise<boolean> => (await esb.worker(mover)).status?.assignment?.nodeName === nodeName;
      await until(`${mover} on ${nodeName}`, isMoved);
      moves += 1;
    }
    await callers;
    console.log(`${begun} calls, ${changes} changes of four workers, ${moves} moves`);
    expect(answers).toHaveLength(begun);
    expect(mostAtOnce(answers.map(({ times = [0, 0] }) => times))).toBe(2);
    // More workers than one of each share have had calls, or none has moved.
    expect(new Set(answers.map(({ bootId }) => bootId)).size).toBeGreaterThan(2);
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
