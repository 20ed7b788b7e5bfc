import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { joinImageLayouts, writeImageLayout } from '../../../../local/image/image-layout.ts';
import { writeLayer } from '../../../../src/oci/image-layer.ts';
import { layerFolder } from '../../../support/layer-folder.ts';

describe('an image layout', () => {
  it('joins images for several processors to an index', async () => {
    const { root, file } = await layerFolder();
    const layer = { ...(await writeLayer(root, file)), file };
    const run = { Entrypoint: ['/usr/bin/tool'], Env: [], WorkingDir: '/' };
    const images = await Promise.all(
      ['amd64', 'arm64'].map(async (architecture) => {
        const layout = `${root}-${architecture}`;
        return { layout, architecture, digest: await writeImageLayout(layout, [layer], run, { architecture }) };
      }),
    );
    const folder = `${root}-index`;
    const digest = await joinImageLayouts(folder, images);
    const text = await readFile(join(folder, 'index.json'), 'utf8');
    expect(digest).toBe(`sha256:${createHash('sha256').update(text).digest('hex')}`);
    expect((JSON.parse(text) as { readonly manifests: object[] }).manifests).toMatchObject(
      images.map((image) => ({ digest: image.digest, platform: { architecture: image.architecture, os: 'linux' } })),
    );
    // Two manifests, two configurations, and the layer that both have.
    expect(await readdir(join(folder, 'blobs/sha256'))).toHaveLength(5);
  });

  it('makes an image with a configuration that registries and runtimes read', async () => {
    const { root, file } = await layerFolder();
    const layer = await writeLayer(root, file);
    const layout = `${root}-layout`;
    const digest = await writeImageLayout(layout, [{ ...layer, file }], {
      Entrypoint: ['/usr/bin/tool'],
      Env: ['A=b'],
      WorkingDir: '/',
    });
    const blob = async (name: string): Promise<unknown> =>
      JSON.parse(await readFile(join(layout, 'blobs/sha256', name.slice('sha256:'.length)), 'utf8'));
    const manifest = (await blob(digest)) as { config: { digest: string }; layers: { digest: string }[] };
    expect(manifest.layers).toMatchObject([{ digest: layer.digest, size: layer.size }]);
    expect(await blob(manifest.config.digest)).toMatchObject({
      config: { Entrypoint: ['/usr/bin/tool'] },
      rootfs: { diff_ids: [layer.diffId] },
    });
  });
});
