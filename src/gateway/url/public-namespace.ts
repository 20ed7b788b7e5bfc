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

  constructor(options: PublicNamespaceOptions) {
    this.#options = options;
  }

  /** Undefined until the label was read; while the API server is away, what was read last. */
  get isPublic(): boolean | undefined {
    return this.#isPublic;
  }

  /** Reads the label until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { client, clock, logger, namespace } = this.#options;
    const onError = (error: unknown): void =>
      logger.warn({ error: messageOf(error) }, 'the namespace cannot be read; what was known of its label holds');
    await repeat({ clock, everyMs: EVERY_MS, retryMs: RETRY_MS, onError }, signal, async () => {
      const found = await client.get(namespaces, { name: namespace }, { signal, deadlineMs: DEADLINE_MS });
      this.#isPublic = isPublicNamespace(found);
    });
  }
}
