import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { ContainerRuntime, RuntimeEvent, WorkerAddress } from '../../../src/runtime/contract/runtime.ts';
import { freeze } from '../../support/freezer.ts';
import { destroyAll, ensureRequest, type Lab, shimsOf, startLab } from '../../support/lab.ts';
import { useLab } from '../../support/use-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const nowhere: WorkerAddress = { ip: '', port: 0 };

describe('a worker thawed below containerd', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;
  useLab((started, itsRuntime) => {
    [lab, runtime] = [started, itsRuntime];
  });

  const told = async (containerId: string): Promise<string | undefined> =>
    (await lab.ctr('tasks', 'list'))
      .split('\n')
      .find((line) => line.startsWith(`${containerId} `))
      ?.trim()
      .split(/\s+/)[2];
  const kind = async (containerId: string): Promise<string | undefined> =>
    (await runtime.inspect(containerId))?.task.kind;
  const make = async (name: string): Promise<{ id: string; address: WorkerAddress }> => {
    const request = ensureRequest(lab, name);
    const { address } = await runtime.ensure(request);
    return { id: request.containerId, address: address ?? nowhere };
  };

  it('runs, whatever containerd says, and containerd is right again once it is settled', {
    tags: ['P5'],
  }, async () => {
    const { id, address } = await make('truth');
    const seen: RuntimeEvent[] = [];
    onTestFinished(runtime.subscribe((event) => seen.push(event)));
    await runtime.pause(id);
    expect(await told(id)).toBe('PAUSED');
    await runtime.resume(id);
    expect(await lab.caller.call(address, {})).toMatchObject({ counter: 1 });
    expect(await told(id)).toBe('PAUSED');
    const unsettled = { kind: 'Running', pid: expect.any(Number), unsettled: true };
    expect((await runtime.inspect(id))?.task).toEqual(unsettled);
    expect((await runtime.list()).map(({ task }) => task)).toEqual([unsettled]);

    expect(await runtime.settle(id)).toBe(true);
    expect(await told(id)).toBe('RUNNING');
    expect((await runtime.inspect(id))?.task).toEqual({ kind: 'Running', pid: expect.any(Number) });
    expect(await lab.caller.call(address, {})).toMatchObject({ counter: 2 });
    await waitFor('the event', () => seen.some((event) => event.kind === 'Resumed'));
  });

  it('is frozen again in truth by the next pause, over and over', async () => {
    const { id, address } = await make('cycle');
    for (let round = 1; round <= 50; round += 1) {
      await runtime.pause(id);
      expect([await told(id), await kind(id)]).toEqual(['PAUSED', 'Paused']);
      if (round % 10 === 0) {
        await expect(lab.caller.call(address, {}, 50)).rejects.toThrow('no answer');
      }
      await runtime.resume(id);
      expect(await lab.caller.call(address, {})).toMatchObject({ counter: expect.any(Number) });
    }
  });

  it('answers a call that comes at any moment of being settled, and is never left frozen', async () => {
    const { id, address } = await make('interrupted');
    const undisturbed: number[] = [];
    for (let round = 0; round < 5; round += 1) {
      await runtime.pause(id);
      await runtime.resume(id);
      const began = performance.now();
      await runtime.settle(id);
      undisturbed.push(performance.now() - began);
    }
    const usual = undisturbed.toSorted((a, b) => a - b)[2] ?? 0;
    let settled = 0;
    for (let round = 0; round < 150; round += 1) {
      await runtime.pause(id);
      await runtime.resume(id);
      const call = new AbortController();
      const settling = runtime.settle(id, { signal: call.signal });
      // Faults and calls come at any moment.
      await delay(((round % 15) / 7) * usual);
      call.abort();
      settled += (await settling) ? 1 : 0;
      expect(await kind(id)).toBe('Running');
      expect(await lab.caller.call(address, {}, 2000)).toMatchObject({ counter: expect.any(Number) });
    }
    // The moments cover both: before containerd was told, and after.
    expect(settled).toBeGreaterThan(0);
    expect(settled).toBeLessThan(150);
  });

  it('is thawed while containerd does not answer at all', async () => {
    const { id, address } = await make('alone');
    await runtime.pause(id);
    lab.containerd.signal('SIGSTOP');
    try {
      await runtime.resume(id);
      expect(await lab.caller.call(address, {})).toMatchObject({ counter: 1 });
    } finally {
      lab.containerd.signal('SIGCONT');
    }
  });

  it('takes a call at once even when containerd hangs in the middle of being settled', async () => {
    const { id, address } = await make('hung');
    await runtime.pause(id);
    await runtime.resume(id);
    const call = new AbortController();
    const settling = runtime.settle(id, { signal: call.signal });
    // Faults and calls come at any moment.
    await delay(2);
    lab.containerd.signal('SIGSTOP');
    try {
      // Faults and calls come at any moment.
      await delay(20);
      call.abort();
      await settling;
      // One that is frozen stays so until containerd is given up, which is after three seconds.
      expect(await lab.caller.call(address, {}, 2000)).toMatchObject({ counter: 1 });
    } finally {
      lab.containerd.signal('SIGCONT');
    }
    await waitFor('containerd', async () => (await runtime.health()).ok);
    expect(await kind(id)).toBe('Running');
    expect(await lab.caller.call(address, {}, 2000)).toMatchObject({ counter: 2 });
  });

  it('is still frozen and thawed by somebody else with ctr, and that is noticed', {
    tags: ['P5'],
  }, async () => {
    const { id } = await make('foreign');
    const seen: RuntimeEvent[] = [];
    onTestFinished(runtime.subscribe((event) => seen.push(event)));
    await lab.ctr('tasks', 'pause', id);
    await waitFor('the event', () => seen.some((event) => event.kind === 'Paused'));
    expect(await kind(id)).toBe('Paused');
    await lab.ctr('tasks', 'resume', id);
    await waitFor('the event', () => seen.some((event) => event.kind === 'Resumed'));
    expect((await runtime.inspect(id))?.task).toEqual({ kind: 'Running', pid: expect.any(Number) });
    // A container that containerd takes for paused can be neither paused nor resumed by way of it; an attempt does no
    // harm.
    await runtime.pause(id);
    await runtime.resume(id);
    await expect(lab.ctr('tasks', 'pause', id)).rejects.toThrow();
    await expect(lab.ctr('tasks', 'resume', id)).rejects.toThrow();
    expect((await runtime.inspect(id))?.task.kind).toBe('Running');
    await runtime.settle(id);
    await lab.ctr('tasks', 'pause', id);
    expect(await kind(id)).toBe('Paused');
  });

  it('ends by SIGTERM and its grace as every running one does', async () => {
    const request = ensureRequest(lab, 'polite');
    await runtime.ensure(request);
    await runtime.pause(request.containerId);
    await runtime.resume(request.containerId);
    await runtime.ensure({ ...request, shapeHash: 'another' });
    expect((await runtime.readLog(request.containerId, 4096)).toString()).toContain('ended by SIGTERM');
  });

  it('that ends in a call is told as ended', async () => {
    const { id, address } = await make('crash');
    await runtime.pause(id);
    await runtime.resume(id);
    await expect(lab.caller.call(address, { exit: 3 })).rejects.toThrow();
    await waitFor('its end', async () => (await kind(id)) === 'Stopped');
    await expect(runtime.resume(id)).rejects.toMatchObject({ code: 'NotFound' });
    expect((await runtime.inspect(id))?.task).toMatchObject({ kind: 'Stopped', exitCode: 3 });
  });

  it('is thawed a hundred times at once as one', async () => {
    const { id, address } = await make('popular');
    await runtime.pause(id);
    await Promise.all(Array.from({ length: 100 }, () => runtime.resume(id)));
    expect(await lab.caller.call(address, {})).toMatchObject({ counter: 1 });
  });
});

describe('whatever state a worker is in', () => {
  type Prepare = (lab: Lab, runtime: ContainerRuntime, id: string) => Promise<unknown>;
  const states: Readonly<Record<string, Prepare>> = {
    paused: (_, runtime, id) => runtime.pause(id),
    'thawed below containerd': async (_, runtime, id) => {
      await runtime.pause(id);
      await runtime.resume(id);
    },
    'frozen again below containerd': async (_, runtime, id) => {
      await runtime.pause(id);
      await runtime.resume(id);
      await runtime.pause(id);
    },
    'frozen in the middle of being settled': async (lab, runtime, id) => {
      await runtime.pause(id);
      await runtime.resume(id);
      await freeze(lab.cgroupParent, id);
    },
    'frozen behind a containerd that calls it running': (lab, _, id) => freeze(lab.cgroupParent, id),
    'paused by somebody else': async (lab, runtime, id) => {
      await runtime.settle(id);
      await lab.ctr('tasks', 'pause', id);
    },
  };
  const parties: Readonly<Record<string, (lab: Lab) => Promise<unknown>>> = {
    'the agent is': () => Promise.resolve(),
    'containerd is': async (lab) => {
      await lab.killContainerd();
      await lab.startContainerd();
    },
    'its shim is': async (lab) => {
      for (const pid of await shimsOf(lab.socketPath)) {
        process.kill(pid, 'SIGKILL');
      }
      await waitFor('the shim to end', async () => (await shimsOf(lab.socketPath)).length === 0);
    },
  };
  let lab: Lab;
  beforeAll(async () => {
    lab = await startLab();
  });
  afterAll(async () => {
    await lab?.close();
  });
  afterEach(async () => {
    const runtime = await lab.runtime();
    await destroyAll(runtime);
  });

  for (const [state, prepare] of Object.entries(states)) {
    for (const [party, kill] of Object.entries(parties)) {
      it(`(${state}) when ${party} killed, it is called again, or made anew, and removed without a trace`, {
        tags: ['P5', 'M7'],
      }, async () => {
        const first = await lab.runtime();
        const request = ensureRequest(lab, 'any');
        const { containerId } = request;
        const before = await first.ensure(request);
        await prepare(lab, first, containerId);
        await first.stop();
        await kill(lab);
        const second = await lab.runtime();
        const found = async (): Promise<string | undefined> =>
          (await second.list()).find((worker) => worker.containerId === containerId)?.task.kind;
        if (party === 'its shim is') {
          await waitFor('its end', async () => ['Stopped', 'Missing'].includes((await found()) ?? ''));
        } else {
          expect(await found()).toBe(state.startsWith('thawed') ? 'Running' : 'Paused');
          await second.resume(containerId);
        }
        const { address } = await second.ensure(request);
        const call = lab.caller.call(address ?? nowhere, {}, 2000);
        expect(await call).toMatchObject({ counter: 1 });
        expect(address).toEqual(before.address);
        await prepare(lab, second, containerId);
        await second.destroy(containerId, { graceSeconds: 1 });
        expect(await lab.leftovers()).toEqual([]);
        await second.stop();
      });
    }
  }
});
