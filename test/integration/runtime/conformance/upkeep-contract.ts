import { expect, it } from 'vitest';
import type { RuntimeEvent } from '../../../../src/runtime/contract/runtime.ts';
import { containerNamed } from '../../../support/container-name.ts';
import { waitFor } from '../../../support/wait-for.ts';
import type { ConformanceTests } from './conformance-suite.ts';

/** Logs, hints, restarts, and what is left over. */
export const upkeepContract: ConformanceTests = (bench) => {
  it('keeps what workers write, from any place on', async () => {
    const { call, request, runtime } = bench();
    const wanted = request('writer');
    const info = await runtime.ensure(wanted);
    const { containerId } = wanted;
    const log = async () => (await runtime.readLog(containerId, 1_000_000)).toString();
    await waitFor('the first line', async () => (await log()) === 'listening on 0.0.0.0:8080\n');
    const offset = await runtime.logOffset(containerId);
    await call(info, { print: 'a first word', lines: 2000 });
    await call(info, { print: 'a last word' });
    await waitFor('the last line', async () => (await log()).endsWith('a last word\n'));
    const since = (await runtime.readLogSince(containerId, offset, 1_000_000)).toString();
    const lines = since.trimEnd().split('\n');
    expect(lines[0]).toBe('a first word');
    expect(lines.slice(1, -1).map((line) => Number(line.slice(0, 8)))).toEqual(
      Array.from({ length: 2000 }, (_, index) => index),
    );
    expect((await runtime.readLog(containerId, 12)).toString()).toBe('a last word\n');
    const { workerLogs } = runtime;
    expect(await workerLogs.newest(wanted.identity.uid)).toBe(containerId);
    expect(await workerLogs.begins(containerId)).toEqual([0]);
    expect(await workerLogs.extent(containerId)).toMatchObject({
      first: 0,
      end: await runtime.logOffset(containerId),
    });
  });

  it('finds its workers again in the next run, and nothing of what they wrote meanwhile is lost or told twice', async () => {
    const { lab, request, runtime } = bench();
    const first = await lab.runtime();
    const [running, frozen] = [request('running'), request('frozen')];
    const infos = [await first.ensure(running), await first.ensure(frozen)];
    await first.pause(frozen.containerId);
    await lab.call(infos[0]?.address, { print: 'before' });
    await first.stop();
    await lab.call(infos[0]?.address, { print: 'between' });

    const next = await lab.runtime();
    const found = new Map((await next.list()).map((info) => [info.containerId, info]));
    expect(found.get(running.containerId)).toEqual(infos[0]);
    expect(found.get(frozen.containerId)).toMatchObject({
      task: { kind: 'Paused' },
      address: infos[1]?.address,
    });
    await lab.call(infos[0]?.address, { print: 'after' });
    const log = async () => (await next.readLog(running.containerId, 1_000)).toString();
    await waitFor('what it wrote', async () => (await log()).includes('after'));
    expect(await log()).toBe('listening on 0.0.0.0:8080\nbefore\nbetween\nafter\n');
    await next.resume(frozen.containerId);
    expect(await lab.call(infos[1]?.address, {})).toMatchObject({ counter: 1 });
    await next.stop();
    expect(await runtime.list()).toHaveLength(2);
    for (const { containerId } of [running, frozen]) {
      await next.destroy(containerId).catch(() => undefined);
    }
  });

  it('tells of what happens to workers, whoever does it', async () => {
    const { lab, request, runtime } = bench();
    const seen: RuntimeEvent[] = [];
    const unsubscribe = runtime.subscribe((event) => seen.push(event));
    const wanted = request('watched');
    const { address } = await runtime.ensure(wanted);
    await runtime.pause(wanted.containerId);
    await runtime.resume(wanted.containerId);
    await expect(lab.call(address, { exit: 0 })).rejects.toThrow();
    await waitFor('the events', () =>
      ['Created', 'Paused', 'Exited'].every((kind) =>
        seen.some((event) => event.kind === kind && event.containerId === wanted.containerId),
      ),
    );
    unsubscribe();
  });

  it('has workers live on while its engine is away, says so, and goes on when it is back', async () => {
    const { call, lab, request, runtime, state } = bench();
    const seen: string[] = [];
    const unsubscribe = runtime.subscribe(({ kind }) => seen.push(kind));
    const wanted = request('survivor');
    const info = await runtime.ensure(wanted);
    await call(info);
    expect(await runtime.health()).toMatchObject({ ok: true, version: expect.stringMatching(/\d+\.\d+/) });

    await lab.killEngine();
    expect(await runtime.health({ deadlineMs: 5_000 })).toMatchObject({
      ok: false,
      reason: 'RuntimeUnavailable',
    });
    await expect(runtime.list({ deadlineMs: 5_000 })).rejects.toMatchObject({ retryable: true });
    expect(await call(info, { print: 'meanwhile' })).toMatchObject({ counter: 2 });

    await lab.startEngine();
    await waitFor('the engine to be found', async () => (await runtime.health()).ok, { timeoutMs: 30_000 });
    await waitFor('the event', () => seen.includes('Reconnected'), { timeoutMs: 30_000 });
    unsubscribe();
    expect(await runtime.ensure(wanted)).toEqual(info);
    await runtime.pause(wanted.containerId);
    expect(await state(wanted.containerId)).toBe('Paused');
    await runtime.resume(wanted.containerId);
    expect(await call(info, { print: 'afterwards' })).toMatchObject({ counter: 3 });
    const log = async () => (await runtime.readLog(wanted.containerId, 1_000)).toString();
    await waitFor('what it wrote', async () => (await log()).includes('afterwards'), { timeoutMs: 30_000 });
    expect(await log()).toBe('listening on 0.0.0.0:8080\nmeanwhile\nafterwards\n');
  });

  it('sees and removes nothing that is not its own', async () => {
    const { lab, request, runtime } = bench();
    const own = request('own');
    await runtime.ensure(own);
    const name = containerNamed('foreign');
    const foreign = await lab.startForeign(name);
    try {
      expect((await runtime.list()).map(({ containerId }) => containerId)).toEqual([own.containerId]);
      expect(await runtime.inspect(name)).toBeUndefined();
      await runtime.destroy(name);
      expect(await foreign.isRunning()).toBe(true);
    } finally {
      await foreign.remove();
    }
  });

  it('takes stock, and clears up only what has no container', async () => {
    const { request, runtime } = bench();
    const wanted = request('counted');
    await runtime.ensure(wanted);
    const { containers, uids, busy } = await runtime.inventory(new Set());
    expect([...containers]).toEqual([wanted.containerId]);
    expect([...uids]).toEqual([wanted.identity.uid]);
    expect([...busy]).toEqual([]);
    expect(await runtime.clear(wanted.containerId)).toBe(false);
    await runtime.destroy(wanted.containerId);
    expect(await runtime.clear(wanted.containerId)).toBe(true);
  });

  it('has a network', async () => {
    const { runtime } = bench();
    expect(await runtime.networkHealth()).toMatchObject({ ok: true });
  });
};

/** Last steps of all. */
export const departureContract: ConformanceTests = (bench) => {
  it('takes everything of ours off the node, and nothing else', async () => {
    const { lab, request, runtime } = bench();
    const [running, frozen] = [request('running'), request('frozen')];
    await runtime.ensure(running);
    await runtime.ensure(frozen);
    await runtime.pause(frozen.containerId);
    const foreign = await lab.startForeign(containerNamed('foreign'));
    expect(await runtime.leave()).toEqual([]);
    expect(await runtime.leave()).toEqual([]);
    expect(await foreign.isRunning()).toBe(true);
    await foreign.remove();
    expect(await lab.leftovers()).toEqual([]);
  });
};
