import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, hasCode } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerdClient } from '../../containerd/containerd-client.ts';
import type { StoredImage } from '../../containerd/image-service.ts';
import { type ImageConfig, type Platform, type ResolvedImage, resolveImage } from '../../oci/image-config.ts';
import { type ImageReference, parseImageReference } from '../../oci/image-reference.ts';
import { needsUserFiles } from '../../oci/spec-user.ts';
import type { ImageRequest } from '../contract/runtime.ts';
import { ImagePulls, type PullObserver } from './image-pulls.ts';
import { withMissing } from './pull-error.ts';
import { readUserFiles, type UserFiles } from './user-files.ts';

export interface ImageStoreOptions {
  readonly client: ContainerdClient;
  readonly platform: Platform;
  readonly snapshotter: string;
  /** `certs.d` folder, read by containerd. */
  readonly hostsFolder?: string | undefined;
  /** Images of one registry that are pulled at the same time. Default 3. */
  readonly maxPulls?: number | undefined;
  readonly observer?: PullObserver | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface ObtainOptions extends CallOptions {
  /** Of the worker that wants it. */
  readonly namespace?: string | undefined;
  /** Told before a pull, and while it goes on how far it is. */
  readonly onPulling?: ((detail?: string) => void) | undefined;
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

const SECRETS_DEADLINE_MS = 15_000;
/** Configurations kept in memory, each a few kilobytes. */
const MAX_KNOWN = 1000;

/** Obtains images: looks in containerd's store, pulls by its Transfer service, follows names to configurations. */
export class ImageStore {
  readonly #options: ImageStoreOptions;
  readonly #pulls: ImagePulls;
  /** Resolved images by the digest that their name points to: a digest never changes its meaning. */
  readonly #known = new Map<string, ResolvedImage & { readonly userFiles?: UserFiles }>();

  /** Digests that names pointed to when they were looked up last: a guess, to ask containerd two things at once. */
  readonly #digests = new Map<string, string>();
  /** By name: how many hold it now, and a number that is another one after each hold. */
  readonly #holds = new Map<string, { now: number; mark: number }>();
  #marks = 0;
  readonly #removals = new Map<string, Promise<void>>();

  constructor(options: ImageStoreOptions) {
    this.#options = options;
    this.#pulls = new ImagePulls({ ...options, transfer: options.client.transfer });
  }

  /**
   * Keeps an image from being removed, whether it is here already or not, until the function that is returned has been
   * called. A reference that cannot be one holds nothing.
   */
  hold(reference: string): () => void {
    const name = nameOf(reference);
    if (name === undefined) {
      return () => undefined;
    }
    const holds = this.#holds.get(name) ?? { now: 0, mark: 0 };
    this.#holds.set(name, holds);
    this.#marks += 1;
    holds.now += 1;
    holds.mark = this.#marks;
    let held = true;
    return () => {
      holds.now -= held ? 1 : 0;
      held = false;
    };
  }

  /** Whether somebody holds it, and a number that changes whenever somebody does. */
  holdsOf(name: string): { readonly held: boolean; readonly mark: number } {
    const { now, mark } = this.#holds.get(name) ?? { now: 0, mark: 0 };
    return { held: now > 0, mark };
  }

  /**
   * Removes an image, and waits until containerd has given its room back.
   *
   * @param mark what {@link ImageStore.holdsOf} told before anybody looked whether a container has it
   * @returns false when somebody has held it since then: it is left alone
   */
  async remove(name: string, mark: number, options: CallOptions = {}): Promise<boolean> {
    const holds = this.holdsOf(name);
    if (holds.held || holds.mark !== mark || this.#removals.has(name)) {
      return false;
    }
    // In the same step as the look above: who wants the image from here on waits for the end of it, and pulls.
    const removal = this.#options.client.images.delete(name, options);
    this.#digests.delete(name);
    this.#holds.delete(name);
    this.#removals.set(
      name,
      removal.catch(() => undefined),
    );
    try {
      await removal;
      return true;
    } catch (error) {
      if (hasCode(error, 'NotFound')) {
        return false;
      }
      throw error;
    } finally {
      this.#removals.delete(name);
    }
  }

  /** Whether a request will most likely be met without a pull. */
  isLikelyHere(request: ImageRequest): boolean {
    return request.pullPolicy !== 'Always' && this.#digests.has(parseImageReference(request.reference).name);
  }

  /**
   * The image, pulled when policy and store ask for it.
   *
   * @throws {EsbError} `ImageNotFound`, `ImagePullFailed`, `ImageInvalid`, `RegistryUnreachable`, `DiskFull`
   */
  async obtain(request: ImageRequest, options: ObtainOptions = {}): Promise<LocalImage> {
    const reference = parseImageReference(request.reference);
    const release = this.hold(request.reference);
    try {
      await this.#removals.get(reference.name);
      return await this.#obtain(reference, request, options);
    } finally {
      release();
    }
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
    await this.#pulls.stop();
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

  async #obtain(
    reference: ImageReference,
    request: ImageRequest,
    options: ObtainOptions,
  ): Promise<LocalImage> {
    const { onPulling } = options;
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
    onPulling?.();
    const secrets = await request.pullSecrets?.({ signal: options.signal, deadlineMs: SECRETS_DEADLINE_MS });
    const call = { ...options, onDetail: onPulling };
    try {
      await this.#pulls.run(reference, secrets?.configs ?? [], call);
    } catch (error) {
      throw withMissing(error, secrets?.missing ?? []);
    }
    const pulled = await this.find(reference, options);
    if (pulled === undefined) {
      throw new EsbError(`${reference.name} was pulled and is not there`, {
        code: 'ImagePullFailed',
        retryable: true,
      });
    }
    return pulled;
  }
}

function nameOf(reference: string): string | undefined {
  try {
    return parseImageReference(reference).name;
  } catch {
    // Whoever obtains it is told what is wrong with it.
    return undefined;
  }
}
