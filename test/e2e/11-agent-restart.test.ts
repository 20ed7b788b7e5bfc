import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { patience } from '../support/patience.ts';
import { waitFor } from '../support/wait-for.ts';
import { instance } from './support/instance.ts';
import { footprintAtRest, nodeFootprint } from './support/node-footprint.ts';
import { Parts } from './support/parts.ts';

const onNode = { nodeName: 'node-1' };

/** Five minutes in full (`ESB_OUTAGE_SECONDS=300`). */
const outageSeconds = Number(process.env.ESB_OUTAGE_SECONDS ?? 20);

describe('an agent that is killed and started again', () => {
  const esb = instance();
  const parts = new Parts(esb);

  /** Kills the agent of node-1 and waits for the one that the supervisor starts in its place. */
  async function replaceAgent(): Promise<void> {
    const before = await parts.pidOf('agent-node-1');
    process.kill(before, 'SIGKILL');
    await waitFor('a new agent', async () => (await parts.pidOf('agent-node-1')) !== before);
    if (patience() > 1) {
      // Calls wait 30 s for an agent, which may need longer to start there.
      await parts.untilAgentListens();
    }
  }

  /** One running and one paused worker, each with a call behind it, and what has to be the same afterwards. */
  async function twoWorkers(name: string) {
    const running = `${name}-running`;
    const paused = `${name}-paused`;
    await esb.apply(running, onNode);
    await esb.apply(paused, { ...onNode, desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } });
    const identity = async (worker: string) => {
      const { status } = await esb.worker(worker);
      return { containerID: status?.containerID, address: status?.address };
    };
    await esb.ready(running);
    await esb.ready(paused);
    const counted = {
      running: (await esb.invoke(running)).payload,
      paused: (await esb.invoke(paused)).payload,
    };
    await esb.waitUntilPaused(paused);
    return { running, paused, counted, identity, before: [await identity(running), await identity(paused)] };
  }

  /** Checks that both workers go on undisturbed: same container, same memory, the paused one still frozen. */
  async function expectUntouched(workers: Awaited<ReturnType<typeof twoWorkers>>): Promise<void> {
    const { running, paused, counted, before } = workers;
    expect(await esb.taskState(before[1]?.containerID ?? '')).toBe('PAUSED');
    expect(await esb.taskState(before[0]?.containerID ?? '')).toBe('RUNNING');
    expect((await esb.invoke(running)).payload).toMatchObject({
      counter: counted.running.counter + 1,
      bootId: counted.running.bootId,
    });
    expect((await esb.invoke(paused)).payload).toMatchObject({
      counter: counted.paused.counter + 1,
      bootId: counted.paused.bootId,
    });
  }

  it('finds its idle workers as they were', async () => {
    const workers = await twoWorkers('idle');
    await replaceAgent();
    await expectUntouched(workers);
    expect([await workers.identity(workers.running), await workers.identity(workers.paused)]).toEqual(workers.before);
  });

  it('serves them while there is no API server', async () => {
    const workers = await twoWorkers('noapi');
    await parts.stop('apiserver');
    onTestFinished(() => parts.start('apiserver'), 60_000 * patience());
    await replaceAgent();
    await expectUntouched(workers);
    await parts.start('apiserver');
    await waitFor('the API server', async () => (await workers.identity(workers.running)) !== undefined);
    expect([await workers.identity(workers.running), await workers.identity(workers.paused)]).toEqual(workers.before);
  });

  it(`serves them while the API server is frozen for ${outageSeconds} s`, {
    tags: ['M17'],
    timeout: (outageSeconds + 120) * 1_000 * patience(),
  }, async () => {
    const workers = await twoWorkers('frozenapi');
    await using frozen = await parts.freeze('apiserver');
    const until = performance.now() + outageSeconds * 1_000;
    await replaceAgent();
    await expectUntouched(workers);
    // The length of the outage is what is tested.
    await delay(Math.max(0, until - performance.now()));
    await waitFor(
      'the worker to be frozen again',
      async () => (await esb.taskState(workers.before[1]?.containerID ?? '')) === 'PAUSED',
    );
    await expectUntouched({
      ...workers,
      counted: {
        running: { ...workers.counted.running, counter: workers.counted.running.counter + 1 },
        paused: { ...workers.counted.paused, counter: workers.counted.paused.counter + 1 },
      },
    }).catch(async (error) => {
      await frozen.continue();
      throw error;
    });
    await frozen.continue();
    await waitFor(
      'the same workers in the API',
      async () => (await workers.identity(workers.running)).containerID === workers.before[0]?.containerID,
    );
    expect([await workers.identity(workers.running), await workers.identity(workers.paused)]).toEqual(workers.before);
  });

  it('in the middle of a call of a worker with an emulator reports it as unknown and never runs it again', {
    tags: ['P17', 'G6'],
  }, async () => {
    // Without one the next agent has the answer: see 24-runtime-interface.test.ts.
    const emulated = { image: esb.image('python-emulator'), runtimeInterface: 'Emulator' };
    await esb.apply('midcall', { ...onNode, ...emulated, timeoutSeconds: 60 });
    const { status } = await esb.ready('midcall');
    const first = (await esb.invoke('midcall')).payload;
    // The function may have run: not an error that an SDK would answer with another call.
    const call = esb.invoke('midcall', { print: 'in the middle', sleep: 8 }).then(
      ({ payload }) => payload.errorMessage ?? 'answered',
      (error: Error) => error.message,
    );
    await waitFor('the call to be in the worker', async () =>
      (await esb.workerLog(status?.containerID ?? '')).includes('in the middle'),
    );
    await replaceAgent();
    expect(await call).toMatch(/unknown|may have run/i);
    const next = await esb.invoke('midcall', {}, { client: esb.lambda(undefined, 5) });
    // Another container answers while the call goes on, and after it maybe the same: a call repeated would be counted.
    expect(next.payload.counter).toBe(next.payload.bootId === first.bootId ? first.counter + 2 : 1);
    expect(next.payload.overlaps).toBe(0);
  });

  it.each([0, 20, 60, 120, 250])(
    '%i ms into a creation ends with one worker of everything',
    { tags: ['M6'] },
    async (after) => {
      const before = await footprintAtRest(esb);
      const name = `midcreate-${after}`;
      await esb.apply(name, onNode);
      // Faults and calls come at any moment.
      await delay(after);
      await replaceAgent();
      await esb.ready(name);
      expect((await esb.invoke(name)).payload.counter).toBe(1);
      await esb.delete(name);
      await waitFor('the node to be as it was', async () => {
        expect(await nodeFootprint(esb)).toEqual(before);
        return true;
      });
    },
  );

  it.each([0, 10, 40])('%i ms into a pause ends paused', { tags: ['P8', 'M6'] }, async (after) => {
    const name = `midpause-${after}`;
    await esb.apply(name, onNode);
    const { status } = await esb.ready(name);
    const first = (await esb.invoke(name)).payload;
    await esb.patch(name, { desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } });
    await waitFor(
      'the pause to begin',
      async () => (await esb.taskState(status?.containerID ?? '')) !== 'RUNNING' || after > 0,
      { everyMs: 10 },
    );
    // Faults and calls come at any moment.
    await delay(after);
    await replaceAgent();
    await waitFor('the worker to be frozen', async () => (await esb.taskState(status?.containerID ?? '')) === 'PAUSED');
    expect((await esb.invoke(name)).payload).toMatchObject({ counter: 2, bootId: first.bootId });
  });

  it.each([0, 4, 12, 40])('%i ms into a resume serves the next call', { tags: ['M6'] }, async (after) => {
    const name = `midresume-${after}`;
    await esb.apply(name, { ...onNode, desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } });
    await esb.ready(name);
    await esb.invoke(name);
    const { status } = await esb.waitUntilPaused(name);
    const call = esb.invoke(name).then(
      ({ payload }) => payload.errorMessage ?? `answered ${payload.counter}`,
      (error: Error) => error.message,
    );
    // Faults and calls come at any moment.
    await delay(after);
    await replaceAgent();
    // Answered before the kill, or by the new agent when nothing had been sent; else unknown. Nothing in between.
    expect(await call).toMatch(/^answered 2$|unknown|may have run/i);
    const next = await esb.invoke(name, {}, { client: esb.lambda(undefined, 5) });
    expect([1, 2, 3]).toContain(next.payload.counter);
    expect(next.payload.overlaps).toBe(0);
    const now = await esb.waitUntilPaused(name);
    if (next.payload.counter !== 1) {
      expect(now.status?.containerID).toBe(status?.containerID);
    }
  });
});
