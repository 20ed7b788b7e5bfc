import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { pack as createPack, type Pack } from 'tar-stream';

/** The description of a layer in an OCI image. */
export interface LayerDescriptor {
  /** `sha256:…` of the compressed file. */
  readonly digest: string;
  /** `sha256:…` of the tar archive in it. */
  readonly diffId: string;
  /** Bytes of the compressed file. */
  readonly size: number;
}

/** The same for every build: the same content has the same digest. */
const MODIFIED = new Date(0);

/**
 * Writes everything below `folder` as one compressed layer, sorted, owned by root, with fixed times. Errors are those
 * of the file system.
 */
export async function writeLayer(folder: string, file: string): Promise<LayerDescriptor> {
  const archive = createPack();
  const uncompressed = createHash('sha256');
  const compressed = createHash('sha256');
  let size = 0;
  const counted = new PassThrough();
  counted.on('data', (chunk: Buffer) => {
    compressed.update(chunk);
    size += chunk.length;
  });
  const source = new PassThrough();
  source.on('data', (chunk: Buffer) => uncompressed.update(chunk));
  const written = pipeline(archive, source, createGzip({ level: 6 }), counted, createWriteStream(file));
  const filled = addFolder(archive, folder, '').then(() => archive.finalize());
  await Promise.all([written, filled]);
  return {
    digest: `sha256:${compressed.digest('hex')}`,
    diffId: `sha256:${uncompressed.digest('hex')}`,
    size,
  };
}

async function addFolder(archive: Pack, folder: string, prefix: string): Promise<void> {
  for (const name of (await readdir(folder)).sort()) {
    const path = join(folder, name);
    const entryName = `${prefix}${name}`;
    const found = await lstat(path);
    const header = { name: entryName, mode: found.mode & 0o7777, uid: 0, gid: 0, mtime: MODIFIED };
    if (found.isDirectory()) {
      archive.entry({ ...header, name: `${entryName}/`, type: 'directory' });
      await addFolder(archive, path, `${entryName}/`);
    } else if (found.isSymbolicLink()) {
      archive.entry({ ...header, type: 'symlink', linkname: await readlink(path) });
    } else if (found.isFile()) {
      await pipeline(createReadStream(path), archive.entry({ ...header, type: 'file', size: found.size }));
    }
  }
}
