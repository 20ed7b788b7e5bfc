import type { LayerDescriptor } from '../../oci/image-layer.ts';
import { digestOf } from '../../oci/registry-client.ts';
import type { BaseImage, BaseLayer } from './base-image.ts';

/** A layer that a build adds, and the file with it. */
export interface AddedLayer extends LayerDescriptor {
  readonly file: string;
  /** Content in a word or two, for people. */
  readonly holds: string;
}

/** The settings of the process that differ from those of the base. */
export interface FunctionCommand {
  /** Default: that of the base. */
  readonly entrypoint?: readonly string[];
  readonly cmd: readonly string[];
  readonly workingDir: string;
}

/** The documents of an image. */
export interface FunctionImage {
  /** Digest of the manifest. */
  readonly digest: string;
  readonly manifest: { readonly content: Buffer; readonly mediaType: string };
  readonly config: { readonly content: Buffer; readonly digest: string };
  readonly baseLayers: readonly BaseLayer[];
  readonly added: readonly AddedLayer[];
}

/** Folder of functions in bases that do not say otherwise. */
const TASK_FOLDER = '/var/task';

/** Folder of the function's code in an image: where the base's runtime client looks for it. */
export function taskFolderOf({ config }: BaseImage): string {
  const [, root] =
    config.env.map((each) => /^LAMBDA_TASK_ROOT=(\/.+)$/.exec(each)).find((found) => found !== null) ?? [];
  const { workingDir } = config;
  return root ?? (workingDir === '' || workingDir === '/' ? TASK_FOLDER : workingDir);
}

/**
 * The image of a function: the layers of its base, those that are added, and the configuration of the base with another
 * command. The same input has the same digest.
 */
export function functionImage(
  base: BaseImage,
  added: readonly AddedLayer[],
  { cmd, entrypoint, workingDir }: FunctionCommand,
): FunctionImage {
  const { document } = base;
  const run = document.config as object | null | undefined;
  const { history } = document as { readonly history?: readonly object[] };
  const config = Buffer.from(
    JSON.stringify({
      ...document,
      config: {
        ...run,
        ...(entrypoint === undefined ? {} : { Entrypoint: entrypoint }),
        Cmd: cmd,
        WorkingDir: workingDir,
      },
      rootfs: { type: 'layers', diff_ids: [...base.config.diffIds, ...added.map(({ diffId }) => diffId)] },
      // Each layer has its line there, or the list counts for nothing.
      ...(history === undefined
        ? {}
        : { history: [...history, ...added.map(({ holds }) => ({ created_by: `esb deploy: ${holds}` }))] }),
    }),
  );
  const configDigest = digestOf(config);
  const layers = [
    ...base.layers,
    ...added.map(({ digest, size }) => ({ mediaType: layerTypeOf(base.manifestType), digest, size })),
  ];
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: base.manifestType,
      config: { mediaType: base.configType, digest: configDigest, size: config.length },
      layers: layers.map(({ digest, mediaType, size }) => ({ mediaType, digest, size })),
    }),
  );
  return {
    digest: digestOf(manifest),
    manifest: { content: manifest, mediaType: base.manifestType },
    config: { content: config, digest: configDigest },
    baseLayers: base.layers,
    added,
  };
}

/** The media type of a compressed layer in a manifest of a kind. */
function layerTypeOf(manifestType: string): string {
  return manifestType.startsWith('application/vnd.docker.')
    ? 'application/vnd.docker.image.rootfs.diff.tar.gzip'
    : 'application/vnd.oci.image.layer.v1.tar+gzip';
}
