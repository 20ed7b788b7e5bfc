import { chmod, mkdir, mkdtemp, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { describe, expect, it, onTestFinished } from 'vitest';
import { hasCode } from '../../../src/common/errors.ts';
import { layerEntries, writeLayer, writeLayerEntries } from '../../../src/oci/image-layer.ts';

async function sampleFolder(): Promise<{ readonly root: string; readonly file: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-layer-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const root = join(folder, 'root');
  await mkdir(join(root, 'usr/bin'), { recursive: true });
  await writeFile(join(root, 'usr/bin/tool'), 'program');
  await chmod(join(root, 'usr/bin/tool'), 0o755);
  await symlink('usr/bin', join(root, 'bin'));
  return { root, file: join(folder, 'layer.tar.gz') };
}

describe('an image layer', () => {
  it('holds files, folders and links, owned by root', async () => {
    const { root, file } = await sampleFolder();
    await writeLayer(root, file);
    const entries: string[] = [];
    const reader = extract();
    reader.on('entry', (header, stream, next) => {
      entries.push(`${header.type} ${header.name} ${header.uid} ${(header.mode ?? 0).toString(8)}`);
      stream.on('end', next).resume();
    });
    const done = Promise.withResolvers<void>();
    reader.on('finish', () => done.resolve());
    reader.end(gunzipSync(await readFile(file)));
    await done.promise;
    expect(entries.map((entry) => entry.split(' ').slice(0, 3).join(' '))).toEqual([
      'symlink bin 0',
      'directory usr/ 0',
      'directory usr/bin/ 0',
      'file usr/bin/tool 0',
    ]);
    expect(entries[3]).toMatch(/ 755$/);
  });

  it('is the same for the same content, whenever it was written', async () => {
    const one = await sampleFolder();
    const other = await sampleFolder();
    await utimes(join(other.root, 'usr/bin/tool'), new Date(1000), new Date(1000));
    const first = await writeLayer(one.root, one.file);
    expect(await writeLayer(other.root, other.file)).toEqual(first);
    await writeFile(join(other.root, 'usr/bin/tool'), 'other program');
    expect((await writeLayer(other.root, other.file)).digest).not.toBe(first.digest);
  });

  it('puts entries below a folder of the image, without what is left out, and says of modes only who may execute', async () => {
    const { root } = await sampleFolder();
    await mkdir(join(root, 'usr/share'));
    await writeFile(join(root, 'usr/share/page'), 'text');
    await chmod(join(root, 'usr/share'), 0o700);
    await chmod(join(root, 'usr/share/page'), 0o600);
    const entries = await layerEntries(root, {
      below: 'var/task',
      isLeftOut: (path) => path === 'usr/bin',
      plainModes: true,
    });
    expect(entries.map(({ kind, mode, name }) => `${kind} ${name} ${mode.toString(8)}`)).toEqual([
      'link var/task/bin 777',
      'folder var/task/usr 755',
      'folder var/task/usr/share 755',
      'file var/task/usr/share/page 644',
    ]);
  });

  it('is the same for files that users with other masks have made', async () => {
    const one = await sampleFolder();
    const other = await sampleFolder();
    await chmod(join(other.root, 'usr/bin/tool'), 0o700);
    const write = async ({ file, root }: typeof one) =>
      writeLayerEntries(await layerEntries(root, { plainModes: true }), file);
    expect(await write(other)).toEqual(await write(one));
  });

  it('of a file that is another one by now is refused by the name of the file', async () => {
    const { root, file } = await sampleFolder();
    const entries = await layerEntries(root);
    await writeFile(join(root, 'usr/bin/tool'), 'a longer program');
    await expect(writeLayerEntries(entries, file)).rejects.toSatisfy(
      (error) => hasCode(error, 'InvalidArgument') && error.message.includes(`${join(root, 'usr/bin/tool')} cannot be`),
    );
    await rm(join(root, 'usr/bin/tool'));
    await expect(writeLayerEntries(entries, file)).rejects.toThrow(/tool cannot be packed: ENOENT/);
  });

  it('is given up when its user does not want it any more', async () => {
    const { root, file } = await sampleFolder();
    const entries = await layerEntries(root);
    const stop = new AbortController();
    const written = writeLayerEntries(entries, file, { signal: stop.signal });
    stop.abort();
    await expect(written).rejects.toSatisfy((error) => hasCode(error, 'Aborted'));
    await expect(layerEntries(root, { signal: stop.signal })).rejects.toSatisfy((error) => hasCode(error, 'Aborted'));
  });
});
