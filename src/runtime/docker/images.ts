import type { Clock } from '../../common/clock.ts';
import { type CallOptions, withDeadline } from '../../common/deadline.ts';
import { EsbError, hasCode } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { RegistryCredentials, TransferService } from '../../containerd/transfer-service.ts';
import type { DockerCredentials, DockerPullProgress, ImageService } from '../../docker/image-service.ts';
import { type ImageConfig, linuxPlatform, parseImageConfig } from '../../oci/image-config.ts';
import { type ImageReference, parseImageReference } from '../../oci/image-reference.ts';
import type { NodeImages } from '../contract/images.ts';
import type { RuntimeObserver } from '../contract/instrumentation.ts';
import type { ImageRequest } from '../contract/runtime.ts';
import { ImagePulls } from '../images/image-pulls.ts';
import { withMissing } from '../images/pull-error.ts';

export interface DockerImagesOptions {
  readonly images: ImageService;
  readonly maxPulls?: number | undefined;
  readonly observer?: RuntimeObserver | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** An image that the engine has. */
export interface EngineImage {
  readonly id: string;
  /** `name@sha256:…`; of one that was built here, with the digest of its configuration. */
  readonly byDigest: string;
  readonly config: ImageConfig;
}

export interface ObtainImage extends CallOptions {
  /** Of the worker that wants it. */
  readonly namespace?: string;
  readonly onPulling?: (detail?: string) => void;
}

const PULL_DEADLINE_MS = 60 * 60_000;
const SECRETS_DEADLINE_MS = 10_000;
const READ_DEADLINE_MS = 10_000;

/** Images of the engine, pulled when policy and engine ask for it. */
export class DockerImages {
  readonly #images: ImageService;
  readonly #pulls: ImagePulls;

  constructor(options: DockerImagesOptions) {
    this.#images = options.images;
    this.#pulls = new ImagePulls({
      transfer: transferOf(options.images),
      platform: linuxPlatform(process.arch),
      snapshotter: '',
      maxPulls: options.maxPulls,
      observer: options.observer,
      clock: options.clock,
      logger: options.logger,
    });
  }

  /** @throws {EsbError} `ImageNotFound`, `ImagePullFailed`, `ImageInvalid`, `RegistryUnreachable`, `DiskFull` */
  async obtain(request: ImageRequest, options: ObtainImage = {}): Promise<EngineImage> {
    const { onPulling, signal } = options;
    const reference = parseImageReference(request.reference);
    const local = request.pullPolicy === 'Always' ? undefined : await this.#find(reference, { signal });
    if (local !== undefined) {
      return local;
    }
    if (request.pullPolicy === 'Never') {
      throw new EsbError(
        `the engine does not have the image ${reference.name} and spec.imagePullPolicy is Never: load it, or allow pulls`,
        { code: 'ImageNotFound', retryable: true },
      );
    }
    onPulling?.();
    const secrets = await request.pullSecrets?.({ signal, deadlineMs: SECRETS_DEADLINE_MS });
    try {
      await this.#pulls.run(reference, secrets?.configs ?? [], { ...options, onDetail: onPulling });
    } catch (error) {
      throw withMissing(error, secrets?.missing ?? []);
    }
    const pulled = await this.#find(reference, { signal });
    if (pulled === undefined) {
      throw new EsbError(`${reference.name} was pulled and is not there`, {
        code: 'ImagePullFailed',
        retryable: true,
      });
    }
    return pulled;
  }

  /** References of everything that has a name, in full. */
  async names(options: CallOptions = {}): Promise<string[]> {
    const names = await this.#images.names(options);
    return names.map((name) => parseImageReference(name).name).toSorted();
  }

  /** Ends what is being pulled and waits for it. */
  async stop(): Promise<void> {
    await this.#pulls.stop();
  }

  async #find(reference: ImageReference, options: CallOptions): Promise<EngineImage | undefined> {
    try {
      const found = await this.#images.inspect(reference.name, { deadlineMs: READ_DEADLINE_MS, ...options });
      const config = parseImageConfig(found.document, found.id);
      checkPlatform(config);
      return { id: found.id, config, byDigest: byDigest(reference, found.repoDigests, found.id) };
    } catch (error) {
      if (hasCode(error, 'NotFound')) {
        return undefined;
      }
      throw error;
    }
  }
}

/**
 * The engine's images are its owner's, who has them for other things too: the agent tells nobody of any that might be
 * removed.
 */
export const unmanagedImages: NodeImages = {
  list: () => Promise.resolve([]),
  remove: () => Promise.resolve(false),
  room: () =>
    Promise.reject(
      new EsbError('images of a Docker engine are not collected: use docker image prune', {
        code: 'ImageFileSystemUnknown',
      }),
    ),
  nameOf(reference) {
    try {
      return parseImageReference(reference).name;
    } catch {
      return undefined;
    }
  },
};

function byDigest(reference: ImageReference, repoDigests: readonly string[], id: string): string {
  const own = repoDigests
    .map((text) => parseImageReference(text))
    .find(
      ({ registry, repository }) => registry === reference.registry && repository === reference.repository,
    );
  return own?.name ?? `${reference.registry}/${reference.repository}@${id}`;
}

/** Tools that stack layers without building leave the architecture empty: such an image is for whoever runs it. */
function checkPlatform({ platform }: ImageConfig): void {
  const own = linuxPlatform(process.arch);
  if (platform.architecture !== '' && platform.architecture !== own.architecture) {
    throw new EsbError(
      `the image is for ${platform.os}/${platform.architecture}, this node is ${own.os}/${own.architecture}`,
      { code: 'ImageInvalid' },
    );
  }
}

/** The engine's pull in the form of containerd's. */
function transferOf(images: ImageService): TransferService {
  return {
    async pull(request, options = {}) {
      const { onProgress, platform, reference } = request;
      const { registry } = parseImageReference(reference);
      const progress = new LayerProgress();
      const what = `docker pull ${reference}`;
      await withDeadline(what, options.deadlineMs ?? PULL_DEADLINE_MS, options.signal, (signal) =>
        images.pull(
          {
            reference,
            platform: `${platform.os}/${platform.architecture}`,
            credentials: credentialsOf(request.credentialsFor?.(registry)),
            onProgress: (told) => onProgress?.(progress.note(told)),
          },
          { signal },
        ),
      );
    },
  };
}

/** Gives the engine's words about layers those of containerd. The engine tells the size of one while it moves only. */
class LayerProgress {
  readonly #totals = new Map<string, number>();

  note({ layer, status, done, total }: DockerPullProgress): {
    event: string;
    name: string;
    done: number;
    total: number;
  } {
    const size = Math.max(total, this.#totals.get(layer) ?? 0);
    this.#totals.set(layer, size);
    switch (status) {
      case 'Downloading':
        return { event: 'downloading', name: layer, done, total: size };
      case 'Download complete':
        return { event: 'complete', name: layer, done: size, total: size };
      case 'Extracting':
        return { event: 'extracting', name: layer, done: size, total: size };
      default:
        return { event: status, name: layer, done: 0, total: size };
    }
  }
}

function credentialsOf(credentials: RegistryCredentials | undefined): DockerCredentials | undefined {
  if (credentials === undefined) {
    return undefined;
  }
  return 'identityToken' in credentials
    ? { identitytoken: credentials.identityToken }
    : { username: credentials.username, password: credentials.password };
}
