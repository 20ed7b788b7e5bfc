import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { run } from './command.ts';

export interface TestImageFile {
  readonly path: string;
  readonly content: Buffer | string;
  readonly mode?: number;
}

export interface TestImageOptions {
  /** Default: a worker that answers at once, named as the emulator is. */
  readonly files?: readonly TestImageFile[];
  /** Default: the worker. Null for none. */
  readonly entrypoint?: readonly string[] | null;
  readonly cmd?: readonly string[];
  readonly env?: readonly string[];
  readonly user?: string;
  readonly architecture?: string;
}

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

/** Where the test worker is within its image. */
export const WORKER_PATH = '/usr/local/bin/aws-lambda-rie';

const source = fileURLToPath(new URL('./test-worker', import.meta.url));

/** The test worker as a static program, built once per version of its source. */
async function workerProgram(): Promise<Buffer> {
  const hash = createHash('sha256');
  hash.update(await readFile(join(source, 'main.go')));
  const folder = join(tmpdir(), 'esb-test-worker');
  const program = join(folder, hash.digest('hex').slice(0, 16));
  if (!existsSync(program)) {
    await mkdir(folder, { recursive: true });
    const fresh = `${program}.${randomUUID()}`;
    await run('go', ['build', '-trimpath', '-ldflags', '-s -w', '-o', fresh, '.'], {
      cwd: source,
      env: { CGO_ENABLED: '0', GOFLAGS: '-buildvcs=false', GOWORK: 'off' },
      timeoutMs: 300_000,
    });
    await rename(fresh, program);
  }
  return await readFile(program);
}

/** The test worker, for images that hold more than it. */
export async function workerFiles(): Promise<readonly TestImageFile[]> {
  return [{ path: WORKER_PATH, content: await workerProgram(), mode: 0o755 }];
}

/** Makes an image with one layer. */
export async function testImage(options: TestImageOptions = {}): Promise<TestImage> {
  const files = options.files ?? (await workerFiles());
  const tar = await tarOf(files);
  const layer = blobOf('application/vnd.oci.image.layer.v1.tar+gzip', gzipSync(tar, { level: 1 }));
  const config = blobOf(
    'application/vnd.oci.image.config.v1+json',
    json({
      architecture: options.architecture ?? (process.arch === 'x64' ? 'amd64' : process.arch),
      os: 'linux',
      config: {
        Entrypoint: options.entrypoint === undefined ? [WORKER_PATH] : options.entrypoint,
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

async function tarOf(files: readonly TestImageFile[]): Promise<Buffer> {
  const archive = pack();
  const folders = new Set(['/tmp', '/proc', '/sys', '/dev', '/etc']);
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
