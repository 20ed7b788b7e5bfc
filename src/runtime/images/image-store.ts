import { BoundedMap } from '../../common/bounds/bounded-map.ts';
import { type CallOptions, withDeadline } from '../../common/deadline.ts';
import { hasCode, undefinedIfNotFound } from '../../common/errors.ts';
import { TaskTracker } from '../../common/task-group.ts';
import type { ContainerdClient } from '../../containerd/containerd-client.ts';
import type { StoredImage } from '../../containerd/image-service.ts';
import type { Described } from '../../containerd/transfer-service.ts';
import { checkImageConfig, type ResolvedImage, resolveImage as readImage } from '../../oci/image-config.ts';
import { type ImageReference, imageNameOf, parseImageReference } from '../../oci/image-reference.ts';
import { needsUserFiles } from '../../oci/spec-user.ts';
import type { CredentialSource } from '../contract/credential-source.ts';
import type { ImageRequest } from '../contract/runtime.ts';
import { ImageProofs } from './image-proofs.ts';
import { ImagePulls, type ImagePullsOptions } from './image-pulls.ts';
import { type ImageSource, type ObtainOptions, obtainImage, resolveImage } from './obtain-image.ts';
import { readUserFiles, type UserFiles } from './user-files.ts';

export interface ImageStoreOptions extends Omit<ImagePullsOptions, 'check' | 'transfer'> {
  readonly client: ContainerdClient;
  readonly credentials?: CredentialSource | undefined;
  /** Records of who may use which image. */
  readonly proofsFile: string;
}

/** An image with the files that tell its user. */
interface KnownImage extends ResolvedImage {
  /** Only where the image names its user by a name. */
  readonly userFiles?: UserFiles;
}

/** An image that is unpacked on this node. */
export interface LocalImage extends KnownImage {
  readonly reference: ImageReference;
  /** `registry/repository@sha256:…`. */
  readonly byDigest: string;
}

/** Configurations kept in memory, each a few kilobytes. */
const MAX_KNOWN = 1000;
/** Of a look, which is up to ten calls of containerd, and of each of these. */
const LOOK_DEADLINE_MS = 60_000;
const CALL_DEADLINE_MS = 10_000;

/** Images of containerd's store, pulled by its Transfer service, with their configurations. */
export class ImageStore {
  readonly #options: ImageStoreOptions;
  readonly #pulls: ImagePulls;
  readonly #proofs: ImageProofs;
  readonly #source: ImageSource<LocalImage>;
  /** Resolved images by the digest of their name: a digest never changes its meaning. */
  readonly #known = new BoundedMap<string, KnownImage>(MAX_KNOWN);

  /** Digests by name as of the last look: a guess, which saves a round trip to containerd. */
  readonly #digests = new BoundedMap<string, string>(MAX_KNOWN);
  /** By name: the holds of an image, and a number that changes with each hold. */
  readonly #holds = new Map<string, { now: number; mark: number }>();
  #marks = 0;
  readonly #removals = new Map<string, Promise<void>>();
  /** Looks that are under way, by name. */
  readonly #looks = new Map<string, Promise<LocalImage | undefined>>();
  readonly #looking = new TaskTracker();
  readonly #ended = new AbortController();

  constructor(options: ImageStoreOptions) {
    this.#options = options;
    const { images, transfer } = options.client;
    const check = (described: Described, call: CallOptions): Promise<void> => this.#check(described, call);
    this.#pulls = new ImagePulls({ ...options, transfer, check });
    this.#proofs = new ImageProofs({
      file: options.proofsFile,
      present: async () => new Set((await images.list()).map(({ target }) => target.digest)),
      logger: options.logger,
    });
    this.#source = {
      proofs: this.#proofs,
      find: (reference, call, fresh) => this.find(reference, call, fresh),
      pulls: this.#pulls,
      credentials: options.credentials,
      absent: (name) =>
        `the image ${name} is not on the node and spec.imagePullPolicy is Never: import it, or allow pulls`,
    };
  }

  /**
   * Keeps an image from being removed, present or not, until the returned function is called. A text that is no
   * reference holds nothing.
   */
  hold(reference: string): () => void {
    const name = imageNameOf(reference);
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

  /** Whether an image is held, and a number that changes with each hold. */
  holdsOf(name: string): { readonly held: boolean; readonly mark: number } {
    const { now, mark } = this.#holds.get(name) ?? { now: 0, mark: 0 };
    return { held: now > 0, mark };
  }

  /**
   * Removes an image, and waits until containerd has given its room back.
   *
   * @param mark of {@link ImageStore.holdsOf}, read before the containers were looked at
   * @returns false, with the image left alone, when the image was held since then
   */
  async remove(name: string, mark: number, options: CallOptions = {}): Promise<boolean> {
    const holds = this.holdsOf(name);
    if (holds.held || holds.mark !== mark || this.#removals.has(name)) {
      return false;
    }
    // In the same step as the look above: later requests for the image wait for its removal, and pull.
    const removal = this.#options.client.images.delete(name, options).finally(() => {
      // A look that began meanwhile may have seen the image.
      this.#looks.delete(name);
      this.#removals.delete(name);
    });
    this.#digests.delete(name);
    this.#looks.delete(name);
    this.#holds.delete(name);
    this.#removals.set(
      name,
      removal.catch(() => undefined),
    );
    return (await undefinedIfNotFound(removal.then(() => true))) ?? false;
  }

  /** Whether a request of a namespace most likely needs no pull. */
  isLikelyHere(request: ImageRequest, namespace: string): boolean {
    const reference = parseImageReference(request.reference);
    const digest = this.#digests.get(reference.name);
    return (
      request.pullPolicy !== 'Always' &&
      digest !== undefined &&
      this.#proofs.allows(reference.name, byDigestOf(reference, digest), namespace)
    );
  }

  /** The image, pulled when policy and store ask for that. Errors as for {@link obtainImage}. */
  async obtain(request: ImageRequest, options: ObtainOptions = {}): Promise<LocalImage> {
    const reference = parseImageReference(request.reference);
    const release = this.hold(request.reference);
    try {
      await this.#removals.get(reference.name);
      return await obtainImage(this.#source, request, options);
    } finally {
      release();
    }
  }

  /** Makes sure that {@link ImageStore.obtain} would have the image, with the same errors. */
  async resolve(request: ImageRequest, options: ObtainOptions): Promise<void> {
    await resolveImage(this.#source, request, options);
  }

  /**
   * The image if present and unpacked. Callers at the same time share one look.
   *
   * @param fresh whether a look will not do that began before this one
   */
  async find(reference: ImageReference, options: CallOptions = {}, fresh = false): Promise<LocalImage | undefined> {
    const { deadlineMs = LOOK_DEADLINE_MS, signal } = options;
    return await withDeadline(`looking for the image ${reference.name}`, deadlineMs, signal, () =>
      this.#sharedLook(reference, fresh),
    );
  }

  #sharedLook(reference: ImageReference, fresh: boolean): Promise<LocalImage | undefined> {
    const { name } = reference;
    const earlier = fresh ? undefined : this.#looks.get(name);
    if (earlier !== undefined) {
      return earlier;
    }
    const look = this.#looking.own(
      this.#look(reference).finally(() => {
        if (this.#looks.get(name) === look) {
          this.#looks.delete(name);
        }
      }),
    );
    this.#looks.set(name, look);
    return look;
  }

  async #look(reference: ImageReference): Promise<LocalImage | undefined> {
    const { images, snapshots } = this.#options.client;
    // Of no caller, all of whom may leave before the end.
    const options = { deadlineMs: CALL_DEADLINE_MS, signal: this.#ended.signal };
    const guess = this.#known.get(this.#digests.get(reference.name) ?? '')?.chainId;
    const guessed = guess === undefined ? undefined : snapshots.stat(guess, options);
    // Repeated below where it matters.
    guessed?.catch(() => undefined);
    try {
      const stored = await images.get(reference.name, options);
      const known = await this.#resolve(stored, options);
      await (known.chainId === guess ? guessed : snapshots.stat(known.chainId, options));
      this.#digests.set(reference.name, stored.target.digest);
      return { ...known, reference, byDigest: byDigestOf(reference, stored.target.digest) };
    } catch (error) {
      // The name, a blob or the unpacked layers are missing: a pull brings all of them.
      if (hasCode(error, 'NotFound')) {
        this.#digests.delete(reference.name);
        return undefined;
      }
      throw error;
    }
  }

  async names(options: CallOptions = {}): Promise<string[]> {
    return (await this.#options.client.images.list(options)).map(({ name }) => name).toSorted();
  }

  async stop(): Promise<void> {
    this.#ended.abort();
    await this.#pulls.stop();
    await this.#looking.settled();
    await this.#proofs.stop();
  }

  async #check(described: Described, options: CallOptions): Promise<void> {
    const { client, platform } = this.#options;
    if ('config' in described) {
      await checkImageConfig(client.content, described.config, platform, options);
    } else {
      const { target } = await client.images.get(described.image, options);
      await readImage(client.content, target, platform, options);
    }
  }

  async #resolve(stored: StoredImage, options: CallOptions): Promise<KnownImage> {
    const { client, clock, platform } = this.#options;
    const { digest } = stored.target;
    const known = this.#known.get(digest);
    if (known !== undefined) {
      return known;
    }
    const resolved = await readImage(client.content, stored.target, platform, options);
    const complete = needsUserFiles(resolved.config)
      ? { ...resolved, userFiles: await readUserFiles(client, clock, resolved.chainId, options) }
      : resolved;
    this.#known.set(digest, complete);
    return complete;
  }
}

function byDigestOf({ registry, repository }: ImageReference, digest: string): string {
  return `${registry}/${repository}@${digest}`;
}
