import { CLIENT_CA_NAME, CLIENT_CA_PUBLIC_KEY } from '../../api/name.ts';
import type { Logger } from '../../common/logger.ts';
import { isNewAuthority } from '../../common/x509.ts';
import { type ConfigMap, configMaps } from '../../kube/api/resource-types.ts';
import type { CacheEvent, KubeClient } from '../../kube/api/types.ts';
import { ListWatchInformer } from '../../kube/cache/informer.ts';

export interface ClientTrustOptions {
  readonly client: KubeClient;
  readonly systemNamespace: string;
  readonly logger: Logger;
}

/**
 * The authority of gateways' certificates, as the controller publishes it: by it a gateway knows the role that keeps
 * its events, and the role its gateways.
 */
export class ClientTrust {
  readonly #informer: ListWatchInformer<ConfigMap>;
  readonly #logger: Logger;
  #pem: string | undefined;
  /** Called after each change. */
  onChange: (() => void) | undefined;

  constructor({ client, logger, systemNamespace }: ClientTrustOptions) {
    this.#logger = logger;
    this.#informer = new ListWatchInformer<ConfigMap>(
      client,
      configMaps,
      { namespace: systemNamespace, fieldSelector: `metadata.name=${CLIENT_CA_NAME}` },
      { logger },
    );
    this.#informer.subscribe((event) => this.#apply(event));
  }

  /** PEM of one or more certificates; undefined while none was seen. */
  get pem(): string | undefined {
    return this.#pem;
  }

  /** Begins to read. */
  start(): void {
    this.#informer.start();
  }

  async stop(): Promise<void> {
    await this.#informer.stop();
  }

  /** An authority that is gone or cannot be read leaves the former one in use. */
  #apply(event: CacheEvent<ConfigMap>): void {
    const pem = event.kind === 'deleted' ? '' : (event.object.data?.[CLIENT_CA_PUBLIC_KEY] ?? '');
    if (pem === '' || !isNewAuthority(pem, this.#pem, this.#logger)) {
      return;
    }
    this.#pem = pem;
    this.onChange?.();
  }
}
