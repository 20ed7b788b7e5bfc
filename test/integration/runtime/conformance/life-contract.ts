import { expect, it } from 'vitest';
import type { EnsureStep } from '../../../../src/runtime/contract/runtime.ts';
import { waitFor } from '../../../support/wait-for.ts';
import type { ConformanceTests } from './conformance-suite.ts';

/** From nothing to running, frozen, thawed and gone. */
export const lifeContract: ConformanceTests = (bench) => {
  it('pulls, makes, freezes, thaws and removes a worker without a trace', async () => {
    const { call, lab, request, runtime, state } = bench();
    const wanted = request('whole', {
      env: [{ name: 'GREETING', value: 'hello' }],
      handler: 'app.handler',
    });
    const steps: EnsureStep[] = [];
    const info = await runtime.ensure({ ...wanted, onProgress: (step) => steps.push(step) });
    // A pull tells of its progress, so of being at it more than once.
    expect(steps.filter((step, index) => step !== steps[index - 1])).toEqual(['Pulling', 'Creating', 'Starting']);
    expect(info).toEqual({
      containerId: wanted.containerId,
      identity: wanted.identity,
      epoch: 1,
      shapeHash: wanted.shapeHash,
      image: expect.stringMatching(/^127\.0\.0\.1:\d+\/worker@sha256:[0-9a-f]{64}$/),
      task: { kind: 'Running', pid: expect.any(Number) },
      runtimeInterface: 'Emulator',
      address: { ip: expect.stringMatching(/^\d+\.\d+\.\d+\.\d+$/), port: 8080 },
      createdAt: expect.any(Date),
      timeoutSeconds: 3,
    });
    expect(Math.abs(info.createdAt.getTime() - Date.now())).toBeLessThan(60_000);
    expect(await call(info)).toMatchObject({
      counter: 1,
      host: wanted.containerId,
      args: ['app.handler'],
      uid: 993,
      gid: 990,
      env: {
        GREETING: 'hello',
        AWS_LAMBDA_FUNCTION_NAME: 'whole',
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '128',
        _HANDLER: 'app.handler',
      },
    });

    await runtime.pause(wanted.containerId);
    await runtime.pause(wanted.containerId);
    expect(await state(wanted.containerId)).toBe('Paused');
    await expect(lab.call(info.address, {}, 300)).rejects.toThrow();

    await runtime.resume(wanted.containerId);
    await runtime.resume(wanted.containerId);
    expect(await call(info)).toMatchObject({ counter: expect.any(Number) });
    expect(await runtime.settle(wanted.containerId)).toBe(true);
    expect(await runtime.list()).toEqual([info]);

    await runtime.destroy(wanted.containerId);
    await runtime.destroy(wanted.containerId);
    expect(await runtime.inspect(wanted.containerId)).toBeUndefined();
    expect(await runtime.list()).toEqual([]);
    expect(await lab.leftovers()).toEqual([]);
  });

  it('makes one container for however many ask, and none for who asks again', async () => {
    const { call, request, runtime } = bench();
    const wanted = request('crowd');
    const [first, ...others] = await Promise.all(Array.from({ length: 8 }, () => runtime.ensure(wanted)));
    expect(others.every((info) => info.createdAt.getTime() === first?.createdAt.getTime())).toBe(true);
    const again = await runtime.ensure(wanted);
    expect(again).toEqual(first);
    expect(await call(again)).toMatchObject({ counter: 1 });
    expect(await runtime.list()).toHaveLength(1);
  });

  it('resumes a frozen worker that is to run, and says so', async () => {
    const { call, request, runtime } = bench();
    const wanted = request('sleeper');
    const first = await runtime.ensure(wanted);
    await call(first);
    await runtime.pause(wanted.containerId);
    const steps: EnsureStep[] = [];
    const second = await runtime.ensure({ ...wanted, onProgress: (step) => steps.push(step) });
    expect(steps).toEqual(['Resuming', 'Starting']);
    expect(second.task).toEqual(first.task);
    expect(await call(second)).toMatchObject({ counter: 2 });
  });

  it('makes a worker anew that has ended, and keeps what it wrote', async () => {
    const { call, lab, request, runtime, state } = bench();
    const wanted = request('again');
    const first = await runtime.ensure(wanted);
    await expect(lab.call(first.address, { exit: 3 })).rejects.toThrow();
    await waitFor('its end', async () => (await state(wanted.containerId)) === 'Stopped');
    expect((await runtime.inspect(wanted.containerId))?.task).toEqual({
      kind: 'Stopped',
      exitCode: 3,
      oomKilled: false,
      exitedAt: expect.any(Date),
    });
    const second = await runtime.ensure(wanted);
    expect(await call(second)).toMatchObject({ counter: 1 });
    await waitFor('both lines', async () => {
      const log = (await runtime.readLog(wanted.containerId, 1000)).toString();
      return log === 'listening on 0.0.0.0:8080\nlistening on 0.0.0.0:8080\n';
    });
  });

  it('makes a worker of another shape anew, and marks one of another epoch, also for the next run', async () => {
    const { lab, request, runtime } = bench();
    const wanted = request('changing');
    const first = await runtime.ensure(wanted);
    const moved = await runtime.ensure({ ...wanted, epoch: 2 });
    expect(moved).toEqual({ ...first, epoch: 2 });
    expect(await (await lab.runtime()).list()).toEqual([moved]);
    const changed = await runtime.ensure({ ...wanted, epoch: 2, shapeHash: 'another' });
    expect(changed.task).not.toEqual(first.task);
    expect(changed).toMatchObject({ epoch: 2, shapeHash: 'another' });
    expect(await runtime.list()).toEqual([changed]);
  });

  it('refuses to touch a container that another worker has', async () => {
    const { call, request, runtime } = bench();
    const wanted = request('victim');
    const first = await runtime.ensure(wanted);
    const identity = { ...wanted.identity, namespace: 'others', uid: 'another uid' };
    const refusal = { code: 'CreateFailed', message: expect.stringContaining('another worker') };
    await expect(runtime.ensure({ ...wanted, identity })).rejects.toMatchObject(refusal);
    await expect(runtime.ensure({ ...wanted, identity, shapeHash: 'another' })).rejects.toMatchObject(refusal);
    expect(await runtime.list()).toEqual([first]);
    expect(await call(first)).toMatchObject({ counter: 1 });
  });

  it('neither freezes nor thaws what does not run', async () => {
    const { lab, request, runtime, state } = bench();
    const wanted = request('still');
    const notFound = expect.objectContaining({ code: 'NotFound' });
    await expect(runtime.pause(wanted.containerId)).rejects.toEqual(notFound);
    await expect(runtime.resume(wanted.containerId)).rejects.toEqual(notFound);
    const { address } = await runtime.ensure(wanted);
    await expect(lab.call(address, { exit: 0 })).rejects.toThrow();
    await waitFor('its end', async () => (await state(wanted.containerId)) === 'Stopped');
    await expect(runtime.pause(wanted.containerId)).rejects.toEqual(notFound);
    await expect(runtime.resume(wanted.containerId)).rejects.toEqual(notFound);
  });

  it('ends a running worker by SIGTERM, and kills a frozen one as it is', async () => {
    const { request, runtime } = bench();
    const [running, frozen] = [request('running'), request('frozen')];
    await runtime.ensure(running);
    await runtime.ensure(frozen);
    await runtime.pause(frozen.containerId);
    // Another shape gives the worker a new container, and keeps the log.
    await runtime.ensure({ ...running, shapeHash: 'another' });
    await runtime.ensure({ ...frozen, shapeHash: 'another' });
    const log = async (containerId: string) => (await runtime.readLog(containerId, 1000)).toString();
    const listening = 'listening on 0.0.0.0:8080\n';
    await waitFor('both lines', async () =>
      (await log(running.containerId)).endsWith(`ended by SIGTERM\n${listening}`),
    );
    await waitFor('both lines', async () => (await log(frozen.containerId)) === listening + listening);
  });

  it('kills a worker that ignores SIGTERM once its grace is over', async () => {
    const { request, runtime } = bench();
    const wanted = request('stubborn', { env: [{ name: 'IGNORE_SIGTERM', value: '1' }] });
    await runtime.ensure(wanted);
    const begun = performance.now();
    await runtime.destroy(wanted.containerId, { graceSeconds: 1 });
    expect(performance.now() - begun).toBeGreaterThan(900);
    expect(await runtime.inspect(wanted.containerId)).toBeUndefined();
  });

  it('leaves nothing of a worker whose caller gives up, whenever that is', async () => {
    const { lab, request, runtime } = bench();
    for (const step of ['Creating', 'Starting']) {
      const wanted = request('unwanted', { env: [{ name: 'LISTEN_AFTER_MS', value: '60000' }] });
      const caller = new AbortController();
      const ensured = runtime.ensure(
        { ...wanted, onProgress: (told) => (told === step ? caller.abort() : undefined) },
        { signal: caller.signal },
      );
      await expect(ensured).rejects.toMatchObject({ code: 'Aborted' });
      // The runtime itself undoes a start that was begun.
      await waitFor('nothing to be left', async () => (await lab.leftovers()).length === 0);
    }
  });

  it('ends a start that a removal overtakes', async () => {
    const { lab, request, runtime } = bench();
    const wanted = request('overtaken', { env: [{ name: 'LISTEN_AFTER_MS', value: '60000' }] });
    const starting = Promise.withResolvers<void>();
    const ensured = runtime
      .ensure({ ...wanted, onProgress: (step) => (step === 'Starting' ? starting.resolve() : undefined) })
      .catch((error: unknown) => error);
    await starting.promise;
    await runtime.destroy(wanted.containerId, { graceSeconds: 0 });
    expect(await ensured).toMatchObject({ code: 'Aborted' });
    expect(await lab.leftovers()).toEqual([]);
  });

  it('gives up when its time is over, and goes on at the next try', async () => {
    const { call, request, runtime } = bench();
    const wanted = request('slow', { env: [{ name: 'LISTEN_AFTER_MS', value: '1000' }] });
    await expect(runtime.ensure(wanted, { deadlineMs: 200 })).rejects.toMatchObject({
      code: 'DeadlineExceeded',
    });
    expect(await call(await runtime.ensure(wanted))).toMatchObject({ counter: 1 });
  });
};
