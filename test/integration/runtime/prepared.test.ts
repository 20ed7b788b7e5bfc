import { describe, expect, it } from 'vitest';
import type { ContainerRuntime, WorkerAddress } from '../../../src/runtime/contract/runtime.ts';
import { ensureRequest, type Lab, shimsOf } from '../../support/lab.ts';
import { useLab } from '../../support/use-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const nowhere: WorkerAddress = { ip: '', port: 0 };

describe('a worker that was made in advance', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;
  useLab((started, itsRuntime) => {
    [lab, runtime] = [started, itsRuntime];
  });

  const task = async (containerId: string): Promise<{ pid: string; state: string } | undefined> => {
    const row = (await lab.ctr('tasks', 'list')).split('\n').find((line) => line.startsWith(`${containerId} `));
    const [, pid, state] = row?.trim().split(/\s+/) ?? [];
    return pid === undefined || state === undefined ? undefined : { pid, state };
  };
  const call = (info: { readonly address?: WorkerAddress }): Promise<unknown> =>
    lab.caller.call(info.address ?? nowhere, {}, 2_000);

  it('has not started, is told of to nobody, and is what is started then', async () => {
    const request = ensureRequest(lab, 'early');
    await runtime.prepare(request);
    await runtime.prepare(request);
    const made = await task(request.containerId);
    expect(made?.state).toBe('CREATED');
    expect(await runtime.inspect(request.containerId)).toBeUndefined();
    expect(await runtime.list()).toEqual([]);
    const info = await runtime.ensure(request);
    expect(await task(request.containerId)).toEqual({ pid: made?.pid, state: 'RUNNING' });
    expect(await call(info)).toMatchObject({ counter: 1 });
    expect(await runtime.list()).toEqual([info]);
  });

  it('is removed as a whole', async () => {
    const request = ensureRequest(lab, 'unwanted');
    await runtime.prepare(request);
    await runtime.destroy(request.containerId);
    expect(await lab.leftovers()).toEqual([]);
  });

  it('is removed in the middle of being made', async () => {
    const request = ensureRequest(lab, 'undecided');
    const preparing = runtime.prepare(request).catch((error: unknown) => error);
    await runtime.destroy(request.containerId);
    await preparing;
    expect(await lab.leftovers()).toEqual([]);
  });

  it('is waited for by a start that comes while it is made', async () => {
    const request = ensureRequest(lab, 'overtaken');
    const [, info] = await Promise.all([runtime.prepare(request), runtime.ensure(request)]);
    expect(await call(info)).toMatchObject({ counter: 1 });
  });

  it.each([
    ['shape', { shapeHash: 'another' }],
    ['epoch', { epoch: 2 }],
  ])('is made anew for another %s', async (_, change) => {
    const request = ensureRequest(lab, 'changed');
    await runtime.prepare(request);
    const before = await task(request.containerId);
    const info = await runtime.ensure({ ...request, ...change });
    expect(info).toMatchObject(change);
    expect((await task(request.containerId))?.pid).not.toBe(before?.pid);
    expect(await call(info)).toMatchObject({ counter: 1 });
  });

  it('stays that of its worker when another one asks for it', async () => {
    const request = ensureRequest(lab, 'victim');
    await runtime.prepare(request);
    const before = await task(request.containerId);
    const identity = { ...request.identity, namespace: 'others', uid: 'another uid' };
    await expect(runtime.ensure({ ...request, identity })).rejects.toMatchObject({ code: 'CreateFailed' });
    const info = await runtime.ensure(request);
    expect((await task(request.containerId))?.pid).toBe(before?.pid);
    expect(await call(info)).toMatchObject({ counter: 1 });
  });

  it('is made anew for secrets that have changed since', async () => {
    const request = ensureRequest(lab, 'secret', { env: [{ name: 'GREETING', value: 'old' }] });
    await runtime.prepare(request);
    const shape = { ...request.shape, env: [{ name: 'GREETING', value: 'new' }] };
    expect(await call(await runtime.ensure({ ...request, shape }))).toMatchObject({
      env: { GREETING: 'new' },
    });
  });

  it.each(['process', 'shim'])('whose %s was killed is removed, and made anew when it is called', async (what) => {
    const request = ensureRequest(lab, 'killed');
    await runtime.prepare(request);
    const pid = what === 'shim' ? (await shimsOf(lab.socketPath))[0] : Number((await task(request.containerId))?.pid);
    process.kill(pid ?? 0, 'SIGKILL');
    const info = await waitFor('it to be made anew', () => runtime.ensure(request).catch(() => undefined));
    expect(await call(info)).toMatchObject({ counter: 1 });
  });

  it('is what a crash leaves to the next agent, which removes it, or makes it anew', async () => {
    const request = ensureRequest(lab, 'left');
    const first = await lab.runtime();
    await first.prepare(request);
    await first.stop();
    expect((await runtime.inspect(request.containerId))?.task.kind).toBe('Created');
    expect(await call(await runtime.ensure(request))).toMatchObject({ counter: 1 });
  });

  it('outlives containerd', async () => {
    const request = ensureRequest(lab, 'outlives');
    await runtime.prepare(request);
    const before = await task(request.containerId);
    await lab.killContainerd();
    await lab.startContainerd();
    await waitFor('containerd', async () => (await runtime.health()).ok);
    const info = await runtime.ensure(request);
    expect(await task(request.containerId)).toEqual({ pid: before?.pid, state: 'RUNNING' });
    expect(await call(info)).toMatchObject({ counter: 1 });
  });
});
