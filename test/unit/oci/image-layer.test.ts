import { chmod, mkdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { describe, expect, it } from 'vitest';
import { hasCode } from '../../../src/common/errors.ts';
import { layerEntries, writeLayer, writeLayerEntries } from '../../../src/oci/image-layer.ts';
import { layerFolder } from '../../support/layer-folder.ts';

describe('an image layer', () => {
  it('holds files, folders and links, owned by root', async () => {
    const { root, file } = await layerFolder();
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
    const one = await layerFolder();
    const other = await layerFolder();
    await utimes(join(other.root, 'usr/bin/tool'), new Date(1000), new Date(1000));
    const first = await writeLayer(one.root, one.file);
    expect(await writeLayer(other.root, other.file)).toEqual(first);
    await writeFile(join(other.root, 'usr/bin/tool'), 'other program');
    expect((await writeLayer(other.root, other.file)).digest).not.toBe(first.digest);
  });

  it('puts entries below a folder of the image, without what is left out, and says of modes only who may execute', async () => {
    const { root } = await layerFolder();
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
    const one = await layerFolder();
    const other = await layerFolder();
    await chmod(join(other.root, 'usr/bin/tool'), 0o700);
    const write = async ({ file, root }: typeof one) =>
      writeLayerEntries(await layerEntries(root, { plainModes: true }), file);
    expect(await write(other)).toEqual(await write(one));
  });

  it('of a file that is another one by now is refused by the name of the file', async () => {
    const { root, file } = await layerFolder();
    const entries = await layerEntries(root);
    await writeFile(join(root, 'usr/bin/tool'), 'a longer program');
    await expect(writeLayerEntries(entries, file)).rejects.toSatisfy(
      (error) => hasCode(error, 'InvalidArgument') && error.message.includes(`${join(root, 'usr/bin/tool')} cannot be`),
    );
    await rm(join(root, 'usr/bin/tool'));
    await expect(writeLayerEntries(entries, file)).rejects.toThrow(/tool cannot be packed: ENOENT/);
  });

  it('is given up when its user does not want it any more', async () => {
    const { root, file } = await layerFolder();
    const entries = await layerEntries(root);
    const stop = new AbortController();
    const written = writeLayerEntries(entries, file, { signal: stop.signal });
    stop.abort();
    await expect(written).rejects.toSatisfy((error) => hasCode(error, 'Aborted'));
    await expect(layerEntries(root, { signal: stop.signal })).rejects.toSatisfy((error) => hasCode(error, 'Aborted'));
  });
});
