import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { runtimeImage } from '../../support/emulator-image.ts';
import { waitFor } from '../../support/wait-for.ts';

interface Part {
  readonly chunk?: Buffer;
  readonly trailer?: { readonly outcome: string; readonly message: string } | null;
}

describe('a worker with several calls at once, by the real agent and a runtime in Go', () => {
  let lab: AgentLab;
  let image: string;

  beforeAll(async () => {
    lab = await startAgentLab();
    image = lab.lab.registry.put('runtime:1', await runtimeImage());
    await lab.startAgent();
    await lab.untilServing();
  });
  afterAll(() => lab?.close());

  async function start(name: string, perWorker: number, spec = {}): Promise<LambdaWorker> {
    const concurrency = { perWorker, queueDepth: 100 };
    await lab.apply(name, { image, runtimeInterface: 'Lambda', concurrency, timeoutSeconds: 20, ...spec });
    const worker = await lab.waitForPhase(name, 'Running');
    await waitFor(`${perWorker} places`, async () => (await placesOf(worker)) === perWorker);
    return worker;
  }

  /** Places as gateways hear of them. */
  async function placesOf({ metadata }: LambdaWorker): Promise<number | undefined> {
    const { workers } = (await lab.unary('list', {})) as {
      readonly workers: readonly { readonly worker: { readonly uid: string }; readonly places: number }[];
    };
    return workers.find(({ worker }) => worker.uid === metadata.uid)?.places;
  }

  const call = (worker: LambdaWorker, payload: object, more = {}) => lab.invoke(worker, { payload, ...more });

  async function recover(worker: LambdaWorker, requestId: string): Promise<string> {
    const { name, namespace, uid } = worker.metadata;
    const chunks: Buffer[] = [];
    for await (const { chunk, trailer } of lab.stream<Part>('recover', {
      worker: { name, namespace, uid },
      requestId,
    })) {
      chunks.push(chunk ?? Buffer.alloc(0));
      if (trailer !== undefined && trailer !== null) {
        return `${trailer.outcome} ${trailer.message}${Buffer.concat(chunks).toString()}`;
      }
    }
    throw new Error('the answer had no trailer');
  }

  it('has 64 of them at once, each answered with its own payload', async () => {
    const worker = await start('many', 64, { resources: { limits: { memory: '256Mi' }, pids: 512 } });
    const begun = Date.now();
    const calls = Array.from({ length: 64 }, (_, n) => ({ n, sleepMs: 1_000 }));
    const answers = await Promise.all(calls.map((payload) => call(worker, payload)));
    expect(answers.map(({ body }) => JSON.parse(body))).toEqual(calls);
    // One after the other they take 64 seconds.
    expect(Date.now() - begun).toBeLessThan(20_000);
    const waves = Array.from({ length: 192 }, (_, n) => ({ n, sleepMs: 50 }));
    const more = await Promise.all(waves.map((payload) => call(worker, payload)));
    expect(more.map(({ body }) => JSON.parse(body))).toEqual(waves);
    await lab.remove('many');
  });

  it('tells one whose time is over, and lets the others and the runtime be', async () => {
    const worker = await start('late', 8, { timeoutSeconds: 2 });
    const late = call(worker, { sleepMs: 6_000 }, { requestId: 'late' });
    const others = Array.from({ length: 6 }, (_, n) => call(worker, { n, sleepMs: 1_500 }));
    expect((await Promise.all(others)).map(({ outcome }) => outcome)).toEqual(Array(6).fill('OUTCOME_ANSWERED'));
    const next = call(worker, { n: 9, sleepMs: 1_500 });
    expect(JSON.parse((await late).body)).toEqual({
      errorType: 'Sandbox.Timedout',
      errorMessage: 'RequestId: late Error: Task timed out after 2.00 seconds',
    });
    expect((await next).body).toBe('{"n":9,"sleepMs":1500}');
    expect(await placesOf(worker)).toBe(7);
    const { status } = await lab.worker('late');
    expect([status?.containerID, status?.restartCount]).toEqual([worker.status?.containerID, 0]);
    // The runtime asks for the next call once it is done with the late one.
    await waitFor('all places', async () => (await placesOf(worker)) === 8);
    await lab.remove('late');
  });

  it('is replaced beside once half of its places are held, and loses no call', async () => {
    const worker = await start('held', 4, { timeoutSeconds: 3 });
    const stuck = [1, 2].map(() => call(worker, { sleepMs: 600_000 }));
    const long = call(worker, { n: 1, sleepMs: 2_000 });
    for (const answer of await Promise.all(stuck)) {
      expect(answer.body).toContain('Task timed out');
    }
    const through = Array.from({ length: 12 }, (_, n) => call(worker, { n, sleepMs: 200 }));
    for (const answer of [await long, ...(await Promise.all(through))]) {
      expect(answer.outcome).toBe('OUTCOME_ANSWERED');
      expect(answer.body).toContain('"n"');
    }
    const next = await lab.waitForWorker(
      'held',
      'to have another container',
      ({ status }) => status?.phase === 'Running' && status.containerID !== worker.status?.containerID,
    );
    expect(next.status?.restartCount).toBe(0);
    const before = worker.status?.containerID ?? '';
    await waitFor('the end of the other', async () => (await lab.taskState(before)) === undefined);
    expect(await placesOf(worker)).toBe(4);
    await lab.remove('held');
  });

  it('is frozen only once no call is in it, and is woken by several', async () => {
    const worker = await start('rests', 8);
    await lab.patch('rests', { spec: { desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } } });
    const containerId = (await lab.waitForPhase('rests', 'Paused')).status?.containerID ?? '';
    const long = call(worker, { n: 0, sleepMs: 5_000 });
    const woken = await Promise.all([1, 2, 3].map((n) => call(worker, { n })));
    expect(woken.map(({ body }) => JSON.parse(body).n)).toEqual([1, 2, 3]);
    let isOver = false;
    void long.finally(() => {
      isOver = true;
    });
    while (!isOver) {
      expect(await lab.taskState(containerId)).toBe('RUNNING');
      // The test looks again and again.
      await delay(100);
    }
    expect((await long).outcome).toBe('OUTCOME_ANSWERED');
    await waitFor('the worker to rest', async () => (await lab.taskState(containerId)) === 'PAUSED');
    await lab.remove('rests');
  });

  it('gives a call the lines that name the call', async () => {
    const worker = await start('told', 4);
    const slow = call(
      worker,
      { print: 'of nobody\n', told: 'slow', sleepMs: 1_500 },
      { requestId: 'slow', tailLog: true },
    );
    const quick = await call(worker, { told: 'quick' }, { requestId: 'quick', tailLog: true });
    const lines = quick.logTail.trim().split('\n');
    expect(lines.map((line) => line.replace(/\t.*/, ''))).toEqual([
      'START RequestId: quick Version: $LATEST',
      '{"message":"quick","requestId":"quick"}',
      'END RequestId: quick',
      'REPORT RequestId: quick',
    ]);
    expect((await slow).logTail).toContain('{"message":"slow","requestId":"slow"}');
    expect((await slow).logTail).not.toMatch(/quick|nobody/);
    await lab.remove('told');
  });

  it('works with a runtime that asks for one call at a time', async () => {
    const concurrency = { perWorker: 8, queueDepth: 100 };
    const env = [{ name: 'POLLERS', value: '1' }];
    await lab.apply('alone', { image, runtimeInterface: 'Lambda', concurrency, env, timeoutSeconds: 2 });
    const worker = await lab.waitForPhase('alone', 'Running');
    await waitFor('one place', async () => (await placesOf(worker)) === 1);
    const calls = Array.from({ length: 8 }, (_, n) => ({ n, sleepMs: 1_000 }));
    const answers = await Promise.all(calls.map((payload) => call(worker, payload)));
    expect(answers.map(({ body }) => JSON.parse(body))).toEqual(calls);
    const late = call(worker, { sleepMs: 600_000 });
    const next = call(worker, { n: 1 });
    expect((await late).body).toContain('Task timed out');
    expect((await next).body).toBe('{"n":1}');
    const { status } = await lab.worker('alone');
    expect([status?.containerID, status?.restartCount]).toEqual([worker.status?.containerID, 0]);
    await lab.remove('alone');
  });

  it('has eight calls answered by an agent that is stopped, and eight by the one after an agent that is killed', async () => {
    const worker = await start('taken', 8);
    const ended = Array.from({ length: 8 }, (_, n) => call(worker, { n, sleepMs: 3_000 }));
    await waitFor('all of them to be there', () => inFlight(worker, 8));
    await lab.stopAgent();
    expect((await Promise.all(ended)).map(({ body }) => JSON.parse(body).n)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    await lab.startAgent();
    await lab.untilServing();
    const ids = Array.from({ length: 8 }, (_, n) => `left-${n}`);
    const lost = ids.map((requestId, n) => call(worker, { n, sleepMs: 6_000 }, { requestId }).catch(() => 'lost'));
    await waitFor('all of them to be there', () => inFlight(worker, 8));
    await lab.killAgent();
    await lab.startAgent();
    await lab.untilServing();
    const answers = await Promise.all(ids.map((requestId) => recover(worker, requestId)));
    expect(answers).toEqual(ids.map((_, n) => `OUTCOME_ANSWERED {"n":${n},"sleepMs":6000}`));
    expect(await Promise.all(lost)).toEqual(Array(8).fill('lost'));
    const { status } = await lab.worker('taken');
    expect([status?.containerID, status?.restartCount]).toEqual([worker.status?.containerID, 0]);
    await lab.remove('taken');
  });

  async function inFlight({ metadata }: LambdaWorker, calls: number): Promise<boolean> {
    const { workers } = (await lab.unary('list', {})) as {
      readonly workers: readonly { readonly worker: { readonly uid: string }; readonly inFlight: number }[];
    };
    return workers.find(({ worker }) => worker.uid === metadata.uid)?.inFlight === calls;
  }
});
