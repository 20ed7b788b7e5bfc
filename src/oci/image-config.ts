import { createHash } from 'node:crypto';
import type { CallOptions } from '../common/deadline.ts';
import { EsbError } from '../common/errors.ts';

/** Reference to a piece of content (OCI image specification, "Content Descriptors"). */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly platform?: Partial<Platform>;
}

/** Operating system and processor of an image, in Go's names. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  /** Such as `v7` of arm or `v8` of arm64. */
  readonly variant?: string;
}

/** Reads a blob of the node's content store. */
export interface ContentReader {
  read(digest: string, options?: CallOptions): Promise<Buffer>;
}

/** An image's configuration of its process; absent fields are empty. */
export interface ImageConfig {
  /** `NAME=value`, in order. */
  readonly env: readonly string[];
  /** Verbatim: `''`, `uid`, `name`, either with `:group`. */
  readonly user: string;
  /** Empty when the image names none. */
  readonly workingDir: string;
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** Digests of the uncompressed layers, lowest first. */
  readonly diffIds: readonly string[];
  /** The author's words, in Go's names. Isolation never depends on them. */
  readonly platform: Platform;
}

/** An image for one platform. */
export interface ResolvedImage {
  readonly config: ImageConfig;
  /** Name of the snapshot with all layers. */
  readonly chainId: string;
}

type Fields = Readonly<Record<string, unknown>>;

const INDEX_TYPES: ReadonlySet<string> = new Set([
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
]);
const MANIFEST_TYPES: ReadonlySet<string> = new Set([
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
]);
const CONFIG_TYPES: ReadonlySet<string> = new Set([
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
]);
/** Bound of nested indexes. */
const MAX_INDEX_DEPTH = 4;
/** containerd's own bound; manifests and configurations have a few kilobytes. */
const MAX_DOCUMENT_BYTES = 8 * 1024 * 1024;

/** Go's names of processors by those of Node.js, `uname` and authors of images. */
const ARCHITECTURES: ReadonlyMap<string, string> = new Map([
  ['x64', 'amd64'],
  ['x86_64', 'amd64'],
  ['x86-64', 'amd64'],
  ['aarch64', 'arm64'],
  ['ia32', '386'],
  ['i386', '386'],
  ['ppc64le', 'ppc64le'],
]);

/** The Linux platform of a processor as Node.js (`process.arch`), `uname` or Go name it. */
export function linuxPlatform(architecture: string): Platform {
  return { os: 'linux', architecture: architectureOf(architecture) };
}

function architectureOf(name: string): string {
  const lower = name.toLowerCase();
  return ARCHITECTURES.get(lower) ?? lower;
}

/**
 * Follows an image from its descriptor (index or manifest, OCI or Docker) to the configuration for `platform`.
 *
 * @throws {EsbError} `ImageInvalid` when the documents are no runnable image, `ImageWrongPlatform` when none is for the
 *   platform; errors of `content`
 */
export async function resolveImage(
  content: ContentReader,
  target: Descriptor,
  platform: Platform,
  options: CallOptions = {},
): Promise<ResolvedImage> {
  const manifest = await findManifest(content, target, platform, options, 0);
  const { digest, mediaType } = readDescriptor(manifest.document.config, `manifest ${manifest.digest}`);
  if (!CONFIG_TYPES.has(mediaType)) {
    throw invalid(
      `manifest ${manifest.digest} is not a container image: its configuration has the media type ${mediaType}`,
    );
  }
  const config = parseImageConfig(await readDocument(content, digest, options), digest);
  checkPlatform(config, platform);
  return { config, chainId: chainIdOf(config.diffIds) };
}

/**
 * Checks the configuration of an image of which no more is there.
 *
 * @throws {EsbError} `ImageInvalid` when it is none, `ImageWrongPlatform` for another platform; errors of `content`
 */
export async function checkImageConfig(
  content: ContentReader,
  digest: string,
  platform: Platform,
  options: CallOptions = {},
): Promise<void> {
  checkPlatform(parseImageConfig(await readDocument(content, digest, options), digest), platform);
}

/** @throws {EsbError} `ImageWrongPlatform` for an image that is made for another platform */
export function checkPlatform({ platform }: ImageConfig, node: Platform): void {
  // Tools that stack layers without building leave the architecture empty: such an image runs anywhere.
  if (platform.architecture !== '' && !matches(platform, node)) {
    throw wrongPlatform(`the image is for ${describe(platform)}, this node is ${describe(node)}`);
  }
}

/**
 * Checks the platforms that an image is offered for.
 *
 * @throws {EsbError} `ImageWrongPlatform` when none is the node's
 */
export function checkOffered(offered: readonly Platform[], node: Platform): void {
  if (!offered.some((platform) => platform.architecture === '' || matches(platform, node))) {
    throw wrongPlatform(notOffered(offered, node));
  }
}

function notOffered(offered: readonly Partial<Platform>[], node: Platform): string {
  const names = [...new Set(offered.map(describe))].filter((name) => name !== 'unknown/unknown');
  return `the image is not made for ${describe(node)}; it offers ${names.join(', ') || 'nothing'}`;
}

/**
 * The chain id of a stack of layers: `ChainID(L0) = DiffID(L0)`, `ChainID(L0..Ln) = SHA256(ChainID(L0..Ln-1) + " " +
 * DiffID(Ln))` (OCI image specification, "Layer ChainID").
 *
 * @throws {EsbError} `ImageInvalid` when there is no layer
 */
export function chainIdOf(diffIds: readonly string[]): string {
  const [first, ...others] = diffIds;
  if (first === undefined) {
    throw invalid('the image has no layers');
  }
  return others.reduce(
    (chain, diffId) => `sha256:${createHash('sha256').update(`${chain} ${diffId}`).digest('hex')}`,
    first,
  );
}

/** Reads an image configuration document (OCI or Docker; the fields are the same). */
export function parseImageConfig(document: Fields, digest: string): ImageConfig {
  const where = `image configuration ${digest}`;
  const config = optionalObject(document.config, where, 'config');
  const rootfs = optionalObject(document.rootfs, where, 'rootfs');
  return {
    env: strings(config.Env, where, 'Env'),
    user: text(config.User, where, 'User'),
    workingDir: text(config.WorkingDir, where, 'WorkingDir'),
    entrypoint: strings(config.Entrypoint, where, 'Entrypoint'),
    cmd: strings(config.Cmd, where, 'Cmd'),
    diffIds: strings(rootfs.diff_ids, where, 'diff_ids'),
    platform: readPlatform(document, where),
  };
}

/** The author's platform in Go's names; the architecture may be empty. */
function readPlatform(fields: Fields, where: string): Platform {
  const { variant } = fields;
  return {
    os: (text(fields.os, where, 'os') || 'linux').toLowerCase(),
    architecture: architectureOf(text(fields.architecture, where, 'architecture')),
    ...(typeof variant === 'string' && variant !== '' ? { variant } : {}),
  };
}

/**
 * Follows an image from its descriptor to the manifest for `platform`. A manifest that is no member of an index is not
 * asked for its platform: its configuration has it.
 *
 * @throws {EsbError} as {@link resolveImage}
 */
export async function resolveManifest(
  content: ContentReader,
  target: Descriptor,
  platform: Platform,
  options: CallOptions = {},
): Promise<{ readonly digest: string; readonly document: Fields }> {
  return findManifest(content, target, platform, options, 0);
}

async function findManifest(
  content: ContentReader,
  { digest, mediaType }: Descriptor,
  platform: Platform,
  options: CallOptions,
  depth: number,
): Promise<{ readonly digest: string; readonly document: Fields }> {
  const document = await readDocument(content, digest, options);
  if (MANIFEST_TYPES.has(mediaType)) {
    return { digest, document };
  }
  if (!INDEX_TYPES.has(mediaType)) {
    throw invalid(`${digest} has the media type ${mediaType}, which is neither an image manifest nor an index`);
  }
  const where = `index ${digest}`;
  if (depth >= MAX_INDEX_DEPTH) {
    throw invalid(`${where} is nested deeper than ${MAX_INDEX_DEPTH} levels`);
  }
  const entries = list(document.manifests, where, 'manifests').map((entry) => readDescriptor(entry, where));
  const chosen = choosePlatform(entries, platform);
  if (chosen === undefined) {
    const offered = entries.flatMap((entry) => (entry.platform === undefined ? [] : [entry.platform]));
    throw wrongPlatform(notOffered(offered, platform));
  }
  return findManifest(content, chosen, platform, options, depth + 1);
}

/** The entry for the platform: the same variant first, then one with another variant or none. */
function choosePlatform(entries: readonly Descriptor[], platform: Platform): Descriptor | undefined {
  const fitting = entries.filter((entry) => entry.platform !== undefined && matches(entry.platform, platform));
  return (
    fitting.find((entry) => entry.platform?.variant === platform.variant) ??
    fitting[0] ??
    // An index without platforms (some build tools write one for a single image) leaves the check to the configuration.
    entries.find((entry) => entry.platform === undefined)
  );
}

function matches({ os, architecture, variant }: Partial<Platform>, wanted: Platform): boolean {
  const sameVariant = variant === undefined || wanted.variant === undefined || variant === wanted.variant;
  return os === wanted.os && architecture === wanted.architecture && sameVariant;
}

function describe(platform: Partial<Platform>): string {
  const parts = [platform.os ?? 'unknown', platform.architecture ?? 'unknown'];
  return [...parts, ...(platform.variant ? [platform.variant] : [])].join('/');
}

async function readDocument(content: ContentReader, digest: string, options: CallOptions): Promise<Fields> {
  const bytes = await content.read(digest, options);
  if (bytes.length > MAX_DOCUMENT_BYTES) {
    throw invalid(`${digest} is larger than ${MAX_DOCUMENT_BYTES} bytes and can be no manifest or configuration`);
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw new EsbError(`${digest} is not JSON`, { code: 'ImageInvalid', cause: error });
  }
  return object(parsed, digest);
}

function readDescriptor(value: unknown, where: string): Descriptor {
  const fields = object(value, `a descriptor of ${where}`);
  const { mediaType, digest } = fields;
  if (typeof mediaType !== 'string' || typeof digest !== 'string') {
    throw invalid(`${where} has a descriptor without mediaType or digest`);
  }
  if (fields.platform === undefined || fields.platform === null) {
    return { mediaType, digest };
  }
  const platform = readPlatform(object(fields.platform, `a platform of ${where}`), where);
  return { mediaType, digest, platform };
}

function object(value: unknown, where: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(`${where} is not a JSON object`);
  }
  return value as Fields;
}

function optionalObject(value: unknown, where: string, field: string): Fields {
  return value === undefined || value === null ? {} : object(value, `${field} of ${where}`);
}

function list(value: unknown, where: string, field: string): readonly unknown[] {
  if (value === undefined || value === null) {
    return [];
  }
  if (!Array.isArray(value)) {
    throw invalid(`${field} of ${where} is not a list`);
  }
  return value;
}

function strings(value: unknown, where: string, field: string): readonly string[] {
  return list(value, where, field).map((entry) => {
    if (typeof entry !== 'string') {
      throw invalid(`${field} of ${where} has an entry that is not text`);
    }
    return entry;
  });
}

function text(value: unknown, where: string, field: string): string {
  if (value === undefined || value === null) {
    return '';
  }
  if (typeof value !== 'string') {
    throw invalid(`${field} of ${where} is not text`);
  }
  return value;
}

function invalid(message: string): EsbError {
  return new EsbError(message, { code: 'ImageInvalid' });
}

function wrongPlatform(message: string): EsbError {
  return new EsbError(message, { code: 'ImageWrongPlatform' });
}
