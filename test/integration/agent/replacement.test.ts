import { readdirSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { findCondition } from '../../../src/api/condition.ts';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { compareHostInventory, takeHostInventory } from '../../support/host-audit.ts';
import { readySlots } from '../../support/network-footprint.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Milliseconds that a new container takes until its port is open: far longer than a call. */
const startMs = 1_500;
/** Length of a call where times are compared: a busy machine holds up no call for half of it. */
const slowStartMs = 6_000;
/**
 * Workers that rest and have two containers at once: four turns, and as many again of one namespace whose new process
 * takes more than two seconds to listen, as on a busy machine. No turn is given while either four are taken.
 */
const MOST_REPLACED = 7;

interface Answer {
  readonly counter: number;
  readonly boot: string;
  readonly env: { readonly GREETING?: string };
}

interface Sample {
  readonly outcome: string;
  readonly greeting: string | undefined;
  readonly boot: string;
  /** Milliseconds from the call before it, or the begin, to its answer. */
  readonly gapMs: number;
}

describe('a worker whose shape changes', () => {
  let lab: AgentLab;

  const idOf = (worker: LambdaWorker): string => worker.status?.containerID ?? '';
  const readyOf = (worker: LambdaWorker) => findCondition(worker.status?.conditions, 'Ready');
  const greet = (text: string, more: readonly { name: string; value: string }[] = [], listenAfterMs = startMs) => [
    { name: 'GREETING', value: text },
    { name: 'LISTEN_AFTER_MS', value: String(listenAfterMs) },
    ...more,
  ];
  const parse = (body: string): Answer => JSON.parse(body) as Answer;
  const containersOf = async (name: string): Promise<string[]> =>
    (await lab.lab.ctr('containers', 'list', '-q')).split('\n').filter((id) => id.startsWith(`${name}-`));
  const call = async (worker: LambdaWorker, payload: object = {}): Promise<Answer> => {
    const answer = await lab.invoke(worker, { payload });
    expect(answer).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
    return parse(answer.body);
  };
  const untilReplaced = async (name: string, before: LambdaWorker, phase: string): Promise<LambdaWorker> => {
    const after = await lab.waitForWorker(
      name,
      'to be replaced',
      (worker) => idOf(worker) !== idOf(before) && worker.status?.phase === phase && readyOf(worker)?.reason === phase,
    );
    await waitFor('the earlier container to go', async () => (await containersOf(name)).length === 1);
    return after;
  };

  beforeAll(async () => {
    lab = await startAgentLab();
    await lab.startAgent();
    await lab.untilServing();
  });
  afterAll(() => lab?.close());

  it('answers a steady stream of calls, each within the time of a call, from the one and then from the other', async () => {
    await lab.apply('stream', { env: greet('old'), timeoutSeconds: 20 });
    const before = await lab.waitForPhase('stream', 'Running');
    const samples: Sample[] = [];
    let last = performance.now();
    const ended = { yet: false };
    const stream = (async () => {
      while (!ended.yet) {
        const { outcome, body } = await lab.invoke(before, { payload: { sleepMs: 20 } });
        const now = performance.now();
        const { boot, env } = outcome === 'OUTCOME_ANSWERED' ? parse(body) : { boot: '', env: {} as Answer['env'] };
        samples.push({ outcome, greeting: env.GREETING, boot, gapMs: now - last });
        last = now;
      }
    })();
    const moreCalls = async (): Promise<void> => {
      const sofar = samples.length;
      await waitFor('calls', () => samples.length >= sofar + 20);
    };
    await moreCalls();
    await lab.patch('stream', { spec: { env: greet('new', [], slowStartMs) } });
    const after = await untilReplaced('stream', before, 'Running');
    await moreCalls();
    ended.yet = true;
    await stream;
    expect(samples.filter(({ outcome }) => outcome !== 'OUTCOME_ANSWERED')).toEqual([]);
    const changes = samples.filter(({ greeting }, index) => greeting !== samples[index - 1]?.greeting);
    expect(changes.map(({ greeting }) => greeting)).toEqual(['old', 'new']);
    expect(new Set(samples.map(({ boot }) => boot)).size).toBe(2);
    const longest = Math.max(...samples.map(({ gapMs }) => gapMs));
    expect(longest, `of ${samples.length} calls`).toBeLessThan(slowStartMs / 2);
    expect(after.status).toMatchObject({ restartCount: 0, phase: 'Running' });
    expect(after.status?.image).toBe(before.status?.image);
    expect(after.status?.address?.ip).not.toBe(before.status?.address?.ip);
    expect(await lab.taskState(idOf(before))).toBeUndefined();
    expect(await lab.taskState(idOf(after))).toBe('RUNNING');
  });

  it('lets the call in the earlier container finish there, and the next go to the new one', async () => {
    const before = await lab.waitForPhase('stream', 'Running');
    // Longer than the new one takes on a busy machine until it can be called.
    const inside = call(before, { sleepMs: 5 * startMs });
    // No word tells when the other side has come so far.
    await delay(200);
    await lab.patch('stream', { spec: { env: greet('newer') } });
    // No word tells when the other side has come so far.
    await delay(startMs + 200);
    const next = call(before);
    expect((await inside).env.GREETING).toBe('new');
    expect((await next).env.GREETING).toBe('newer');
    await untilReplaced('stream', before, 'Running');
  });

  it('serves on with what it had when the new image cannot be had, and says so', async () => {
    const before = await lab.waitForPhase('stream', 'Running');
    const { boot, counter } = await call(before);
    await lab.patch('stream', { spec: { image: lab.lab.image.replace(/:1$/, ':none') } });
    const failing = await lab.waitForWorker(
      'stream',
      'to tell of the failure',
      (worker) => readyOf(worker)?.reason === 'ReplacementFailed',
    );
    expect(readyOf(failing)).toMatchObject({
      status: 'False',
      message: expect.stringContaining('tried again in'),
    });
    expect(findCondition(failing.status?.conditions, 'ImageReady')).toMatchObject({ status: 'False' });
    expect(failing.status).toMatchObject({ phase: 'Running', containerID: idOf(before), restartCount: 0 });
    expect(await call(before)).toMatchObject({ boot, counter: counter + 1 });
  });

  it('serves on with what it had when the new process ends at once, and is mended by the way back', async () => {
    const before = await lab.worker('stream');
    const { boot } = await call(before);
    await lab.patch('stream', {
      spec: { image: lab.lab.image, env: greet('broken', [{ name: 'EXIT', value: '3' }]) },
    });
    const failing = await lab.waitForWorker('stream', 'to tell of the exit', (worker) =>
      (readyOf(worker)?.message ?? '').includes('exit status 3'),
    );
    expect(readyOf(failing)).toMatchObject({ status: 'False', reason: 'ReplacementFailed' });
    expect(await call(before)).toMatchObject({ boot });
    await lab.patch('stream', { spec: { env: greet('newer') } });
    const mended = await lab.waitForWorker('stream', 'to be mended', (worker) => readyOf(worker)?.reason === 'Running');
    expect(idOf(mended)).toBe(idOf(before));
    expect(await call(before)).toMatchObject({ boot });
    await waitFor('what failed to go', async () => (await containersOf('stream')).length === 1);
  });

  it('stays paused when it rests so, its successor ready and warmed up before that', async () => {
    await lab.apply('sleeper', { desiredState: 'Paused', env: greet('old'), warmUp: { payload: {} } });
    const before = await lab.waitForPhase('sleeper', 'Paused');
    expect(await lab.taskState(idOf(before))).toBe('PAUSED');
    await lab.patch('sleeper', { spec: { env: greet('new') } });
    const after = await untilReplaced('sleeper', before, 'Paused');
    expect(await lab.taskState(idOf(after))).toBe('PAUSED');
    expect(await lab.taskState(idOf(before))).toBeUndefined();
    expect(after.status?.pausedAt).toBeDefined();
    const answer = await lab.invoke(after);
    expect(answer).toMatchObject({ outcome: 'OUTCOME_ANSWERED', start: 'paused' });
    expect(parse(answer.body)).toMatchObject({ counter: 2, env: { GREETING: 'new' } });
  });

  it('is replaced a few at a time where many rest', async () => {
    const names = Array.from({ length: MOST_REPLACED + 2 }, (_, index) => `rest-${index}`);
    onTestFinished(async () => {
      await Promise.all(names.map((name) => lab.remove(name)));
    });
    const before = await Promise.all(
      names.map(async (name) => {
        await lab.apply(name, { desiredState: 'Paused', env: greet('old') });
        return await lab.waitForPhase(name, 'Paused');
      }),
    );
    const most = { containers: 0 };
    const done = { yet: false };
    const watching = (async () => {
      while (!done.yet) {
        const there = (await lab.lab.ctr('containers', 'list', '-q')).split('\n');
        most.containers = Math.max(most.containers, there.filter((id) => id.startsWith('rest-')).length);
      }
    })();
    await Promise.all(names.map((name) => lab.patch(name, { spec: { env: greet('new') } })));
    const after = await Promise.all(before.map((worker) => untilReplaced(worker.metadata.name, worker, 'Paused')));
    done.yet = true;
    await watching;
    expect(most.containers).toBeGreaterThan(names.length);
    expect(most.containers).toBeLessThanOrEqual(names.length + MOST_REPLACED);
    expect(await Promise.all(after.map((worker) => lab.taskState(idOf(worker))))).toEqual(names.map(() => 'PAUSED'));
  });

  it('needs nothing to be replaced when it is absent, and starts with the new shape', async () => {
    await lab.apply('away', { desiredState: 'Absent', env: greet('old') });
    await lab.waitForPhase('away', 'Absent');
    await lab.patch('away', { spec: { env: greet('new') } });
    // Nothing may happen meanwhile.
    await delay(500);
    expect(await containersOf('away')).toEqual([]);
    expect((await call(await lab.worker('away'))).env.GREETING).toBe('new');
    await lab.remove('away');
  });

  it('is removed before the new one is made where there is no room for both', async () => {
    await lab.apply('large', { env: greet('old'), resources: { limits: { memory: '2500Mi' }, pids: 64 } });
    const before = await lab.waitForPhase('large', 'Running');
    await lab.patch('large', { spec: { env: greet('new') } });
    let most = 0;
    const after = await waitFor('it to be replaced', async () => {
      most = Math.max(most, (await containersOf('large')).length);
      const worker = await lab.worker('large');
      return idOf(worker) !== idOf(before) && worker.status?.phase === 'Running' ? worker : undefined;
    });
    expect(most).toBeLessThanOrEqual(1);
    expect((await call(after)).env.GREETING).toBe('new');
    await lab.remove('large');
  });

  it.each([0, 200, 500, 1_000, 1_800, 2_400])(
    'is replaced all the same by an agent that was killed %i ms after the change',
    async (ms) => {
      const before = await lab.waitForWorker('stream', 'to rest', (worker) => readyOf(worker)?.reason === 'Running');
      const sleeper = await lab.waitForPhase('sleeper', 'Paused');
      const earlier = (await call(before)).env.GREETING;
      const text = `killed after ${ms}`;
      await Promise.all([
        lab.patch('stream', { spec: { env: greet(text) } }),
        lab.patch('sleeper', { spec: { env: greet(text) } }),
      ]);
      // Faults and calls come at any moment.
      await delay(ms);
      await lab.killAgent();
      await lab.startAgent();
      await lab.untilServing();
      // One of the two answers at any time.
      expect([earlier, text]).toContain((await call(before)).env.GREETING);
      await untilReplaced('stream', before, 'Running');
      const asleep = await untilReplaced('sleeper', sleeper, 'Paused');
      expect((await call(before)).env.GREETING).toBe(text);
      expect(await lab.taskState(idOf(asleep))).toBe('PAUSED');
      expect((await lab.worker('stream')).status?.restartCount).toBe(0);
    },
  );

  it('costs nothing when the records are lost in the middle of it', async () => {
    const before = await lab.waitForPhase('stream', 'Running');
    await lab.patch('stream', { spec: { env: greet('without a record') } });
    await waitFor('the new one to be begun', async () => (await containersOf('stream')).length === 2);
    await lab.killAgent();
    const folder = `${lab.stateDir}/workers`;
    await Promise.all(readdirSync(folder).map((file) => lab.onNode('rm', `${folder}/${file}`)));
    await lab.startAgent();
    await lab.untilServing();
    await lab.waitForWorker('stream', 'to be known', (worker) => worker.status?.phase === 'Running');
    await call(before);
    await untilReplaced('stream', before, 'Running');
    expect((await call(before)).env.GREETING).toBe('without a record');
    expect((await lab.worker('stream')).status?.restartCount).toBe(0);
  });

  it('is removed with everything when it is deleted in the middle of it', async () => {
    await lab.patch('stream', { spec: { env: greet('last') } });
    await waitFor('the new one to be begun', async () => (await containersOf('stream')).length === 2);
    await lab.remove('stream');
    await lab.remove('sleeper');
    await waitFor('everything to be gone', async () => (await lab.lab.ctr('containers', 'list', '-q')) === '');
    expect(readdirSync(`${lab.stateDir}/workers`)).toEqual([]);
    expect(readdirSync(lab.runDir).filter((file) => file.endsWith('.mark'))).toEqual([]);
    await lab.waitForNode('to count nothing', ({ status }) => status?.allocated?.workers === 0);
    // Prepared slots alone are left.
    await waitFor('the attachments to go', async () => {
      const links = (await lab.onNode('ip', '-o', 'link', 'show', 'type', 'veth')).trim().split('\n');
      return links.filter((link) => link.includes('esb0')).length === (await readySlots(lab.stateDir)).length;
    });
    await waitFor('the logs to go', () => readdirSync(`${lab.stateDir}/logs`).every((file) => !file.endsWith('.log')));
  });
});

describe('replacements on a node', () => {
  it('leave nothing behind on the machine', async () => {
    const before = await takeHostInventory();
    const lab = await startAgentLab();
    // Other runs on this machine come and go meanwhile: what bears these names is of this one.
    const own = new Set([lab.lab.folder, lab.lab.cgroupParent.slice(1)]);
    try {
      await lab.startAgent();
      await lab.untilServing();
      await lab.apply('brief', { env: [{ name: 'GREETING', value: '0' }] });
      let last: string | undefined;
      for (let round = 1; round <= 5; round += 1) {
        const worker = await lab.waitForWorker(
          'brief',
          'to be shown as it is',
          ({ status }) => status?.phase === 'Running' && status.containerID !== last,
        );
        last = worker.status?.containerID;
        own.add(await netnsOf(lab, last ?? ''));
        await lab.patch('brief', { spec: { env: [{ name: 'GREETING', value: String(round) }] } });
        await waitFor('the new one to answer', async () => {
          const answer = await lab.invoke(worker);
          return parseGreeting(answer.body) === String(round);
        });
      }
      expect(own.size, 'each had a network of its own').toBeGreaterThanOrEqual(2 + 5);
      await lab.remove('brief');
      await lab.stopAgent();
      expect(await lab.lab.leftovers()).toEqual([]);
      const there = compareHostInventory(before, await takeHostInventory());
      const networks = [...own].slice(2);
      expect(there.filter((line) => networks.some((name) => line.includes(name)))).toEqual([]);
    } finally {
      await lab.close();
    }
    const left = compareHostInventory(before, await takeHostInventory());
    expect(left.filter((line) => [...own].some((name) => line.includes(name)))).toEqual([]);
  });
});

/** Name of the network namespace of a container. */
async function netnsOf(lab: AgentLab, containerId: string): Promise<string> {
  const info = JSON.parse(await lab.lab.ctr('containers', 'info', containerId)) as {
    readonly Spec: {
      readonly linux: { readonly namespaces: readonly { readonly type: string; readonly path?: string }[] };
    };
  };
  const path = info.Spec.linux.namespaces.find(({ type }) => type === 'network')?.path;
  if (path === undefined) {
    throw new Error(`${containerId} has no network namespace of its own`);
  }
  return basename(path);
}

function parseGreeting(body: string): string | undefined {
  return (JSON.parse(body) as Answer).env.GREETING;
}
