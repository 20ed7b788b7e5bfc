import { expect, it } from 'vitest';
import type { WorkerShape } from '../../../../src/runtime/contract/runtime.ts';
import { testImage, workerFiles } from '../../../support/test-image.ts';
import { waitFor } from '../../../support/wait-for.ts';
import type { ConformanceTests } from './conformance-suite.ts';

/** Errors for workers and images that cannot run. */
export const faultContract: ConformanceTests = (bench) => {
  const image = (reference: string, pullPolicy: WorkerShape['image']['pullPolicy'] = 'IfNotPresent') => ({
    image: { reference, pullPolicy },
  });

  it('tells of one that exits at once with its code and last output, and keeps only its log', async () => {
    const { request, runtime } = bench();
    const wanted = request('crasher', {
      env: [
        { name: 'EXIT', value: '7' },
        { name: 'PRINT', value: 'cannot find my wand' },
      ],
    });
    await expect(runtime.ensure(wanted)).rejects.toMatchObject({
      code: 'ExitedAtOnce',
      retryable: true,
      message: expect.stringContaining('cannot find my wand'),
      exit: { exitCode: 7, oomKilled: false, output: 'cannot find my wand\n', finishedAt: expect.any(Date) },
    });
    expect(await runtime.inspect(wanted.containerId)).toBeUndefined();
    expect((await runtime.readLog(wanted.containerId, 1000)).toString()).toBe('cannot find my wand\n');
    await runtime.destroy(wanted.containerId);
  });

  it('tells of one that needs more memory than it may have', async () => {
    const { request, runtime } = bench();
    const wanted = request('greedy', { memoryMiB: 32, env: [{ name: 'ALLOCATE', value: '200' }] });
    await expect(runtime.ensure(wanted)).rejects.toMatchObject({
      code: 'ExitedAtOnce',
      message: expect.stringContaining('memory'),
      exit: { exitCode: 137, oomKilled: true },
    });
    await runtime.destroy(wanted.containerId);
  });

  it('tells of one that outgrows its memory in a call, and of the event', async () => {
    const { lab, request, runtime, state } = bench();
    const seen: string[] = [];
    const unsubscribe = runtime.subscribe(({ kind }) => seen.push(kind));
    const wanted = request('growing', { memoryMiB: 32 });
    const { address } = await runtime.ensure(wanted);
    await expect(lab.call(address, { allocate: 200 })).rejects.toThrow();
    await waitFor('its end', async () => (await state(wanted.containerId)) === 'Stopped');
    expect((await runtime.inspect(wanted.containerId))?.task).toMatchObject({
      exitCode: 137,
      oomKilled: true,
    });
    await waitFor('the event', () => seen.includes('OutOfMemory'));
    unsubscribe();
  });

  it('tells of a limit that is too small to start at all', async () => {
    const { request, runtime } = bench();
    const wanted = request('tiny', { memoryMiB: 1, ephemeralStorageMiB: 1 });
    await expect(runtime.ensure(wanted)).rejects.toMatchObject({ code: 'MemoryTooSmall' });
    await runtime.destroy(wanted.containerId);
  });

  it('tells of one that does not listen where it should, with its output', async () => {
    const { lab, request } = bench();
    const wanted = request('elsewhere', { port: 9999 });
    const impatient = await lab.runtime({ listenDeadlineMs: 3_000 });
    await expect(impatient.ensure(wanted)).rejects.toMatchObject({
      code: 'NotListening',
      message: expect.stringMatching(/9999.*listening on 0\.0\.0\.0:8080/s),
    });
    await impatient.destroy(wanted.containerId);
    await impatient.stop();
  });

  it('tells of a program that is not in the image', async () => {
    const { lab, request, runtime } = bench();
    await expect(runtime.ensure(request('lost', { command: ['/no/such/program'] }))).rejects.toMatchObject({
      code: expect.stringMatching(/^(Create|Start)Failed$/),
      message: expect.stringContaining('/no/such/program'),
    });
    expect(await lab.leftovers()).toEqual([]);
  });

  it('tells of an image that says nothing about what to run', async () => {
    const { lab, request, runtime } = bench();
    const silent = lab.registry.put('silent:1', await testImage({ entrypoint: null }));
    await expect(runtime.ensure(request('silent', image(silent)))).rejects.toMatchObject({
      code: 'NoEntrypoint',
    });
  });

  it('tells of an image that does not exist', async () => {
    const { lab, request, runtime } = bench();
    const missing = lab.image.replace('worker:1', 'worker:none');
    await expect(runtime.ensure(request('missing', image(missing)))).rejects.toMatchObject({
      code: 'ImageNotFound',
      retryable: true,
    });
  });

  it('tells of an image that may not be pulled', async () => {
    const { lab, request, runtime } = bench();
    const fresh = lab.registry.put('fresh:1', await testImage());
    await expect(runtime.ensure(request('never', image(fresh, 'Never')))).rejects.toMatchObject({
      code: 'ImageNotFound',
      message: expect.stringContaining('Never'),
    });
    expect(lab.registry.requests.filter((line) => line.includes('/fresh/'))).toEqual([]);
  });

  it('tells of an image for another processor', async () => {
    const { lab, request, runtime } = bench();
    const foreign = lab.registry.put('foreign:1', await testImage({ architecture: 's390x' }));
    await expect(runtime.ensure(request('foreign', image(foreign)))).rejects.toMatchObject({
      code: 'ImageInvalid',
    });
  });

  it('tells of an image whose user nobody knows', async () => {
    const { lab, request, runtime } = bench();
    const nobody = lab.registry.put('nobody:1', await testImage({ user: 'nobody-knows' }));
    await expect(runtime.ensure(request('nobody', image(nobody)))).rejects.toMatchObject({
      code: 'ImageInvalid',
    });
    expect(await lab.leftovers()).toEqual([]);
  });

  it('finds the user of an image by its name', async () => {
    const { call, lab, request, runtime } = bench();
    const files = [
      ...(await workerFiles()),
      { path: '/etc/passwd', content: 'root:x:0:0::/:\napp:x:4711:4712::/:\n' },
      { path: '/etc/group', content: 'root:x:0:\napp:x:4712:\n' },
    ];
    const named = lab.registry.put('named:1', await testImage({ files, user: 'app' }));
    expect(await call(await runtime.ensure(request('named', image(named))))).toMatchObject({
      uid: 4711,
      gid: 4712,
    });
  });

  it('tells of a registry that does not answer', async () => {
    const { lab, request, runtime } = bench();
    const away = lab.registry.put('away:1', await testImage());
    await lab.registry.takeDown();
    try {
      await expect(runtime.ensure(request('away', image(away)))).rejects.toMatchObject({
        code: 'RegistryUnreachable',
        retryable: true,
      });
    } finally {
      await lab.registry.bringUp();
    }
  });

  it.each(['basic', 'token'] as const)('shows a registry that wants to know who pulls a %s', async (kind) => {
    const { call, lab, request, runtime } = bench();
    const hidden = lab.registry.put(`private-${kind}:1`, await testImage());
    lab.registry.credentials = { username: 'reader', password: 'secret' };
    lab.registry.authentication = kind;
    try {
      await expect(runtime.ensure(request('stranger', image(hidden)))).rejects.toMatchObject({
        code: 'ImagePullFailed',
        message: expect.stringContaining('imagePullSecrets'),
      });
      const auth = Buffer.from('reader:secret').toString('base64');
      const config = JSON.stringify({ auths: { [lab.registry.host]: { auth } } });
      const pullSecrets = () => Promise.resolve({ configs: [config], missing: [] });
      const info = await runtime.ensure(request('reader', { image: { ...image(hidden).image, pullSecrets } }));
      expect(await call(info)).toMatchObject({ counter: 1 });
    } finally {
      lab.registry.credentials = undefined;
      lab.registry.authentication = 'basic';
    }
  });

  it('asks the registry each time where it always has to, and has what it gives then', async () => {
    const { lab, request, runtime } = bench();
    const moving = lab.registry.put('moving:1', await testImage({ env: ['VERSION=1'] }));
    const first = await runtime.ensure(request('moving', image(moving)));
    lab.registry.put('moving:1', await testImage({ env: ['VERSION=2'] }));
    const same = await runtime.ensure(request('moving', image(moving)));
    const fresh = await runtime.ensure(request('moving', image(moving, 'Always')));
    expect(same.image).toBe(first.image);
    expect(fresh.image).not.toBe(first.image);
    expect(await runtime.images()).toContain(moving);
  });
};
