import { EsbError } from '../../common/errors.ts';
import { FairGate } from '../../common/fair-gate.ts';
import type { ContainerRuntime } from '../../runtime/contract/runtime.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import type { SecretReader } from '../model/secret-reader.ts';
import { imageRequestOf } from '../secrets/resolve-secrets.ts';
import { imageKeyOf } from '../step/state.ts';

export interface ImageResolverOptions {
  readonly runtime: Pick<ContainerRuntime, 'resolveImage'>;
  readonly secrets: SecretReader;
}

/** Images that are asked for at a time: no call waits for the answers, and pulls need the same registries. */
const AT_ONCE = 4;
const DEADLINE_MS = 60_000;

/**
 * Asks for images of workers that rest Absent, a few at a time: a namespace whose registry does not answer waits behind
 * its own alone. Workers that ask the same way share a question that has no answer yet.
 */
export class ImageResolver {
  readonly #options: ImageResolverOptions;
  readonly #gate = new FairGate({ places: AT_ONCE });
  readonly #ended = new AbortController();
  readonly #asked = new Map<string, Promise<EsbError | undefined>>();

  constructor(options: ImageResolverOptions) {
    this.#options = options;
  }

  /** Why the image of a worker cannot be had; undefined where it can. Never rejects. */
  resolve(desired: DesiredWorker): Promise<EsbError | undefined> {
    const key = `${desired.identity.namespace} ${imageKeyOf(desired)}`;
    const answer = this.#asked.get(key) ?? this.#ask(desired).finally(() => this.#asked.delete(key));
    this.#asked.set(key, answer);
    return answer;
  }

  /** Ends what is under way, and waits for the end of it. */
  async stop(): Promise<void> {
    this.#ended.abort();
    await Promise.all(this.#asked.values());
  }

  #ask(desired: DesiredWorker): Promise<EsbError | undefined> {
    const { runtime, secrets } = this.#options;
    const { signal } = this.#ended;
    const { namespace } = desired.identity;
    const options = { signal, deadlineMs: DEADLINE_MS, namespace };
    return this.#gate
      .pass({ namespace }, signal, () => runtime.resolveImage(imageRequestOf(desired, secrets), options))
      .then(
        () => undefined,
        (error: unknown) => EsbError.from(error),
      );
  }
}
