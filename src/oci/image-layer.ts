import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { pack as createPack, type Pack } from 'tar-stream';
import { AbortedError, type CallOptions } from '../common/deadline.ts';
import { EsbError, messageOf } from '../common/errors.ts';

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
  /** Ends the work with `Aborted`. */
  readonly signal?: AbortSignal | undefined;
}

/** Time of each file, equal for every build: equal content has one digest. */
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
  const { below = '', isLeftOut = () => false, plainModes = false, signal } = options;
  const entries: LayerEntry[] = [];
  const add = async (path: string): Promise<void> => {
    for (const child of (await readdir(join(folder, path))).toSorted()) {
      if (signal?.aborted === true) {
        throw new AbortedError(`the look at ${folder}`, signal.reason);
      }
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

/**
 * Writes entries as one compressed layer, in their order, owned by root, with fixed times.
 *
 * @throws {EsbError} `InvalidArgument` for a file that cannot be read, or changes meanwhile; `Aborted`; errors of the
 *   file system for the layer
 */
export async function writeLayerEntries(
  entries: readonly LayerEntry[],
  file: string,
  { signal }: Pick<CallOptions, 'signal'> = {},
): Promise<LayerDescriptor> {
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
  const ending = signal === undefined ? {} : { signal };
  const written = pipeline(archive, source, createGzip({ level: 6 }), counted, createWriteStream(file), ending);
  const filled = fill(archive, entries).then(
    () => archive.finalize(),
    (error: unknown) => {
      archive.destroy(error instanceof Error ? error : undefined);
      throw error;
    },
  );
  const ends = await Promise.allSettled([filled, written]);
  if (signal?.aborted === true) {
    throw new AbortedError(`the making of ${file}`, signal.reason);
  }
  for (const end of ends) {
    if (end.status === 'rejected') {
      throw end.reason;
    }
  }
  return {
    digest: `sha256:${compressed.digest('hex')}`,
    diffId: `sha256:${uncompressed.digest('hex')}`,
    size,
  };
}

/** An archive that is given up tells each of its entries; its own error is the one that counts. */
const ignored = (): void => undefined;

async function fill(archive: Pack, entries: readonly LayerEntry[]): Promise<void> {
  for (const entry of entries) {
    const header = { name: entry.name, mode: entry.mode, uid: 0, gid: 0, mtime: MODIFIED };
    switch (entry.kind) {
      case 'folder':
        archive.entry({ ...header, name: `${entry.name}/`, type: 'directory' }).on('error', ignored);
        break;
      case 'link':
        archive.entry({ ...header, type: 'symlink', linkname: entry.target }).on('error', ignored);
        break;
      case 'file':
        try {
          await pipeline(createReadStream(entry.path), archive.entry({ ...header, type: 'file', size: entry.size }));
        } catch (error) {
          throw new EsbError(`${entry.path} cannot be packed: ${messageOf(error)}`, {
            code: 'InvalidArgument',
            cause: error,
          });
        }
        break;
      default:
        entry satisfies never;
    }
  }
}
