import { describe, expect, it, onTestFinished } from 'vitest';
import { type BaseImage, checkEntrypoint, emptyBase, readBaseImage } from '../../../../src/cli/build/base-image.ts';
import { type AddedLayer, functionImage, taskFolderOf } from '../../../../src/cli/build/function-image.ts';
import { hasCode } from '../../../../src/common/errors.ts';
import { parseImageConfig } from '../../../../src/oci/image-config.ts';
import { digestOf, RegistryClient } from '../../../../src/oci/registry-client.ts';
import { ownArchitecture, testImage, testIndex } from '../../../support/test-image.ts';
import { startTestRegistry } from '../../../support/test-registry.ts';

const layer = (digit: string): string => `sha256:${digit.repeat(64)}`;

function baseWith(config: object, more: object = {}): BaseImage {
  const document = {
    architecture: 'arm64',
    os: 'linux',
    config,
    rootfs: { type: 'layers', diff_ids: [layer('a')] },
    ...more,
  };
  return {
    ...emptyBase('arm64'),
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+zstd', digest: layer('b'), size: 7 }],
    document,
    config: parseImageConfig(document, 'base'),
  };
}

const code: AddedLayer = { digest: layer('c'), diffId: layer('d'), size: 9, file: '/code.tar.gz', holds: 'code' };
const read = (content: Buffer) => JSON.parse(content.toString()) as Record<string, unknown>;

describe('the image of a function', () => {
  it('is its base with further layers and another command', () => {
    const base = baseWith({ Entrypoint: ['/entry'], Cmd: ['old.handler'], Env: ['A=b'], Labels: { x: 'y' } });
    const image = functionImage(base, [code], { cmd: ['app.handler'], workingDir: '/var/task' });
    expect(read(image.config.content)).toEqual({
      architecture: 'arm64',
      os: 'linux',
      config: {
        Entrypoint: ['/entry'],
        Cmd: ['app.handler'],
        Env: ['A=b'],
        Labels: { x: 'y' },
        WorkingDir: '/var/task',
      },
      rootfs: { type: 'layers', diff_ids: [layer('a'), layer('d')] },
    });
    expect(read(image.manifest.content)).toMatchObject({
      schemaVersion: 2,
      config: { digest: image.config.digest, size: image.config.content.length },
      layers: [
        { mediaType: 'application/vnd.oci.image.layer.v1.tar+zstd', digest: layer('b'), size: 7 },
        { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: layer('c'), size: 9 },
      ],
    });
  });

  it('has the same digest for the same input, and another one for another', () => {
    const made = (cmd: string) => functionImage(baseWith({}), [code], { cmd: [cmd], workingDir: '/var/task' }).digest;
    expect(made('app.handler')).toBe(made('app.handler'));
    expect(made('app.other')).not.toBe(made('app.handler'));
  });

  it('has a line of history for each layer where its base has', () => {
    const base = baseWith({}, { history: [{ created_by: 'base' }] });
    const { config } = functionImage(base, [code], { cmd: [], workingDir: '/var/task' });
    expect(read(config.content).history).toEqual([{ created_by: 'base' }, { created_by: 'esb deploy: code' }]);
  });

  it('is of the kind of its base', () => {
    const manifestType = 'application/vnd.docker.distribution.manifest.v2+json';
    const { manifest } = functionImage({ ...baseWith({}), manifestType }, [code], { cmd: [], workingDir: '/' });
    expect(manifest.mediaType).toBe(manifestType);
    expect(read(manifest.content)).toMatchObject({
      layers: [{}, { mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip' }],
    });
  });

  it.each([
    [{ Env: ['LAMBDA_TASK_ROOT=/task'], WorkingDir: '/work' }, '/task'],
    [{ WorkingDir: '/work' }, '/work'],
    [{ WorkingDir: '/' }, '/var/task'],
    [{}, '/var/task'],
  ])('has its code where the base looks for it: %j', (config, folder) => {
    expect(taskFolderOf(baseWith(config))).toBe(folder);
  });
});

describe('a base', () => {
  async function registryWith() {
    const registry = await startTestRegistry();
    onTestFinished(() => registry.close());
    const files = [{ path: '/file', content: 'content' }];
    const [amd64, arm64] = await Promise.all(
      ['amd64', 'arm64'].map((architecture) => testImage({ files, architecture, env: [`FOR=${architecture}`] })),
    );
    if (amd64 === undefined || arm64 === undefined) {
      throw new Error('two images were made');
    }
    registry.put('single:1', arm64);
    registry.putIndex(
      'both:1',
      testIndex([
        { image: amd64, architecture: 'amd64' },
        { image: arm64, architecture: 'arm64' },
      ]),
    );
    registry.putIndex('one:1', testIndex([{ image: arm64, architecture: 'arm64' }]));
    const client = new RegistryClient({ registry: registry.host });
    return {
      read: (name: string, architecture: string) => readBaseImage(`${registry.host}/${name}`, client, architecture, {}),
    };
  }

  it('is read for the processor that is asked for', async () => {
    const registry = await registryWith();
    expect((await registry.read('both:1', 'amd64')).config.env).toEqual(['FOR=amd64']);
    expect((await registry.read('both:1', 'arm64')).config.env).toEqual(['FOR=arm64']);
    const single = await registry.read('single:1', 'arm64');
    expect(single.layers).toHaveLength(1);
    expect(single.manifestType).toBe('application/vnd.oci.image.manifest.v1+json');
  });

  it.each(['single:1', 'one:1'])('for another processor is refused with the way out: %s', async (name) => {
    const registry = await registryWith();
    await expect(registry.read(name, 'amd64')).rejects.toSatisfy(
      (error) =>
        hasCode(error, 'ImageWrongPlatform') &&
        error.message.includes('linux/arm64') &&
        error.message.includes('Name a base for amd64 with --base, or another processor with --architecture'),
    );
  });

  it.each([
    [
      'a layer with something else for a digest',
      { layers: [{ digest: '../../x', mediaType: 'a', size: 1 }] },
      /no layers/,
    ],
    ['a layer without a size', { layers: [{ digest: layer('a'), mediaType: 'a' }] }, /no layers/],
    ['no list of layers', { layers: 'none' }, /no layers/],
    ['layers that its configuration does not have', { layers: [] }, /manifest has 0 layers, its configuration 1/],
    ['no configuration', { config: null }, /no configuration/],
  ])('with %s is refused', async (_, wrong, message) => {
    const registry = await startTestRegistry();
    onTestFinished(() => registry.close());
    const image = await testImage({ files: [{ path: '/file', content: 'content' }] });
    const content = Buffer.from(JSON.stringify({ ...read(image.manifest.content), ...wrong }));
    registry.put('base:1', { ...image, manifest: { ...image.manifest, content, digest: digestOf(content) } });
    const client = new RegistryClient({ registry: registry.host });
    await expect(readBaseImage(`${registry.host}/base:1`, client, ownArchitecture, {})).rejects.toSatisfy(
      (error: unknown) => hasCode(error, 'ImageInvalid') && message.test(error.message),
    );
  });

  it('without an entrypoint, such as an image of a language alone, has nothing that calls the handler', () => {
    expect(() => checkEntrypoint(baseWith({ Cmd: ['python3'] }), 'python:3.13', 'app.handler')).toThrow(
      /python:3.13 has no entrypoint, and so nothing that calls app.handler: name an image with a runtime client/,
    );
    expect(() => checkEntrypoint(baseWith({ Entrypoint: ['/entry'] }), 'base', 'app.handler')).not.toThrow();
  });

  it('that is not there is told of', async () => {
    const registry = await registryWith();
    await expect(registry.read('none:1', 'amd64')).rejects.toSatisfy((error) => hasCode(error, 'ImageNotFound'));
  });
});
