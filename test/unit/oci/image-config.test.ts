import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  type ContentReader,
  chainIdOf,
  type Descriptor,
  linuxPlatform,
  resolveImage,
} from '../../../src/oci/image-config.ts';

const CONFIG = 'application/vnd.oci.image.config.v1+json';
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const amd64 = linuxPlatform('x64');

/** A content store that is filled by hand. */
class Store implements ContentReader {
  readonly #blobs = new Map<string, Buffer>();

  put(mediaType: string, document: unknown, platform?: Descriptor['platform']): Descriptor {
    const blob = Buffer.from(typeof document === 'string' ? document : JSON.stringify(document));
    const digest = `sha256:${createHash('sha256').update(blob).digest('hex')}`;
    this.#blobs.set(digest, blob);
    return { mediaType, digest, ...(platform === undefined ? {} : { platform }) };
  }

  image(config: object, architecture = 'amd64', platform?: Descriptor['platform']): Descriptor {
    const descriptor = this.put(CONFIG, {
      os: 'linux',
      architecture,
      config,
      rootfs: { type: 'layers', diff_ids: ['sha256:one', 'sha256:two'] },
    });
    return this.put(MANIFEST, { schemaVersion: 2, config: descriptor, layers: [] }, platform);
  }

  read(digest: string): Promise<Buffer> {
    const blob = this.#blobs.get(digest);
    return blob === undefined ? Promise.reject(new Error(`no ${digest}`)) : Promise.resolve(blob);
  }
}

describe('an image', () => {
  it('gives its process, platform and layers', async () => {
    const store = new Store();
    const target = store.image({ Env: ['A=1'], Entrypoint: ['/e'], Cmd: null, User: '5', WorkingDir: '/w' });
    const { config, chainId } = await resolveImage(store, target, amd64);
    expect(config).toMatchObject({
      env: ['A=1'],
      entrypoint: ['/e'],
      cmd: [],
      user: '5',
      workingDir: '/w',
      platform: { os: 'linux', architecture: 'amd64' },
    });
    expect(chainId).toBe(`sha256:${createHash('sha256').update('sha256:one sha256:two').digest('hex')}`);
  });

  it('for several platforms gives the one of the node', async () => {
    const store = new Store();
    const index = store.put(INDEX, {
      manifests: [
        store.image({ Cmd: ['arm'] }, 'arm64', { os: 'linux', architecture: 'arm64' }),
        store.image({ Cmd: ['intel'] }, 'amd64', { os: 'linux', architecture: 'amd64' }),
      ],
    });
    expect((await resolveImage(store, index, amd64)).config.cmd).toEqual(['intel']);
    expect((await resolveImage(store, index, linuxPlatform('aarch64'))).config.cmd).toEqual(['arm']);
    await expect(resolveImage(store, index, linuxPlatform('riscv64'))).rejects.toMatchObject({
      code: 'ImageWrongPlatform',
      message: expect.stringMatching(/not made for linux\/riscv64.*linux\/arm64, linux\/amd64/),
    });
  });

  it('for another processor is refused', async () => {
    const store = new Store();
    await expect(resolveImage(store, store.image({}, 'arm64'), amd64)).rejects.toMatchObject({
      code: 'ImageWrongPlatform',
      message: expect.stringContaining('the image is for linux/arm64, this node is linux/amd64'),
    });
  });

  it.each(['x86_64', 'x86-64', 'x64', 'AMD64'])('whose author calls it %s is one for amd64', async (name) => {
    const store = new Store();
    const platform = { os: 'Linux', architecture: name };
    const index = store.put(INDEX, { manifests: [store.image({ Cmd: ['x'] }, name, platform)] });
    expect((await resolveImage(store, index, amd64)).config).toMatchObject({
      cmd: ['x'],
      platform: { os: 'linux', architecture: 'amd64' },
    });
  });

  it('that names no processor is taken as it is', async () => {
    const store = new Store();
    expect((await resolveImage(store, store.image({ Cmd: ['x'] }, ''), amd64)).config.cmd).toEqual(['x']);
  });

  it.each([
    ['no image at all', (store: Store) => store.put('application/vnd.cncf.helm.config.v1+json', {})],
    ['broken JSON', (store: Store) => store.put(MANIFEST, '{')],
    [
      'an artifact',
      (store: Store) => store.put(MANIFEST, { config: store.put('application/vnd.oci.empty.v1+json', {}) }),
    ],
  ])('that is %s is refused', async (_, make) => {
    const store = new Store();
    await expect(resolveImage(store, make(store), amd64)).rejects.toMatchObject({ code: 'ImageInvalid' });
  });

  it('without layers has no chain', () => {
    expect(() => chainIdOf([])).toThrow(/no layers/);
    expect(chainIdOf(['sha256:one'])).toBe('sha256:one');
  });
});
