import { LABEL_PREFIX } from '../../api/label.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
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
    try {
      await this.#networks.createBridge(
        {
          name: DOCKER_NETWORK,
          labels: { [OWN_LABEL]: DOCKER_NETWORK },
          options: {
            'com.docker.network.bridge.name': BRIDGE,
            'com.docker.network.bridge.enable_icc': 'false',
          },
        },
        options,
      );
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
      const failure = EsbError.from(error);
      const reason = failure.code === 'DeadlineExceeded' ? failure.code : 'NetworkFailed';
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
    try {
      const { driver, labels } = await this.#networks.inspect(DOCKER_NETWORK, options);
      if (driver !== 'bridge' || labels[OWN_LABEL] !== DOCKER_NETWORK) {
        throw new EsbError(
          `the Docker network '${DOCKER_NETWORK}' is not the agent's: remove it, the agent makes its own`,
          { code: 'NetworkFailed' },
        );
      }
      return true;
    } catch (error) {
      if (hasCode(error, 'NotFound')) {
        return false;
      }
      throw error;
    }
  }
}
