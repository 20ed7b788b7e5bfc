import { LABEL_PREFIX } from '../../api/label.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import type { NetworkService } from '../../docker/network-service.ts';
import { DOCKER_NETWORK } from './labels.ts';

/** On the network that is ours. */
const OWN_LABEL = `${LABEL_PREFIX}network`;
/** At most 15 bytes. */
const BRIDGE = 'esb-docker0';

/** The engine's network of the workers: a bridge of its own, on which they do not reach each other. */
export class DockerNetworkKeeper {
  readonly #networks: NetworkService;

  constructor(networks: NetworkService) {
    this.#networks = networks;
  }

  /**
   * Makes it where it is not there.
   *
   * @throws {EsbError} `NetworkFailed`, and what the engine fails with
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
      // Somebody else made it meanwhile.
      if (!(hasCode(error, 'FailedPrecondition') && (await this.#isThere(options)))) {
        throw error;
      }
    }
  }

  /** Looks, and makes it again when it was taken away. */
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

  /** Removes it. One that is somebody else's stays, and missing is success. */
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
          `the Docker network '${DOCKER_NETWORK}' was made by somebody else: remove it, the agent makes its own`,
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
