import { beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../../../src/common/clock.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { linuxPlatform } from '../../../../src/oci/image-config.ts';
import type { NodeImages } from '../../../../src/runtime/contract/images.ts';
import type { ImageRequest } from '../../../../src/runtime/contract/runtime.ts';
import { ImageStore } from '../../../../src/runtime/images/image-store.ts';
import { createNodeImages } from '../../../../src/runtime/images/node-images.ts';
import { type FakeContainerd, fakeContainerd, notFound } from '../../../support/fake-containerd.ts';
import { settle } from '../../../support/manual-clock.ts';
import { type TestImage, testImage } from '../../../support/test-image.ts';

const name = 'registry.example/hello:1';
const request: ImageRequest = { reference: name, pullPolicy: 'IfNotPresent' };
let image: TestImage;

/** A containerd whose store has the image, or not; `release` lets a removal that has begun end. */
class Store {
  readonly fake: FakeContainerd = fakeContainerd();
  readonly present = new Set<string>([name]);
  readonly done: string[] = [];
  labels: Readonly<Record<string, string>> = {};
  removal: Promise<void> = Promise.resolve();
  readonly images: ImageStore;
  readonly node: NodeImages;

  constructor() {
    const stored = (each: string) => ({
      name: each,
      target: { mediaType: image.manifest.mediaType, digest: image.manifest.digest, size: '1' },
      labels: this.labels,
      updatedAt: new Date(5_000),
    });
    const client: FakeContainerd['client'] = {
      ...this.fake.client,
      images: {
        get: (each) => (this.present.has(each) ? Promise.resolve(stored(each)) : Promise.reject(notFound(each))),
        list: () => Promise.resolve([...this.present].map(stored)),
        delete: async (each) => {
          this.done.push(`delete ${each}`);
          await this.removal;
          if (!this.present.delete(each)) {
            throw notFound(each);
          }
          this.done.push(`deleted ${each}`);
        },
      },
      content: {
        read: (digest) => {
          const found = [image.manifest, ...image.blobs].find((blob) => blob.digest === digest);
          return found === undefined ? Promise.reject(notFound(digest)) : Promise.resolve(found.content);
        },
      },
      snapshots: {
        ...this.fake.client.snapshots,
        stat: (key) => Promise.resolve({ name: key, parent: '', kind: 'COMMITTED' }),
      },
      transfer: {
        pull: ({ reference }) => {
          this.done.push(`pull ${reference}`);
          this.present.add(reference);
          return Promise.resolve();
        },
      },
    };
    const options = { client, snapshotter: 'overlayfs', clock: systemClock, logger: silentLogger() };
    this.images = new ImageStore({ ...options, platform: linuxPlatform(process.arch) });
    this.node = createNodeImages({ ...options, images: this.images });
  }

  async listed(): Promise<Awaited<ReturnType<NodeImages['list']>>[number]> {
    const [first] = await this.node.list();
    if (first === undefined) {
      throw new Error('there is no image');
    }
    return first;
  }
}

beforeAll(async () => {
  image = await testImage({ files: [], entrypoint: ['/bin/hello'] });
});

describe('an image of a node', () => {
  it('is listed with what keeps it', async () => {
    const store = new Store();
    expect(await store.listed()).toEqual({
      name,
      digest: image.manifest.digest,
      pulledAt: new Date(5_000),
      inUse: false,
      pinned: false,
      mark: 0,
    });
    store.labels = { 'io.cri-containerd.pinned': 'pinned' };
    const release = store.images.hold('registry.example/hello:1');
    expect(await store.listed()).toMatchObject({ inUse: true, pinned: true });
    release();
    release();
    expect(await store.listed()).toMatchObject({ inUse: false });
    store.fake.containers.set('w', {
      id: 'w',
      labels: {},
      image: name,
      createdAt: new Date(0),
    });
    expect(await store.listed()).toMatchObject({ inUse: true });
  });

  it('is removed when nobody has held it since it was listed', async () => {
    const store = new Store();
    const listed = await store.listed();
    expect(await store.node.remove(listed)).toBe(true);
    expect(store.present.size).toBe(0);
    // Somebody else was faster.
    expect(await store.node.remove(listed)).toBe(false);
  });

  it('is left alone when somebody holds it, or has held it since then', async () => {
    const store = new Store();
    const listed = await store.listed();
    const release = store.images.hold(name);
    expect(await store.node.remove(listed)).toBe(false);
    release();
    expect(await store.node.remove(listed)).toBe(false);
    expect(store.done).toEqual([]);
    expect(await store.node.remove(await store.listed())).toBe(true);
  });

  it('that is wanted while it is being removed is pulled once that is over', async () => {
    const store = new Store();
    const gate = Promise.withResolvers<void>();
    store.removal = gate.promise;
    const removed = store.node.remove(await store.listed());
    const obtained = store.images.obtain(request);
    await settle();
    expect(store.done).toEqual([`delete ${name}`]);
    gate.resolve();
    expect(await removed).toBe(true);
    expect((await obtained).byDigest).toBe(`registry.example/hello@${image.manifest.digest}`);
    expect(store.done).toEqual([`delete ${name}`, `deleted ${name}`, `pull ${name}`]);
  });

  it('has its pull secrets read only when it is pulled', async () => {
    const store = new Store();
    let reads = 0;
    const guarded: ImageRequest = {
      ...request,
      pullSecrets: () => {
        reads += 1;
        return Promise.resolve({ configs: [], missing: [] });
      },
    };
    await store.images.obtain(guarded);
    expect(reads).toBe(0);
    await store.images.obtain({ ...guarded, pullPolicy: 'Always' });
    expect(reads).toBe(1);
    store.present.clear();
    await expect(store.images.obtain({ ...guarded, pullPolicy: 'Never' })).rejects.toMatchObject({
      code: 'ImageNotFound',
    });
    expect(reads).toBe(1);
    await store.images.obtain(guarded);
    expect(reads).toBe(2);
  });

  it('is not seen where containerd does not say where its layers are', async () => {
    await expect(new Store().node.room()).rejects.toMatchObject({ code: 'ImageFileSystemUnknown' });
  });

  it('is known by the name that the store has for it', () => {
    const { node } = new Store();
    expect(node.nameOf('python:3.12')).toBe('docker.io/library/python:3.12');
    expect(node.nameOf('Not A Name')).toBeUndefined();
  });
});
