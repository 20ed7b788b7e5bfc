import { isPublicNamespace } from '../../api/function-url.ts';
import type { Clock } from '../../common/clock.ts';
import { messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { repeat } from '../../common/repeat.ts';
import { namespaces } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';

/** Milliseconds between two looks at the label, and after one that failed. */
const EVERY_MS = 30_000;
const RETRY_MS = 2_000;
const DEADLINE_MS = 10_000;
/** Least milliseconds between two looks for the sake of requests, and the most that such a look may take. */
const LOOK_EVERY_MS = 1_000;
const LOOK_DEADLINE_MS = 1_000;

export interface PublicNamespaceOptions {
  readonly client: Pick<KubeClient, 'get'>;
  readonly namespace: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Follows the label by which the operator lets functions of a namespace have URLs that everybody may call. */
export class PublicNamespace {
  readonly #options: PublicNamespaceOptions;
  #isPublic: boolean | undefined;
  /** Ends all looks; undefined until the loop runs. */
  #stop: AbortSignal | undefined;
  /** The look that is under way for the sake of requests. */
  #look: Promise<void> | undefined;
  /** Monotonic milliseconds of the end of the last look. */
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(options: PublicNamespaceOptions) {
    this.#options = options;
  }

  /** Undefined until the label was read; while the API server is away, what was read last. */
  get isPublic(): boolean | undefined {
    return this.#isPublic;
  }

  /** Reads the label until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    this.#stop = signal;
    const onError = (error: unknown): void => this.#warn(error);
    await repeat({ clock, everyMs: EVERY_MS, retryMs: RETRY_MS, onError }, signal, () =>
      this.#read(signal, DEADLINE_MS),
    );
  }

  /**
   * Reads the label again where the namespace was without it, for requests that would be refused: they share a look, and
   * there is one each second at most. Never rejects.
   */
  async look(): Promise<void> {
    const stop = this.#stop;
    const isDue = this.#options.clock.monotonic() - this.#lookedAt >= LOOK_EVERY_MS;
    if (this.#look === undefined && stop !== undefined && this.#isPublic === false && isDue) {
      this.#look = this.#read(stop, LOOK_DEADLINE_MS)
        .catch((error: unknown) => (stop.aborted ? undefined : this.#warn(error)))
        .finally(() => {
          this.#look = undefined;
        });
    }
    await this.#look;
  }

  async #read(signal: AbortSignal, deadlineMs: number): Promise<void> {
    const { client, clock, namespace } = this.#options;
    try {
      const found = await client.get(namespaces, { name: namespace }, { signal, deadlineMs });
      this.#isPublic = isPublicNamespace(found);
    } finally {
      this.#lookedAt = clock.monotonic();
    }
  }

  #warn(error: unknown): void {
    const { logger } = this.#options;
    logger.warn({ error: messageOf(error) }, 'the namespace cannot be read; what was known of its label holds');
  }
}
