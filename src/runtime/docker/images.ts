import { type CallOptions, withDeadline } from '../../common/deadline.ts';
import { EsbError, undefinedIfNotFound } from '../../common/errors.ts';
import type { RegistryCredentials, TransferService } from '../../containerd/transfer-service.ts';
import type { DockerCredentials, ImageService } from '../../docker/image-service.ts';
import {
  checkOffered,
  checkPlatform,
  type ImageConfig,
  linuxPlatform,
  parseImageConfig,
} from '../../oci/image-config.ts';
import { type ImageReference, imageNameOf, parseImageReference } from '../../oci/image-reference.ts';
import type { CredentialSource } from '../contract/credential-source.ts';
import type { NodeImages } from '../contract/images.ts';
import type { ImageRequest } from '../contract/runtime.ts';
import { ImageProofs } from '../images/image-proofs.ts';
import { ImagePulls, type ImagePullsOptions } from '../images/image-pulls.ts';
import { type ImageSource, type ObtainOptions, obtainImage, resolveImage } from '../images/obtain-image.ts';

export interface DockerImagesOptions extends Pick<ImagePullsOptions, 'maxPulls' | 'observer' | 'clock' | 'logger'> {
  readonly images: ImageService;
  readonly credentials?: CredentialSource | undefined;
  /** Records of who may use which image. */
  readonly proofsFile: string;
}

/** An image that the engine has. */
export interface EngineImage {
  readonly id: string;
  /** `name@sha256:…`; for an image that was built here, with the digest of its configuration. */
  readonly byDigest: string;
  readonly config: ImageConfig;
}

const PULL_DEADLINE_MS = 60 * 60_000;
const READ_DEADLINE_MS = 10_000;

/** Images of the engine, and the pulls into it. */
export class DockerImages {
  readonly #images: ImageService;
  readonly #pulls: ImagePulls;
  readonly #proofs: ImageProofs;
  readonly #source: ImageSource<EngineImage>;

  constructor(options: DockerImagesOptions) {
    this.#images = options.images;
    const platform = linuxPlatform(process.arch);
    this.#proofs = new ImageProofs({ file: options.proofsFile, logger: options.logger });
    const transfer = transferOf(options.images);
    this.#pulls = new ImagePulls({ ...options, transfer, platform, snapshotter: '' });
    this.#source = {
      find: (reference, { signal }) => this.#find(reference, { signal }),
      pulls: this.#pulls,
      credentials: options.credentials,
      proofs: this.#proofs,
      absent: (name) =>
        `the engine does not have the image ${name} and spec.imagePullPolicy is Never: load it, or allow pulls`,
    };
  }

  /** The image, pulled when policy and engine ask for that. Errors as for {@link obtainImage}. */
  async obtain(request: ImageRequest, options: ObtainOptions = {}): Promise<EngineImage> {
    return await obtainImage(this.#source, request, options);
  }

  /** Makes sure that {@link DockerImages.obtain} would have the image, with the same errors. */
  async resolve(request: ImageRequest, options: ObtainOptions): Promise<void> {
    await resolveImage(this.#source, request, options);
  }

  /** Full references of all images with a name. */
  async names(options: CallOptions = {}): Promise<string[]> {
    const names = await this.#images.names(options);
    return names.map((name) => parseImageReference(name).name).toSorted();
  }

  async stop(): Promise<void> {
    await this.#pulls.stop();
    await this.#proofs.stop();
  }

  async #find(reference: ImageReference, options: CallOptions): Promise<EngineImage | undefined> {
    const call = { deadlineMs: READ_DEADLINE_MS, ...options };
    const found = await undefinedIfNotFound(this.#images.inspect(reference.name, call));
    if (found === undefined) {
      return undefined;
    }
    const config = parseImageConfig(found.document, found.id);
    checkPlatform(config, linuxPlatform(process.arch));
    return { id: found.id, config, byDigest: byDigest(reference, found.repoDigests, found.id) };
  }
}

/** The engine's images belong to its owner, who may use them for other things: the agent removes none. */
export const unmanagedImages: NodeImages = {
  list: () => Promise.resolve([]),
  remove: () => Promise.resolve(false),
  room: () =>
    Promise.reject(
      new EsbError('images of a Docker engine are not collected: use docker image prune', {
        code: 'ImageFileSystemUnknown',
      }),
    ),
  nameOf: imageNameOf,
};

function byDigest(reference: ImageReference, repoDigests: readonly string[], id: string): string {
  const own = repoDigests
    .map((text) => parseImageReference(text))
    .find(({ registry, repository }) => registry === reference.registry && repository === reference.repository);
  return own?.name ?? `${reference.registry}/${reference.repository}@${id}`;
}

/** The engine's pull with containerd's interface. */
function transferOf(images: ImageService): TransferService {
  return {
    async pull(request, options = {}) {
      const { onProgress, platform, reference } = request;
      const { registry } = parseImageReference(reference);
      const what = `docker pull ${reference}`;
      await withDeadline(what, options.deadlineMs ?? PULL_DEADLINE_MS, options.signal, (signal) =>
        images.pull(
          {
            reference,
            platform: `${platform.os}/${platform.architecture}`,
            credentials: credentialsOf(request.credentialsFor?.(registry)),
            // `Downloading`, `Download complete`, `Extracting`: the words of containerd, in capitals.
            onProgress: ({ layer, status, done, total }) =>
              onProgress?.({ event: status.toLowerCase(), name: layer, done, total }),
          },
          signal,
        ),
      );
    },
    async describe({ credentialsFor, platform, reference }, _check, { signal } = {}) {
      const { registry } = parseImageReference(reference);
      const offered = await images.platforms(reference, credentialsOf(credentialsFor?.(registry)), { signal });
      checkOffered(offered, platform);
    },
  };
}

function credentialsOf(credentials: RegistryCredentials | undefined): DockerCredentials | undefined {
  return credentials !== undefined && 'identityToken' in credentials
    ? { identitytoken: credentials.identityToken }
    : credentials;
}
