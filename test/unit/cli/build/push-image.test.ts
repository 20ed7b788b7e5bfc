import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { readBaseImage } from '../../../../src/cli/build/base-image.ts';
import { functionImage } from '../../../../src/cli/build/function-image.ts';
import { pushImage, tagOf } from '../../../../src/cli/build/push-image.ts';
import { layerEntries, writeLayerEntries } from '../../../../src/oci/image-layer.ts';
import { parseImageReference } from '../../../../src/oci/image-reference.ts';
import { RegistryClient } from '../../../../src/oci/registry-client.ts';
import { ownArchitecture, testImage } from '../../../support/test-image.ts';
import { startTestRegistry, type TestRegistry } from '../../../support/test-registry.ts';

const step = { note: () => undefined };

async function registry(): Promise<TestRegistry> {
  const started = await startTestRegistry();
  onTestFinished(() => started.close());
  return started;
}

/** An image on a base in `from`, and the place of that base. */
async function imageOn(from: TestRegistry) {
  const reference = from.put('base:1', await testImage({ files: [{ path: '/file', content: 'base' }] }));
  const client = new RegistryClient({ registry: from.host });
  const base = await readBaseImage(reference, client, ownArchitecture, {});
  const folder = await mkdtemp(join(tmpdir(), 'esb-push-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, 'app.py'), 'code');
  const file = `${folder}/layer.tar.gz`;
  const layer = { ...(await writeLayerEntries(await layerEntries(folder), file)), file, holds: 'code' };
  const image = functionImage(base, [layer], { cmd: ['app.handler'], workingDir: '/var/task' });
  return { image, source: { client, reference: parseImageReference(reference) } };
}

const pushesOf = ({ requests }: TestRegistry): readonly string[] =>
  requests.filter((each) => /^(POST|PUT) /.test(each)).map((each) => each.replace(/[0-9a-f-]{36}\?.*|sha256.*/, '…'));

it('an image is pushed with the layers of a base in another registry, and once', async () => {
  const from = await registry();
  const to = await registry();
  const { image, source } = await imageOn(from);
  const target = { client: new RegistryClient({ registry: to.host }), repository: 'team/hello' };
  expect(await pushImage(image, target, source, step, {})).toBe(true);
  const found = await target.client.manifest('team/hello', tagOf(image));
  expect(found.digest).toBe(image.digest);
  const { config, layers } = JSON.parse(found.content.toString()) as {
    readonly config: { readonly digest: string };
    readonly layers: readonly { readonly digest: string }[];
  };
  for (const { digest } of [config, ...layers]) {
    expect(await target.client.hasBlob('team/hello', digest)).toBe(true);
  }
  const pushes = pushesOf(to);
  expect(await pushImage(image, target, source, step, {})).toBe(false);
  expect(pushesOf(to)).toEqual(pushes);
});

it('layers of a base in the same registry are mounted', async () => {
  const place = await registry();
  const { image, source } = await imageOn(place);
  const target = { client: new RegistryClient({ registry: place.host }), repository: 'team/hello' };
  await pushImage(image, target, source, step, {});
  // One mount; code and configuration are begun and sent.
  expect(pushesOf(place).filter((each) => each.startsWith('PUT'))).toHaveLength(3);
  expect(place.requests.filter((each) => each.includes('from=base'))).toHaveLength(1);
});

describe('a push that meets a fault', () => {
  const firstDelayMs = 1;

  it('is tried again where that passes: a cut connection, or a registry that has no time', async () => {
    const place = await registry();
    const { image, source } = await imageOn(place);
    const target = { client: new RegistryClient({ registry: place.host }), repository: 'team/hello' };
    place.pushFaults.push(503, 'cut', 429);
    const notes: string[] = [];
    const noted = { note: (text: string) => void notes.push(text) };
    expect(await pushImage(image, target, source, noted, { firstDelayMs })).toBe(true);
    expect(await target.client.hasManifest('team/hello', tagOf(image))).toBe(true);
    expect(notes.filter((note) => note.startsWith('again'))).toHaveLength(3);
  });

  it('ends with that fault where that goes on', async () => {
    const place = await registry();
    const { image, source } = await imageOn(place);
    const target = { client: new RegistryClient({ registry: place.host }), repository: 'team/hello' };
    place.pushFaults.push(503, 503, 503, 503);
    await expect(pushImage(image, target, source, step, { firstDelayMs })).rejects.toThrow(/answered 503: UNAVAILABLE/);
    expect(place.pushFaults).toEqual([]);
  });

  it('is not tried again where the registry refuses, or has no such name', async () => {
    const place = await registry();
    const { image, source } = await imageOn(place);
    place.pushRefusal = 'read only';
    const target = { client: new RegistryClient({ registry: place.host }), repository: 'team/hello' };
    await expect(pushImage(image, target, source, step, {})).rejects.toThrow('read only');
    // With a mount, which some registries refuse alone, and without.
    expect(pushesOf(place)).toHaveLength(2);
    const nobody = { client: new RegistryClient({ registry: 'registry.invalid' }), repository: 'team/hello' };
    const begun = performance.now();
    await expect(pushImage(image, nobody, source, step, {})).rejects.toMatchObject({ code: 'RegistryUnreachable' });
    expect(performance.now() - begun).toBeLessThan(900);
  });
});
