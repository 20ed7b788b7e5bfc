import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { waitFor } from '../support/wait-for.ts';
import { instance } from './support/instance.ts';
import { Parts } from './support/parts.ts';

/** One minute in full (`ESB_CONTAINERD_SECONDS=60`). */
const awaySeconds = Number(process.env.ESB_CONTAINERD_SECONDS ?? 10);
const onNode = { nodeName: 'node-1' };

describe('containerd', () => {
  const esb = instance();
  const parts = new Parts(esb);

  /** Calls `name` again and again until stopped; gives the answers' counters and every failure. */
  function callAllTheTime(name: string) {
    const counters: number[] = [];
    const failures: string[] = [];
    let going = true;
    const client = esb.lambda();
    const loop = (async () => {
      while (going) {
        try {
          counters.push((await esb.invoke(name, {}, { client })).payload.counter);
        } catch (error) {
          failures.push(String(error));
        }
        // The pace of the calls.
        await delay(100);
      }
    })();
    return {
      async stop() {
        going = false;
        await loop;
        return { counters, failures };
      },
    };
  }

  async function prepared(name: string) {
    const running = `${name}-running`;
    const paused = `${name}-paused`;
    await esb.apply(running, onNode);
    await esb.apply(paused, { ...onNode, desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } });
    await esb.ready(running);
    await esb.ready(paused);
    await esb.invoke(running);
    const { payload } = await esb.invoke(paused);
    await esb.waitUntilPaused(paused);
    const ids = async () => [
      (await esb.worker(running)).status?.containerID,
      (await esb.worker(paused)).status?.containerID,
    ];
    return { running, paused, bootId: payload.bootId, ids, before: await ids() };
  }

  const increasing = (numbers: readonly number[]): boolean =>
    numbers.every((value, index) => index === 0 || value === (numbers[index - 1] ?? 0) + 1);

  it('killed and started again loses no worker, and calls to running ones are served throughout', async () => {
    const workers = await prepared('killed');
    const calls = callAllTheTime(workers.running);
    const before = await parts.pidOf('containerd-node-1');
    process.kill(before, 'SIGKILL');
    await waitFor('a new containerd', async () => (await parts.pidOf('containerd-node-1')) !== before);
    await waitFor('its socket', async () => (await esb.ctr(['version'])).code === 0);
    const { payload } = await esb.invoke(workers.paused);
    expect(payload).toMatchObject({ counter: 2, bootId: workers.bootId });
    const { counters, failures } = await calls.stop();
    expect(failures).toEqual([]);
    expect(increasing(counters)).toBe(true);
    expect(await workers.ids()).toEqual(workers.before);
  });

  it(`away for ${awaySeconds} s: running workers are called, the others recover within 2 s of its return`, {
    tags: ['M8'],
    timeout: (awaySeconds + 120) * 1_000,
  }, async () => {
    const workers = await prepared('away');
    const calls = callAllTheTime(workers.running);
    await parts.stop('containerd-node-1');
    onTestFinished(() => parts.start('containerd-node-1'), 60_000);
    await waitFor('the node to say so', async () => {
      const { stdout } = await esb.kubectl([
        'get',
        'lambdanode',
        'node-1',
        '-o',
        'jsonpath={.status.conditions[?(@.type=="ContainerdReady")].status}',
      ]);
      return stdout === 'False';
    });
    // The length of the outage is what is tested.
    await delay(awaySeconds * 1_000);
    await parts.start('containerd-node-1');
    await waitFor('its socket', async () => (await esb.ctr(['version'])).code === 0, { everyMs: 50 });
    const back = performance.now();
    const { payload } = await esb.invoke(workers.paused);
    expect(performance.now() - back).toBeLessThan(2_000);
    expect(payload).toMatchObject({ counter: 2, bootId: workers.bootId });
    const { counters, failures } = await calls.stop();
    expect(failures).toEqual([]);
    expect(increasing(counters)).toBe(true);
    expect(await workers.ids()).toEqual(workers.before);
    await esb.apply('after-away', onNode);
    await esb.ready('after-away');
  });
});
