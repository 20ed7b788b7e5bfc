import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { goProgram } from './built-program.ts';

export interface TestImageFile {
  readonly path: string;
  readonly content: Buffer | string;
  readonly mode?: number;
}

export interface TestImageOptions {
  /** Folders without files. Default: those that a worker has mounts over. */
  readonly folders?: readonly string[];
  /** Default: a worker that answers at once, named as the emulator is. */
  readonly files?: readonly TestImageFile[];
  /** Default: the worker, as the emulator and as the runtime behind it. Null for none. */
  readonly entrypoint?: readonly string[] | null;
  readonly cmd?: readonly string[];
  readonly env?: readonly string[];
  readonly user?: string;
  readonly architecture?: string;
  /** Default gzip. */
  readonly compression?: keyof typeof compressions;
}

const compressions = {
  gzip: { suffix: '+gzip', compress: (tar: Buffer) => gzipSync(tar, { level: 1 }) },
  zstd: { suffix: '+zstd', compress: (tar: Buffer) => zstdCompressSync(tar) },
  none: { suffix: '', compress: (tar: Buffer) => tar },
} as const;

export interface Blob {
  readonly digest: string;
  readonly mediaType: string;
  readonly content: Buffer;
}

/** An image in memory, ready to be served by a registry. */
export interface TestImage {
  readonly manifest: Blob;
  readonly blobs: readonly Blob[];
}

/** An index in memory with its images. */
export interface TestIndex {
  readonly index: Blob;
  readonly images: readonly TestImage[];
}

/** Where the test worker is within its image. */
export const WORKER_PATH = '/usr/local/bin/aws-lambda-rie';

/** The processor of this machine, as images name it. */
export const ownArchitecture = process.arch === 'x64' ? 'amd64' : process.arch;

const source = fileURLToPath(new URL('./test-worker', import.meta.url));

/** The test worker as a static program, built once for each version of its source. */
export async function workerProgram(): Promise<Buffer> {
  return await readFile(await goProgram('test-worker', source));
}

/** The test worker, for images that hold more than it. */
export async function workerFiles(): Promise<readonly TestImageFile[]> {
  return [{ path: WORKER_PATH, content: await workerProgram(), mode: 0o755 }];
}

/** Makes an image with one layer. */
export async function testImage(options: TestImageOptions = {}): Promise<TestImage> {
  const files = options.files ?? (await workerFiles());
  const tar = await tarOf(files, options.folders);
  const { suffix, compress } = compressions[options.compression ?? 'gzip'];
  const layer = blobOf(`application/vnd.oci.image.layer.v1.tar${suffix}`, compress(tar));
  const config = blobOf(
    'application/vnd.oci.image.config.v1+json',
    json({
      architecture: options.architecture ?? ownArchitecture,
      os: 'linux',
      config: {
        Entrypoint: options.entrypoint === undefined ? [WORKER_PATH, WORKER_PATH] : options.entrypoint,
        Cmd: options.cmd ?? null,
        Env: options.env ?? [],
        User: options.user ?? '',
      },
      rootfs: { type: 'layers', diff_ids: [digestOf(tar)] },
    }),
  );
  const manifest = blobOf(
    'application/vnd.oci.image.manifest.v1+json',
    json({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: descriptorOf(config),
      layers: [descriptorOf(layer)],
    }),
  );
  return { manifest, blobs: [layer, config] };
}

/** Makes an index of images for several platforms, with an attestation as build tools add them. */
export function testIndex(
  entries: readonly { readonly image: TestImage; readonly architecture: string; readonly variant?: string }[],
): TestIndex {
  const attestation = attestationOf(entries[0]?.image.manifest.digest ?? '');
  const manifests = [
    {
      ...descriptorOf(attestation.manifest),
      platform: { os: 'unknown', architecture: 'unknown' },
      annotations: { 'vnd.docker.reference.type': 'attestation-manifest' },
    },
    ...entries.map(({ image, architecture, variant }) => ({
      ...descriptorOf(image.manifest),
      platform: { os: 'linux', architecture, ...(variant === undefined ? {} : { variant }) },
    })),
  ];
  const mediaType = 'application/vnd.oci.image.index.v1+json';
  return {
    index: blobOf(mediaType, json({ schemaVersion: 2, mediaType, manifests })),
    images: [attestation, ...entries.map(({ image }) => image)],
  };
}

function attestationOf(subject: string): TestImage {
  const layer = blobOf('application/vnd.in-toto+json', json({ subject }));
  const config = blobOf(
    'application/vnd.oci.image.config.v1+json',
    json({
      architecture: 'unknown',
      os: 'unknown',
      config: {},
      rootfs: { type: 'layers', diff_ids: [layer.digest] },
    }),
  );
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = blobOf(
    mediaType,
    json({ schemaVersion: 2, mediaType, config: descriptorOf(config), layers: [descriptorOf(layer)] }),
  );
  return { manifest, blobs: [layer, config] };
}

async function tarOf(
  files: readonly TestImageFile[],
  emptyFolders: readonly string[] = ['/tmp', '/proc', '/sys', '/dev', '/etc'],
): Promise<Buffer> {
  const archive = pack();
  const folders = new Set(emptyFolders);
  for (const { path } of files) {
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      folders.add(path.slice(0, end));
    }
  }
  for (const folder of [...folders].toSorted()) {
    archive.entry({ name: `${folder.slice(1)}/`, type: 'directory', mode: 0o755 });
  }
  for (const { path, content, mode } of files) {
    archive.entry({ name: path.slice(1), mode: mode ?? 0o644 }, content);
  }
  archive.finalize();
  const parts: Buffer[] = [];
  for await (const part of archive) {
    parts.push(part as Buffer);
  }
  return Buffer.concat(parts);
}

/** An image of an OCI layout on disk, as `writeImageLayout` makes them: with one manifest. */
export async function layoutImage(folder: string): Promise<TestImage> {
  type Descriptor = { readonly digest: string; readonly mediaType: string };
  const load = async ({ digest, mediaType }: Descriptor): Promise<Blob> => ({
    digest,
    mediaType,
    content: await readFile(join(folder, 'blobs', ...digest.split(':'))),
  });
  const index = JSON.parse(await readFile(join(folder, 'index.json'), 'utf8')) as {
    readonly manifests: readonly [Descriptor];
  };
  const manifest = await load(index.manifests[0]);
  const { config, layers } = JSON.parse(manifest.content.toString()) as {
    readonly config: Descriptor;
    readonly layers: readonly Descriptor[];
  };
  return { manifest, blobs: await Promise.all([config, ...layers].map(load)) };
}

/** Image with one more layer. */
export async function withFiles({ blobs, manifest }: TestImage, files: readonly TestImageFile[]): Promise<TestImage> {
  const tar = await tarOf(files);
  const layer = blobOf('application/vnd.oci.image.layer.v1.tar+gzip', compressions.gzip.compress(tar));
  const told = JSON.parse(manifest.content.toString()) as { config: { digest: string }; layers: unknown[] };
  const before = blobs.find(({ digest }) => digest === told.config.digest);
  const settings = JSON.parse(before?.content.toString() ?? '') as { rootfs: { diff_ids: string[] } };
  settings.rootfs.diff_ids.push(digestOf(tar));
  const config = blobOf(before?.mediaType ?? '', json(settings));
  const layers = [...told.layers, descriptorOf(layer)];
  return {
    manifest: blobOf(manifest.mediaType, json({ ...told, config: descriptorOf(config), layers })),
    blobs: [...blobs.filter((blob) => blob !== before), config, layer],
  };
}

function blobOf(mediaType: string, content: Buffer): Blob {
  return { mediaType, content, digest: digestOf(content) };
}

function digestOf(content: Buffer): string {
  return `sha256:${createHash('sha256').update(content).digest('hex')}`;
}

function descriptorOf(blob: Blob): Readonly<Record<string, unknown>> {
  return { mediaType: blob.mediaType, digest: blob.digest, size: blob.content.length };
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
