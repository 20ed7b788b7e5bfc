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

/** One entry of a layer. Its name is its path in the image, without a slash at either end. */
export type LayerEntry = { readonly name: string; readonly mode: number } & (
  | { readonly kind: 'folder' }
  | { readonly kind: 'link'; readonly target: string }
  /** `path` is the file on this machine, of `size` bytes. */
  | { readonly kind: 'file'; readonly path: string; readonly size: number }
);

export interface EntriesOptions {
  /** Folder of the image that the entries are put into, such as `var/task`. Default: the root. */
  readonly below?: string;
  /** Whether a path below the folder is left out, with everything in it. Default: none is. */
  readonly isLeftOut?: (path: string) => boolean;
  /** Whether modes say no more than who may execute: users with different masks then make the same. Default false. */
  readonly plainModes?: boolean;
}

/** The same for every build: the same content has the same digest. */
const MODIFIED = new Date(0);

/**
 * Writes everything below `folder` as one compressed layer, sorted, owned by root, with fixed times. Errors are those
 * of the file system.
 */
export async function writeLayer(folder: string, file: string): Promise<LayerDescriptor> {
  return writeLayerEntries(await layerEntries(folder), file);
}

/** The entries of everything below `folder`, a folder before what is in it, each folder by name. */
export async function layerEntries(folder: string, options: EntriesOptions = {}): Promise<readonly LayerEntry[]> {
  const { below = '', isLeftOut = () => false, plainModes = false } = options;
  const entries: LayerEntry[] = [];
  const add = async (path: string): Promise<void> => {
    for (const child of (await readdir(join(folder, path))).toSorted()) {
      const at = join(path, child);
      if (isLeftOut(at)) {
        continue;
      }
      const file = join(folder, at);
      const found = await lstat(file);
      const name = join(below, at);
      const plain = found.isDirectory() || (found.mode & 0o111) !== 0 ? 0o755 : 0o644;
      const mode = plainModes ? plain : found.mode & 0o7777;
      if (found.isDirectory()) {
        entries.push({ kind: 'folder', name, mode });
        await add(at);
      } else if (found.isSymbolicLink()) {
        // Links have no mode of their own.
        entries.push({ kind: 'link', name, mode: 0o777, target: await readlink(file) });
      } else if (found.isFile()) {
        entries.push({ kind: 'file', name, mode, path: file, size: found.size });
      }
    }
  };
  await add('');
  return entries;
}

/** Writes entries as one compressed layer, in their order, owned by root, with fixed times. */
export async function writeLayerEntries(entries: readonly LayerEntry[], file: string): Promise<LayerDescriptor> {
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
  const filled = fill(archive, entries).then(() => archive.finalize());
  await Promise.all([written, filled]);
  return {
    digest: `sha256:${compressed.digest('hex')}`,
    diffId: `sha256:${uncompressed.digest('hex')}`,
    size,
  };
}

async function fill(archive: Pack, entries: readonly LayerEntry[]): Promise<void> {
  for (const entry of entries) {
    const header = { name: entry.name, mode: entry.mode, uid: 0, gid: 0, mtime: MODIFIED };
    switch (entry.kind) {
      case 'folder':
        archive.entry({ ...header, name: `${entry.name}/`, type: 'directory' });
        break;
      case 'link':
        archive.entry({ ...header, type: 'symlink', linkname: entry.target });
        break;
      case 'file':
        await pipeline(createReadStream(entry.path), archive.entry({ ...header, type: 'file', size: entry.size }));
        break;
      default:
        entry satisfies never;
    }
  }
}
