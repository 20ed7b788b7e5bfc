import { LABEL_PREFIX } from '../../api/label.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf, undefinedIfNotFound } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import type { NetworkService } from '../../docker/network-service.ts';
import { DOCKER_NETWORK } from './labels.ts';

/** Label of our network. */
const OWN_LABEL = `${LABEL_PREFIX}network`;
/** Name of the bridge, at most 15 bytes. */
const BRIDGE = 'esb-docker0';

/** The engine's network of the workers: a bridge of their own, without traffic between them. */
export class DockerNetworkKeeper {
  readonly #networks: NetworkService;

  constructor(networks: NetworkService) {
    this.#networks = networks;
  }

  /**
   * Makes the network where missing.
   *
   * @throws {EsbError} `NetworkFailed`, and errors of the engine
   */
  async prepare(options: CallOptions = {}): Promise<void> {
    if (await this.#isThere(options)) {
      return;
    }
    const driver = {
      'com.docker.network.bridge.name': BRIDGE,
      'com.docker.network.bridge.enable_icc': 'false',
    };
    try {
      await this.#networks.createBridge(DOCKER_NETWORK, { [OWN_LABEL]: DOCKER_NETWORK }, driver, options);
    } catch (error) {
      // Another agent made the network meanwhile.
      if (!(hasCode(error, 'FailedPrecondition') && (await this.#isThere(options)))) {
        throw error;
      }
    }
  }

  /** Checks the network, and makes it again where missing. */
  async health(options: CallOptions = {}): Promise<Health> {
    try {
      await this.prepare(options);
      return { ok: true };
    } catch (error) {
      const reason = hasCode(error, 'DeadlineExceeded') ? error.code : 'NetworkFailed';
      return { ok: false, reason, message: messageOf(error) };
    }
  }

  /** Removes our network; a foreign one stays. Missing is success. */
  async remove(options: CallOptions = {}): Promise<void> {
    if (await this.#isThere(options)) {
      await this.#networks.remove(DOCKER_NETWORK, options);
    }
  }

  async #isThere(options: CallOptions): Promise<boolean> {
    const found = await undefinedIfNotFound(this.#networks.inspect(DOCKER_NETWORK, options));
    if (found !== undefined && (found.driver !== 'bridge' || found.labels[OWN_LABEL] !== DOCKER_NETWORK)) {
      throw new EsbError(
        `the Docker network '${DOCKER_NETWORK}' is not the agent's: remove it, the agent makes its own`,
        { code: 'NetworkFailed' },
      );
    }
    return found !== undefined;
  }
}
