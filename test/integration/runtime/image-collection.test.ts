import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ImageGarbageCollector, type ImageThresholds } from '../../../src/agent/gc/image-gc.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import type { NodeImages } from '../../../src/runtime/contract/images.ts';
import type { ContainerRuntime } from '../../../src/runtime/contract/runtime.ts';
import { run } from '../../support/command.ts';
import { ensureRequest, type Lab, startLab } from '../../support/lab.ts';
import { testImage, workerFiles } from '../../support/test-image.ts';
import { waitFor } from '../../support/wait-for.ts';

const mebibyte = 2 ** 20;
const ballastBytes = 8 * mebibyte;

describe('making room among the images of a node', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;
  let count = 0;

  beforeAll(async () => {
    lab = await startLab();
    runtime = await lab.runtime();
  });
  afterAll(async () => {
    await lab?.close();
  });

  /** Bytes that containerd has on disk. */
  const taken = async (): Promise<number> => {
    // A file that goes meanwhile is an error to du, and counts nothing.
    const { stdout } = await run('du', ['-sb', join(lab.folder, 'root')], { mayFail: true });
    const bytes = Number(/^(\d+)\t/.exec(stdout)?.[1]);
    expect(bytes).toBeGreaterThan(0);
    return bytes;
  };

  /** An image with a layer of its own, pulled by a worker that is gone again. */
  const pulled = async (): Promise<string> => {
    count += 1;
    const name = `room-${count}`;
    const ballast = { path: '/opt/ballast', content: randomBytes(ballastBytes) };
    const image = await testImage({ files: [...(await workerFiles()), ballast] });
    const reference = lab.registry.put(`${name}:1`, image);
    const request = ensureRequest(lab, name, { image: { reference, pullPolicy: 'IfNotPresent' } });
    await runtime.ensure(request);
    await runtime.destroy(request.containerId, { graceSeconds: 0 });
    return reference;
  };

  /** The node's images on a disk of `totalBytes`, filled by what containerd really has. */
  const onDiskOf = (totalBytes: number): NodeImages => ({
    list: (options) => runtime.nodeImages.list(options),
    remove: (image, options) => runtime.nodeImages.remove(image, options),
    nameOf: (reference) => runtime.nodeImages.nameOf(reference),
    room: async () => ({ totalBytes, freeBytes: totalBytes - (await taken()), totalFiles: 0, freeFiles: 0 }),
  });

  const collectorOn = (
    totalBytes: number,
    wanted: readonly string[],
    thresholds: Partial<ImageThresholds> = {},
  ): ImageGarbageCollector =>
    new ImageGarbageCollector({
      images: onDiskOf(totalBytes),
      wanted: () => wanted,
      thresholds: { highPercent: 80, lowPercent: 70, minAgeMs: 0, ...thresholds },
      file: join(lab.folder, `images-${count}.json`),
      clock: systemClock,
      logger: silentLogger(),
    });

  it('knows the real disk', async () => {
    const room = await runtime.nodeImages.room();
    expect(room.totalBytes).toBeGreaterThan(room.freeBytes);
    expect(room.freeBytes).toBeGreaterThan(0);
  });

  it('removes the image that was used longest ago, and its bytes with it', async () => {
    const [oldest, newer] = [await pulled(), await pulled()];
    const full = await taken();
    // Down to the low threshold it is less than the ballast of one image, compressed and unpacked.
    const collector = collectorOn(full / 0.8 - mebibyte, []);
    await collector.look();
    const left = await runtime.images();
    expect(left).not.toContain(oldest);
    expect(left).toContain(newer);
    expect(full - (await taken())).toBeGreaterThan(2 * ballastBytes);
    expect(collector.collection).toMatchObject({ removed: 1, failed: 0, underPressure: false });
    expect(collector.collection.freedBytes).toBeGreaterThan(2 * ballastBytes);
  });

  it('does nothing below the high threshold', async () => {
    const reference = await pulled();
    await collectorOn((await taken()) * 2, []).look();
    expect(await runtime.images()).toContain(reference);
  });

  it('leaves what containers have, what workers want, what is pinned and what is young', async () => {
    const [used, wanted, pinned, free] = [await pulled(), await pulled(), await pulled(), await pulled()];
    const running = ensureRequest(lab, 'running', { image: { reference: used, pullPolicy: 'Never' } });
    await runtime.ensure(running);
    await runtime.pause(running.containerId);
    await lab.ctr('images', 'label', pinned, 'io.cri-containerd.pinned=pinned');

    await collectorOn(1, [wanted], { minAgeMs: 3_600_000 }).look();
    expect(await runtime.images()).toContain(free);

    const collector = collectorOn(1, [wanted]);
    await collector.look();
    expect((await runtime.images()).toSorted()).toEqual([used, wanted, pinned].toSorted());
    expect(collector.collection.underPressure).toBe(true);

    // The one that is frozen goes on as if nothing had happened.
    await runtime.resume(running.containerId);
    const info = await runtime.inspect(running.containerId);
    expect(await lab.caller.call(info?.address ?? { ip: '', port: 0 }, {})).toMatchObject({ counter: 1 });
    await runtime.destroy(running.containerId, { graceSeconds: 0 });
    await lab.ctr('images', 'label', pinned, 'io.cri-containerd.pinned=');
  });

  it('leaves an image of which a worker is being made or that is being pulled', async () => {
    count += 1;
    const release = Promise.withResolvers<void>();
    lab.registry.hold = release.promise;
    const reference = lab.registry.put(
      `held-${count}:1`,
      await testImage({ files: [...(await workerFiles()), { path: '/b', content: randomBytes(mebibyte) }] }),
    );
    const request = ensureRequest(lab, 'held', { image: { reference, pullPolicy: 'IfNotPresent' } });
    const before = lab.registry.requests.length;
    const made = runtime.ensure(request);
    await waitFor('the pull', () => lab.registry.requests.slice(before).some((line) => /blobs/.test(line)));
    await collectorOn(1, []).look();
    release.resolve();
    lab.registry.hold = undefined;
    expect((await made).task.kind).toBe('Running');
    expect(await runtime.images()).toContain(reference);
    await runtime.destroy(request.containerId, { graceSeconds: 0 });
  });

  it('does not take an image that somebody has used since it was listed', async () => {
    const reference = await pulled();
    const listed = (await runtime.nodeImages.list()).find(({ name }) => name === reference);
    const request = ensureRequest(lab, 'late', { image: { reference, pullPolicy: 'Never' } });
    await runtime.ensure(request);
    if (listed === undefined) {
      throw new Error('the image is not listed');
    }
    expect(listed.inUse).toBe(false);
    expect(await runtime.nodeImages.remove(listed)).toBe(false);
    expect(await runtime.images()).toContain(reference);
    await runtime.destroy(request.containerId, { graceSeconds: 0 });
  });

  it('never breaks a worker that is started while images are removed', async () => {
    const reference = await pulled();
    for (let round = 0; round < 15; round += 1) {
      const request = ensureRequest(lab, `race-${round}`, {
        image: { reference, pullPolicy: 'IfNotPresent' },
      });
      const [info] = await Promise.all([runtime.ensure(request), collectorOn(1, []).look()]);
      expect(info.task.kind).toBe('Running');
      await runtime.destroy(request.containerId, { graceSeconds: 0 });
    }
    expect(await lab.leftovers()).toEqual([]);
  });
});
