import { createHash } from 'node:crypto';
import type { Clock } from '../common/clock.ts';
import type { CallOptions } from '../common/deadline.ts';
import { EsbError, hasCode } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import type { ContainerdClient } from '../containerd/containerd-client.ts';
import type { StoredImage } from '../containerd/image-service.ts';
import { type ImageConfig, type Platform, type ResolvedImage, resolveImage } from '../oci/image-config.ts';
import { type ImageReference, parseImageReference } from '../oci/image-reference.ts';
import { needsUserFiles } from '../oci/runtime-spec.ts';
import type { ImageRequest } from './container-runtime.ts';
import { FlightLanes } from './flight-lanes.ts';
import { readUserFiles, type UserFiles } from './image-files.ts';
import { pullError } from './pull-error.ts';
import { findCredentials } from './registry-credentials.ts';
import { Semaphore } from './semaphore.ts';

export interface ImageStoreOptions {
  readonly client: ContainerdClient;
  readonly platform: Platform;
  readonly snapshotter: string;
  /** `certs.d` folder, read by containerd. */
  readonly hostsFolder?: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** An image that is unpacked on this node. */
export interface LocalImage {
  readonly reference: ImageReference;
  /** `registry/repository@sha256:…`. */
  readonly byDigest: string;
  readonly config: ImageConfig;
  /** Snapshot that holds all layers. */
  readonly chainId: string;
  /** Only where the image names its user by a name. */
  readonly userFiles?: UserFiles;
}

const PULLS_AT_ONCE = 3;
/** Whoever waits for a pull has a deadline of its own; this one only ends what hangs for ever. */
const PULL_DEADLINE_MS = 30 * 60_000;
/** Configurations kept in memory, each a few kilobytes. */
const MAX_KNOWN = 1000;

/** Obtains images: looks in containerd's store, pulls by its Transfer service, follows names to configurations. */
export class ImageStore {
  readonly #options: ImageStoreOptions;
  readonly #pulls = new FlightLanes();
  readonly #room = new Semaphore(PULLS_AT_ONCE);
  /** Resolved images by the digest that their name points to: a digest never changes its meaning. */
  readonly #known = new Map<string, ResolvedImage & { readonly userFiles?: UserFiles }>();

  /** Digests that names pointed to when they were looked up last: a guess, to ask containerd two things at once. */
  readonly #digests = new Map<string, string>();

  constructor(options: ImageStoreOptions) {
    this.#options = options;
  }

  /** Whether a request will most likely be met without a pull. */
  isLikelyHere(request: ImageRequest): boolean {
    return request.pullPolicy !== 'Always' && this.#digests.has(parseImageReference(request.reference).name);
  }

  /**
   * The image, pulled when policy and store ask for it.
   *
   * @param onPulling told before a pull
   * @throws {EsbError} `ImageNotFound`, `ImagePullFailed`, `ImageInvalid`, `RegistryUnreachable`, `DiskFull`
   */
  async obtain(
    request: ImageRequest,
    options: CallOptions & { readonly onPulling?: (() => void) | undefined } = {},
  ): Promise<LocalImage> {
    const reference = parseImageReference(request.reference);
    if (request.pullPolicy !== 'Always') {
      const local = await this.find(reference, options);
      if (local !== undefined) {
        return local;
      }
    }
    if (request.pullPolicy === 'Never') {
      throw new EsbError(
        `the image ${reference.name} is not on the node and spec.imagePullPolicy is Never: import it, or allow pulls`,
        { code: 'ImageNotFound', retryable: true },
      );
    }
    options.onPulling?.();
    await this.#pull(reference, request, options);
    const pulled = await this.find(reference, options);
    if (pulled === undefined) {
      throw new EsbError(`${reference.name} was pulled and is not there`, {
        code: 'ImagePullFailed',
        retryable: true,
      });
    }
    return pulled;
  }

  /** The image if it is here and unpacked. */
  async find(reference: ImageReference, options: CallOptions = {}): Promise<LocalImage | undefined> {
    const { images, snapshots } = this.#options.client;
    const guess = this.#known.get(this.#digests.get(reference.name) ?? '')?.chainId;
    const guessed = guess === undefined ? undefined : snapshots.stat(guess, options);
    // Asked for again below where it matters.
    guessed?.catch(() => undefined);
    try {
      const stored = await images.get(reference.name, options);
      const known = await this.#resolve(stored, options);
      await (known.chainId === guess ? guessed : snapshots.stat(known.chainId, options));
      this.#digests.set(reference.name, stored.target.digest);
      return {
        reference,
        byDigest: `${reference.registry}/${reference.repository}@${stored.target.digest}`,
        config: known.config,
        chainId: known.chainId,
        ...(known.userFiles === undefined ? {} : { userFiles: known.userFiles }),
      };
    } catch (error) {
      // The name, a blob or the unpacked layers are missing: pulling brings all of them.
      if (hasCode(error, 'NotFound')) {
        this.#digests.delete(reference.name);
        return undefined;
      }
      throw error;
    }
  }

  /** References of everything in the store. */
  async names(options: CallOptions = {}): Promise<string[]> {
    const all = await this.#options.client.images.list(options);
    return all.map((image) => image.name).toSorted();
  }

  /** Ends what is being pulled and waits for it. */
  async stop(): Promise<void> {
    this.#pulls.cancelAll('pulling');
    await this.#pulls.idle();
  }

  async #resolve(
    stored: StoredImage,
    options: CallOptions,
  ): Promise<ResolvedImage & { readonly userFiles?: UserFiles }> {
    const { client, clock, platform } = this.#options;
    const { digest } = stored.target;
    const known = this.#known.get(digest);
    if (known !== undefined) {
      return known;
    }
    const resolved = await resolveImage(client.content, stored.target, platform, options);
    const complete = needsUserFiles(resolved.config)
      ? { ...resolved, userFiles: await readUserFiles(client, clock, resolved.chainId, options) }
      : resolved;
    if (this.#known.size >= MAX_KNOWN) {
      // Looked up again when needed.
      this.#known.clear();
      this.#digests.clear();
    }
    this.#known.set(digest, complete);
    return complete;
  }

  async #pull(reference: ImageReference, request: ImageRequest, options: CallOptions): Promise<void> {
    const configs = request.dockerConfigs ?? [];
    const call = {
      what: `pulling ${reference.name}`,
      deadlineMs: options.deadlineMs ?? PULL_DEADLINE_MS,
      signal: options.signal,
    };
    await this.#pulls.run(reference.name, fingerprint(configs), call, (signal) =>
      this.#room.run(signal, () => this.#transfer(reference.name, configs, signal)),
    );
  }

  async #transfer(reference: string, dockerConfigs: readonly string[], signal: AbortSignal): Promise<void> {
    const { client, clock, hostsFolder, logger, platform, snapshotter } = this.#options;
    const begun = clock.monotonic();
    logger.info({ image: reference }, 'pulling an image');
    try {
      await client.transfer.pull(
        {
          reference,
          platform,
          snapshotter,
          hostsFolder,
          credentialsFor:
            dockerConfigs.length === 0 ? undefined : (host) => findCredentials(dockerConfigs, host),
          onProgress: ({ event, name, done, total }) => {
            logger.debug({ image: reference, event, name, done, total }, 'pull goes on');
          },
        },
        { signal, deadlineMs: PULL_DEADLINE_MS },
      );
    } catch (error) {
      throw pullError(reference, error);
    }
    logger.info({ image: reference, ms: Math.round(clock.monotonic() - begun) }, 'image pulled');
  }
}

/** Tells sets of credentials apart without keeping them. */
function fingerprint(dockerConfigs: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(dockerConfigs)).digest('hex');
}
