import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { createContainerdClient } from '../../../src/containerd/containerd-client.ts';
import type { ContainerRuntime, RuntimeEvent, WorkerAddress } from '../../../src/runtime/contract/runtime.ts';
import { ensureRequest, type Lab, startLab } from '../../support/lab.ts';
import { watchedClient } from '../../support/tripwire.ts';
import { waitFor } from '../../support/wait-for.ts';

const nowhere: WorkerAddress = { ip: '', port: 0 };

describe('containerd killed', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;

  beforeEach(async () => {
    lab = await startLab();
    runtime = await lab.runtime();
  });
  afterEach(async () => {
    await lab?.close();
  });

  it('and started again keeps its workers, and events come again', async () => {
    const seen: RuntimeEvent[] = [];
    onTestFinished(runtime.subscribe((event) => seen.push(event)));
    const running = ensureRequest(lab, 'running');
    const paused = ensureRequest(lab, 'paused');
    const first = await runtime.ensure(running);
    await runtime.ensure(paused);
    await runtime.pause(paused.containerId);

    await lab.killContainerd();
    expect(await lab.caller.call(first.address ?? nowhere, {})).toMatchObject({ counter: 1 });
    await expect(runtime.pause(running.containerId)).rejects.toMatchObject({ code: 'RuntimeUnavailable' });
    await expect(runtime.list()).rejects.toMatchObject({ code: 'RuntimeUnavailable', retryable: true });
    expect(await runtime.health()).toMatchObject({ ok: false, reason: 'RuntimeUnavailable' });
    expect(seen.filter(({ kind }) => kind === 'Reconnected')).toEqual([]);

    await lab.startContainerd();
    await waitFor('the events', () => seen.some(({ kind }) => kind === 'Reconnected'));
    expect(await runtime.health()).toEqual({ ok: true, version: expect.stringMatching(/^v?2\./) });
    const kinds = new Map((await runtime.list()).map(({ containerId, task }) => [containerId, task.kind]));
    expect(kinds).toEqual(
      new Map([
        [running.containerId, 'Running'],
        [paused.containerId, 'Paused'],
      ]),
    );
    seen.length = 0;
    await runtime.resume(paused.containerId);
    // Thawed below containerd, which tells of it once it knows.
    expect(await runtime.settle(paused.containerId)).toBe(true);
    await waitFor('the resume', () => seen.some(({ kind }) => kind === 'Resumed'));
    await runtime.destroy(running.containerId);
    await runtime.destroy(paused.containerId);
    expect(await lab.leftovers()).toEqual([]);
  });

  it('with a worker that ends meanwhile tells of it afterwards', { tags: ['P25'] }, async () => {
    const request = ensureRequest(lab, 'quiet');
    const { address } = await runtime.ensure(request);
    await lab.killContainerd();
    await expect(lab.caller.call(address ?? nowhere, { exit: 4 })).rejects.toThrow();
    await lab.startContainerd();
    await waitFor('its end', async () => {
      const kind = (await runtime.inspect(request.containerId))?.task.kind;
      return kind === 'Stopped' || kind === 'Missing';
    });
    const again = await runtime.ensure(request);
    expect(await lab.caller.call(again.address ?? nowhere, {})).toMatchObject({ counter: 1 });
    await runtime.destroy(request.containerId);
    expect(await lab.leftovers()).toEqual([]);
  });

  it.each([0, 5, 15, 30, 60, 100])(
    'within a creation, %d ms after it asked for the task, leaves nothing that a removal does not find',
    async (afterMs) => {
      const client = createContainerdClient({
        socketPath: lab.socketPath,
        namespace: 'esb',
        snapshotter: 'overlayfs',
      });
      const killed = Promise.withResolvers<void>();
      const victim = await lab.runtime({
        client: watchedClient(client, {
          before: (call) => {
            if (call === 'tasks.create') {
              setTimeout(() => {
                lab.killContainerd().then(killed.resolve, killed.reject);
              }, afterMs);
            }
          },
        }),
      });
      const request = ensureRequest(lab, 'unlucky');
      const outcome = await victim.ensure(request).then(
        () => 'made',
        () => 'failed',
      );
      await killed.promise;
      await lab.startContainerd();
      // Each has a connection of its own.
      await waitFor('containerd', async () => (await victim.health()).ok && (await runtime.health()).ok);
      await runtime.destroy(request.containerId);
      expect(await lab.leftovers(), `after a creation that ${outcome}`).toEqual([]);
      const again = await runtime.ensure(request);
      expect(again.task.kind).toBe('Running');
      await runtime.destroy(request.containerId);
      expect(await lab.leftovers()).toEqual([]);
    },
  );

  it('before the agent starts is told as unavailable, and found once it is there', async () => {
    await lab.killContainerd();
    await expect(lab.runtime()).rejects.toMatchObject({ code: 'RuntimeUnavailable' });
    await lab.startContainerd();
    await lab.runtime();
  });
});

describe('an agent killed', () => {
  it('leaves workers that the next one finds as they are', async () => {
    const lab = await startLab();
    onTestFinished(() => lab.close());
    const first = await lab.runtime();
    const running = ensureRequest(lab, 'running');
    const paused = ensureRequest(lab, 'paused');
    await first.ensure(running);
    await first.ensure(paused);
    await first.pause(paused.containerId);
    await first.stop();
    const second = await lab.runtime();
    const found = await second.list();
    expect(new Map(found.map(({ identity, task }) => [identity.name, task.kind]))).toEqual(
      new Map([
        ['paused', 'Paused'],
        ['running', 'Running'],
      ]),
    );
    for (const { containerId, address } of found) {
      await second.resume(containerId);
      expect(await lab.caller.call(address ?? nowhere, {})).toMatchObject({ counter: 1 });
      await second.destroy(containerId);
    }
    expect(await lab.leftovers()).toEqual([]);
  });
});

describe('many callers', () => {
  it('of one worker make it, freeze it and thaw it once', async () => {
    const lab = await startLab();
    onTestFinished(() => lab.close());
    const runtime = await lab.runtime();
    const seen: RuntimeEvent[] = [];
    runtime.subscribe((event) => seen.push(event));
    const count = (kind: RuntimeEvent['kind']): number => seen.filter((event) => event.kind === kind).length;
    const request = ensureRequest(lab, 'popular');
    const infos = await Promise.all(Array.from({ length: 20 }, () => runtime.ensure(request)));
    expect(new Set(infos.map(({ task }) => JSON.stringify(task))).size).toBe(1);
    await Promise.all(Array.from({ length: 20 }, () => runtime.pause(request.containerId)));
    await Promise.all(Array.from({ length: 20 }, () => runtime.resume(request.containerId)));
    await Promise.all(Array.from({ length: 20 }, () => runtime.settle(request.containerId)));
    await waitFor('the events', () => count('Resumed') > 0);
    expect([count('Paused'), count('Resumed')]).toEqual([1, 1]);
  });

  it('who freeze, thaw, make and remove one worker in any order leave it whole or gone', async () => {
    const lab = await startLab();
    onTestFinished(() => lab.close());
    const runtime = await lab.runtime();
    const request = ensureRequest(lab, 'torn');
    const acts: (() => Promise<unknown>)[] = [
      () => runtime.ensure(request),
      () => runtime.pause(request.containerId),
      () => runtime.resume(request.containerId),
      () => runtime.destroy(request.containerId, { graceSeconds: 0 }),
      () => runtime.ensure(request, { deadlineMs: 60 }),
    ];
    let seed = 7;
    const random = (): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return seed / 2_147_483_648;
    };
    const codes = new Set<string>();
    for (let round = 0; round < 15; round += 1) {
      const batch = Array.from({ length: 8 }, async () => {
        await acts[Math.floor(random() * acts.length)]?.();
      });
      const outcomes = await Promise.allSettled(batch);
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected') {
          codes.add((outcome.reason as { code: string }).code);
        }
      }
    }
    expect(['NotFound', 'Aborted', 'DeadlineExceeded']).toEqual(expect.arrayContaining([...codes]));
    expect(await lab.caller.call((await runtime.ensure(request)).address ?? nowhere, {})).toMatchObject({
      counter: expect.any(Number),
    });
    await runtime.destroy(request.containerId);
    expect(await lab.leftovers()).toEqual([]);
  });
});
