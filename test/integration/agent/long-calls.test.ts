import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { LambdaWorker, LambdaWorkerSpec } from '../../../src/api/lambda-worker.ts';
import { type AgentLab, type LabAnswer, startAgentLab } from '../../support/agent-lab.ts';
import { emulatorImage } from '../../support/emulator-image.ts';
import { waitFor } from '../../support/wait-for.ts';

/** How long the call takes in whose middle its agent or its node goes. */
const longMs = Number(process.env.ESB_LONG_CALL_SECONDS ?? 20) * 1_000;
/**
 * Milliseconds within which other workers answer. `ESB_PROMPT_MS=1000` on a machine that does nothing else.
 */
const promptMs = Number(process.env.ESB_PROMPT_MS ?? 3_000);
/** The long call takes longer than the drain. */
const flags = ['--drain', '4'];

describe('a long call in a worker', () => {
  let lab: AgentLab;
  let image: string;

  beforeAll(async () => {
    lab = await startAgentLab();
    image = lab.lab.registry.put('emulator:1', await emulatorImage());
    await lab.startAgent(flags);
    await lab.untilServing();
  });
  afterAll(() => lab?.close());

  async function running(name: string, spec?: Partial<LambdaWorkerSpec>): Promise<LambdaWorker> {
    await lab.apply(name, spec === undefined ? {} : { image, timeoutSeconds: longMs / 1_000 + 20, ...spec });
    return await lab.waitForPhase(name, 'Running');
  }

  /** Output of the container of a worker, also once its log is removed. */
  function record(worker: LambdaWorker): () => string {
    const file = openSync(join(lab.stateDir, 'logs', `${worker.status?.containerID}.log`), 'r');
    onTestFinished(() => closeSync(file));
    return () => {
      const text = Buffer.alloc(256 * 1024);
      return text.toString('utf8', 0, readSync(file, text, 0, text.length, 0));
    };
  }

  /** Sends the long call, and waits until it is in the worker. */
  async function begin(worker: LambdaWorker): Promise<{
    readonly written: () => string;
    readonly outcome: Promise<LabAnswer | Error>;
  }> {
    const written = record(worker);
    const outcome = lab
      .invoke(worker, { requestId: 'long', payload: { sleepMs: longMs }, deadlineMs: longMs + 60_000 })
      .catch((error: unknown) => error as Error);
    await waitFor('the long call to be in the worker', () => written().includes(`began ${longMs}`));
    return { written, outcome };
  }

  async function ended(written: () => string): Promise<void> {
    await waitFor('the function to end it', () => written().includes(`ended ${longMs}`), {
      timeoutMs: longMs + 20_000,
    });
  }

  /**
   * Milliseconds until a worker that counts its calls has answered, and how many calls it has had by then.
   */
  async function ask(worker: LambdaWorker): Promise<{ readonly ms: number; readonly counter: number }> {
    const begun = performance.now();
    const answer = await lab.invoke(worker);
    expect(answer).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
    const { counter } = JSON.parse(answer.body) as { readonly counter: number };
    return { ms: performance.now() - begun, counter };
  }

  it('goes on when its agent is killed: others are served, and the worker is called again afterwards', async () => {
    const worker = await running('killed', {});
    const other = await running('other-killed');
    const { written, outcome } = await begin(worker);
    expect((await ask(other)).counter).toBe(1);
    await lab.killAgent();
    expect(await outcome).toBeInstanceOf(Error);
    await lab.startAgent(flags);
    await lab.untilServing();
    for (let each = 2; each < 12; each += 1) {
      const { counter, ms } = await ask(other);
      expect(counter).toBe(each);
      expect(ms).toBeLessThan(promptMs);
    }
    expect(written()).not.toContain('ended');
    await ended(written);
    await waitFor('the agent to see that', async () => {
      const { workers } = (await lab.unary('list', {})) as unknown as {
        readonly workers: readonly {
          readonly worker: { readonly name: string };
          readonly inFlight: number;
        }[];
      };
      return workers.some((each) => each.worker.name === 'killed' && each.inFlight === 0);
    });
    const next = await lab.invoke(worker, { tailLog: true, payload: { print: 'next\n' } });
    expect(next).toMatchObject({ outcome: 'OUTCOME_ANSWERED', start: 'running' });
    expect(next.logTail).toContain('next');
    expect(written(), 'by the same process').toMatch(/ended \d+\n[\s\S]*next\n/);
    const { status } = await lab.worker('killed');
    expect(status).toMatchObject({ containerID: worker.status?.containerID, restartCount: 0 });
    await Promise.all([lab.remove('killed'), lab.remove('other-killed')]);
  });

  it('goes on when its agent stops: others are served in the drain, and those of its emulator beside it', async () => {
    const worker = await running('stopped', { runtimeInterface: 'Emulator' });
    const other = await running('other-stopped');
    const { written, outcome } = await begin(worker);
    const answered: { readonly counter: number; readonly ms: number; readonly at: number }[] = [];
    const done = new AbortController();
    const asking = (async () => {
      while (!done.signal.aborted) {
        // A gateway sends again what was refused, or never came to an agent.
        const answer = await ask(other).catch(() => undefined);
        if (answer !== undefined) {
          answered.push({ ...answer, at: performance.now() });
        }
        // The pace of the calls.
        await delay(50);
      }
    })();
    await waitFor('others to be asked', () => answered.length > 2);
    const stopAt = performance.now();
    await lab.stopAgent();
    const stoppedAt = performance.now();
    expect(await outcome).toMatchObject({ outcome: 'OUTCOME_UNKNOWN', reason: 'AgentStopped' });
    expect(stoppedAt - stopAt).toBeLessThan(longMs);
    const inDrain = answered.filter(({ at }) => at > stopAt + 500);
    expect(inDrain.length, 'served while the long call had its time').toBeGreaterThan(10);
    await lab.startAgent(flags);
    await lab.untilServing();
    const servingAt = performance.now();
    const beside = await lab.invoke(worker, { payload: { print: 'beside\n' } });
    expect(beside.outcome).toBe('OUTCOME_ANSWERED');
    expect(written(), 'not by the process that the long call is in').not.toMatch(/beside|ended/);
    await waitFor('others to be asked again', () => answered.some(({ at }) => at > servingAt + 1_000));
    done.abort();
    await asking;
    expect(answered.find(({ at }) => at > servingAt)?.at).toBeLessThan(servingAt + promptMs);
    for (const [index, { counter, ms }] of answered.entries()) {
      expect(counter, 'each call was executed once, and answered').toBe(index + 1);
      expect(ms).toBeLessThan(promptMs);
    }
    await ended(written);
    await waitFor(
      'the container of the long call to go',
      async () => (await lab.taskState(worker.status?.containerID ?? '')) === undefined,
    );
    expect((await lab.worker('stopped')).status?.phase).toBe('Running');
    await Promise.all([lab.remove('stopped'), lab.remove('other-stopped')]);
  });

  it('goes on when its worker is moved to another node, and is answered', async () => {
    const worker = await running('moved', {});
    const { written, outcome } = await begin(worker);
    await lab.patch('moved', { status: { assignment: { nodeName: 'node-2', epoch: 2 } } }, 'status');
    const node = await lab.waitForNode('to tell of the call', ({ status }) =>
      (status?.conditions ?? []).some(({ type }) => type === 'MovesDone'),
    );
    expect(node.status?.conditions?.find(({ type }) => type === 'MovesDone')).toMatchObject({
      status: 'False',
      reason: 'CallsRunning',
      message: expect.stringContaining('default/moved'),
    });
    expect(await lab.invoke(worker)).toMatchObject({ outcome: 'OUTCOME_REFUSED', reason: 'NotFound' });
    expect(await outcome).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
    expect(written()).toContain(`ended ${longMs}`);
    await waitFor(
      'its container to go',
      async () => (await lab.taskState(worker.status?.containerID ?? '')) === undefined,
    );
    await lab.waitForNode('to have no such call', ({ status }) =>
      (status?.conditions ?? []).every(({ type }) => type !== 'MovesDone'),
    );
  });
});
