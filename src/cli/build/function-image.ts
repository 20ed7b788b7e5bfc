import { type ImageDocuments, imageDocuments, type ListedLayer, ociTypes } from '../../oci/image-documents.ts';
import type { LayerDescriptor } from '../../oci/image-layer.ts';
import type { BaseImage } from './base-image.ts';

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

/** The documents of an image, and its layers. */
export interface FunctionImage extends ImageDocuments {
  readonly baseLayers: readonly ListedLayer[];
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
  const config = {
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
  };
  const mediaType = layerTypeOf(base.manifestType);
  const layers = [...base.layers, ...added.map(({ digest, size }) => ({ mediaType, digest, size }))];
  const documents = imageDocuments(config, layers, { manifest: base.manifestType, config: base.configType });
  return { ...documents, baseLayers: base.layers, added };
}

/** The media type of a compressed layer in a manifest of a kind. */
function layerTypeOf(manifestType: string): string {
  return manifestType.startsWith('application/vnd.docker.')
    ? 'application/vnd.docker.image.rootfs.diff.tar.gzip'
    : ociTypes.layer;
}
