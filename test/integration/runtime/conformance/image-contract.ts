import { expect, it } from 'vitest';
import type { WorkerShape } from '../../../../src/runtime/contract/runtime.ts';
import { testImage, workerFiles } from '../../../support/test-image.ts';
import type { ConformanceTests } from './conformance-suite.ts';

/** Errors of images and registries, and how images are pulled. */
export const imageContract: ConformanceTests = (bench) => {
  const image = (reference: string, pullPolicy: WorkerShape['image']['pullPolicy'] = 'IfNotPresent') => ({
    image: { reference, pullPolicy },
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
      code: 'ImageWrongPlatform',
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
