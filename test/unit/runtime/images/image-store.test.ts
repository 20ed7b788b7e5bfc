import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { systemClock } from '../../../../src/common/clock.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { ContainerdError } from '../../../../src/containerd/containerd-error.ts';
import { linuxPlatform } from '../../../../src/oci/image-config.ts';
import { parseImageReference } from '../../../../src/oci/image-reference.ts';
import type { NodeImages } from '../../../../src/runtime/contract/images.ts';
import type { ImageRequest } from '../../../../src/runtime/contract/runtime.ts';
import { ImageStore } from '../../../../src/runtime/images/image-store.ts';
import { createNodeImages } from '../../../../src/runtime/images/node-images.ts';
import { type FakeContainerd, fakeContainerd, notFound } from '../../../support/fake-containerd.ts';
import { settle } from '../../../support/manual-clock.ts';
import { type TestImage, testImage } from '../../../support/test-image.ts';
import { waitFor } from '../../../support/wait-for.ts';

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
  /** Lets looks at an image end that have begun. */
  look: Promise<void> = Promise.resolve();
  looks = 0;
  /** Lets layers be seen. */
  view: Promise<void> = Promise.resolve();
  image = image;
  readonly proofsFile: string;
  readonly images: ImageStore;
  readonly node: NodeImages;
  /** Whether a pull asks for credentials. */
  isPrivate = false;
  /** Outcome of the next pulls. */
  registry: Promise<void> = Promise.resolve();

  constructor(proofsFile = join(mkdtempSync(join(tmpdir(), 'esb-proofs-')), 'proofs.json')) {
    this.proofsFile = proofsFile;
    onTestFinished(() => rmSync(dirname(proofsFile), { recursive: true, force: true }));
    const stored = (each: string) => ({
      name: each,
      target: { mediaType: this.image.manifest.mediaType, digest: this.image.manifest.digest, size: '1' },
      labels: this.labels,
      updatedAt: new Date(5_000),
    });
    const client: FakeContainerd['client'] = {
      ...this.fake.client,
      images: {
        get: async (each) => {
          this.looks += 1;
          const isPresent = this.present.has(each);
          await this.look;
          if (!isPresent) {
            throw notFound(each);
          }
          return stored(each);
        },
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
          const found = [this.image.manifest, ...this.image.blobs].find((blob) => blob.digest === digest);
          return found === undefined ? Promise.reject(notFound(digest)) : Promise.resolve(found.content);
        },
      },
      snapshots: {
        ...this.fake.client.snapshots,
        stat: (key) => Promise.resolve({ name: key, parent: '', kind: 'COMMITTED' }),
        view: async (key) => {
          this.fake.snapshots.add(key);
          await this.view;
          return [];
        },
      },
      transfer: {
        pull: async ({ credentialsFor, reference }) => {
          this.done.push(`pull ${reference}`);
          const shown = this.isPrivate ? credentialsFor?.('registry.example') : undefined;
          await this.registry;
          if (this.isPrivate && shown === undefined) {
            throw new ContainerdError('401 Unauthorized', 'ContainerdFailed');
          }
          this.present.add(reference);
        },
        describe: ({ reference }) => {
          this.done.push(`describe ${reference}`);
          return Promise.resolve();
        },
      },
    };
    const options = { client, snapshotter: 'overlayfs', clock: systemClock, logger: silentLogger() };
    this.images = new ImageStore({ ...options, platform: linuxPlatform(process.arch), proofsFile: this.proofsFile });
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

  it('is looked for once for all that ask at the same time', async () => {
    const store = new Store();
    await store.images.obtain(request);
    expect(store.looks).toBe(1);
    const found = await Promise.all(Array.from({ length: 5 }, () => store.images.obtain(request)));
    expect(new Set(found.map(({ byDigest }) => byDigest)).size).toBe(1);
    expect(store.looks).toBe(2);
  });

  it('is looked for again after its pull, and after its removal has begun', async () => {
    const store = new Store();
    store.present.clear();
    const reference = parseImageReference(name);
    const held = Promise.withResolvers<void>();
    store.look = held.promise;
    const early = store.images.find(reference);
    store.look = Promise.resolve();
    store.present.add(name);
    expect(await store.images.find(reference, {}, true)).toBeDefined();
    store.look = held.promise;
    const late = store.images.find(reference);
    const removed = store.images.remove(name, store.images.holdsOf(name).mark);
    store.look = Promise.resolve();
    await removed;
    expect(await store.images.find(reference)).toBeUndefined();
    held.resolve();
    expect([await early, await late]).toEqual([undefined, expect.anything()]);
  });

  it('is looked for again once its removal is over', async () => {
    const store = new Store();
    const gate = Promise.withResolvers<void>();
    store.removal = gate.promise;
    const removed = store.images.remove(name, store.images.holdsOf(name).mark);
    const held = Promise.withResolvers<void>();
    store.look = held.promise;
    // Sees the image that is about to go.
    const early = store.images.find(parseImageReference(name));
    store.look = Promise.resolve();
    const obtained = store.images.obtain(request);
    gate.resolve();
    expect(await removed).toBe(true);
    await settle();
    held.resolve();
    await Promise.all([early, obtained]);
    expect(store.done).toEqual([`delete ${name}`, `deleted ${name}`, `pull ${name}`]);
  });

  it('is not looked for by a caller that has given up', async () => {
    const store = new Store();
    store.look = Promise.reject(new Error('the connection ended'));
    store.look.catch(() => undefined);
    await expect(store.images.obtain(request, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'Aborted',
    });
    // A failure that no caller hears of would end the agent.
    await settle();
    expect(store.looks).toBe(0);
  });

  it('is looked for to the end for one caller where another gives up', async () => {
    const store = new Store();
    const held = Promise.withResolvers<void>();
    store.look = held.promise;
    const impatient = new AbortController();
    const first = store.images.obtain(request, { signal: impatient.signal });
    const second = store.images.obtain(request);
    await settle();
    impatient.abort();
    await expect(first).rejects.toMatchObject({ code: 'Aborted' });
    held.resolve();
    expect((await second).byDigest).toBe(`registry.example/hello@${image.manifest.digest}`);
    expect(store.looks).toBe(1);
  });

  it('is looked for longer than one call of containerd may take', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const store = new Store();
    const held = Promise.withResolvers<void>();
    store.look = held.promise;
    const found = store.images.find(parseImageReference(name));
    await vi.advanceTimersByTimeAsync(15_000);
    held.resolve();
    expect(await found).toBeDefined();
  });

  it('leaves no view of its layers when the agent stops, though its callers have given up', async () => {
    const store = new Store();
    store.image = await testImage({ files: [], entrypoint: ['/bin/hello'], user: 'app' });
    const held = Promise.withResolvers<void>();
    store.view = held.promise;
    const caller = new AbortController();
    const obtained = store.images.obtain(request, { signal: caller.signal });
    await expect.poll(() => store.fake.snapshots.size).toBe(1);
    caller.abort();
    await expect(obtained).rejects.toMatchObject({ code: 'Aborted' });
    const stopped = store.images.stop();
    held.resolve();
    await stopped;
    expect([...store.fake.snapshots, ...store.fake.leases]).toEqual([]);
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

describe('a private image that is on the node', { tags: ['T19'] }, () => {
  const mine = JSON.stringify({ auths: { 'registry.example': { username: 'me', password: 'right' } } });
  const of = (namespace: string) => ({ namespace });
  const withSecret: ImageRequest = { ...request, pullSecrets: () => Promise.resolve({ configs: [mine], missing: [] }) };
  const byDigest = () => `registry.example/hello@${image.manifest.digest}`;

  /** A node that pulled the image for team-a. */
  async function pulled(): Promise<Store> {
    const store = new Store();
    store.present.clear();
    store.isPrivate = true;
    await store.images.obtain(withSecret, of('team-a'));
    expect(store.done).toHaveLength(1);
    return store;
  }

  it('is used by who pulled it, and by others once the registry takes their credentials', async () => {
    const store = await pulled();
    await store.images.obtain(request, of('team-a'));
    expect(store.done).toHaveLength(1);
    expect([store.images.isLikelyHere(request, 'team-a'), store.images.isLikelyHere(request, 'team-b')]).toEqual([
      true,
      false,
    ]);
    await expect(store.images.obtain(request, of('team-b'))).rejects.toMatchObject({
      code: 'ImageUnproven',
      retryable: true,
      message: expect.stringMatching(/pulled with Secrets of another namespace, and team-b has not .* credentials/),
    });
    await store.images.obtain(withSecret, of('team-b'));
    expect(store.done).toHaveLength(3);
    await store.images.obtain(request, of('team-b'));
    expect(store.done).toHaveLength(3);
  });

  it('waits for a registry that is away, but where the right was shown before', async () => {
    const store = await pulled();
    store.registry = Promise.reject(new ContainerdError('dial tcp: connection refused', 'ContainerdFailed'));
    store.registry.catch(() => undefined);
    await expect(store.images.obtain(withSecret, of('team-b'))).rejects.toMatchObject({
      code: 'ImageUnproven',
      message: expect.stringContaining('the registry does not answer'),
    });
    await store.images.obtain(withSecret, of('team-a'));
  });

  it('is not for a worker of others that asks no registry', async () => {
    const store = await pulled();
    await expect(store.images.obtain({ ...withSecret, pullPolicy: 'Never' }, of('team-b'))).rejects.toMatchObject({
      code: 'ImageUnproven',
      message: expect.stringContaining('Never'),
    });
    await store.images.obtain({ ...request, pullPolicy: 'Never' }, of('team-a'));
  });

  it('is known as private by the next agent, also by one whose predecessor died in the pull', async () => {
    const before = await pulled();
    await before.images.stop();
    const again = async (change: (text: string) => string): Promise<ImageStore> => {
      await writeFile(before.proofsFile, change(await readFile(before.proofsFile, 'utf8')));
      return new Store(before.proofsFile).images;
    };
    const kept = await again((text) => text);
    await kept.obtain(request, of('team-a'));
    await kept.obtain({ ...request, pullPolicy: 'Never' }, of('team-b')).then(
      () => expect.unreachable(),
      (error: unknown) => expect(error).toMatchObject({ code: 'ImageUnproven' }),
    );
    const halfWay = await again(() => JSON.stringify({ images: {}, pulling: [name] }));
    await expect(halfWay.obtain({ ...request, pullPolicy: 'Never' }, of('team-a'))).rejects.toMatchObject({
      code: 'ImageUnproven',
    });
    // A pull without credentials gives the image to everybody.
    await halfWay.obtain(request, of('team-a'));
    await halfWay.obtain({ ...request, pullPolicy: 'Never' }, of('team-b'));
    await halfWay.stop();
    expect(JSON.parse(await readFile(before.proofsFile, 'utf8'))).toEqual({
      images: { [byDigest()]: true },
      pulling: [],
    });

    const unreadable = await again(() => '{');
    await expect(unreadable.obtain({ ...request, pullPolicy: 'Never' }, of('team-a'))).rejects.toMatchObject({
      code: 'ImageUnproven',
    });
    await unreadable.obtain(request, of('team-a'));
    expect(JSON.parse(await readFile(before.proofsFile, 'utf8'))).toMatchObject({ lost: true });
  });

  it('of a name that is being pulled is nobody else’s before the end of the pull', async () => {
    const store = new Store();
    store.isPrivate = true;
    const gate = Promise.withResolvers<void>();
    store.registry = gate.promise;
    // An image that was never pulled is everybody's.
    await store.images.obtain(request, of('team-b'));
    const pulling = store.images.obtain({ ...withSecret, pullPolicy: 'Always' }, of('team-a'));
    await waitFor('the pull', () => store.done.length === 1);
    await expect(store.images.obtain({ ...request, pullPolicy: 'Never' }, of('team-b'))).rejects.toMatchObject({
      code: 'ImageUnproven',
    });
    gate.resolve();
    await pulling;
  });

  it('is everybody’s where no record tells of a pull, and after a pull that failed', async () => {
    const store = new Store();
    store.isPrivate = true;
    await expect(store.images.obtain({ ...request, pullPolicy: 'Always' }, of('team-a'))).rejects.toMatchObject({
      code: 'ImagePullFailed',
    });
    await store.images.obtain({ ...request, pullPolicy: 'Never' }, of('team-b'));
  });
});
