import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { type CallOptions, isAborted, withDeadline } from '../../common/deadline.ts';
import { EsbError, errnoOf, messageOf } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import { KeyedQueue } from '../../common/keyed-queue.ts';
import { Limiter } from '../../common/limiter.ts';
import type { Logger } from '../../common/logger.ts';
import type { ImageReference } from '../../oci/image-reference.ts';
import type { CredentialSource, ProvidedCredentials } from '../contract/credential-source.ts';
import {
  type CredentialProvider,
  type CredentialProviderConfig,
  isFields,
  PROVIDER_API,
  parseCredentialProviderConfig,
  parseDuration,
} from './credential-provider-config.ts';
import { pathLengthFor } from './registry-credentials.ts';

export interface CredentialProvidersOptions {
  /** `--image-credential-provider-config` of the kubelet. */
  readonly configFile: string;
  /** `--image-credential-provider-bin-dir` of the kubelet. */
  readonly programFolder: string;
  readonly runner: CommandRunner;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Answer {
  readonly config: string;
  readonly cacheKey: string;
  /** Milliseconds; 0 keeps nothing. */
  readonly cacheMs: number;
}

/** Milliseconds that a provider may run, as with the kubelet. */
const RUN_DEADLINE_MS = 60_000;
/** A thousand registries and their tokens. */
const MAX_ANSWER_BYTES = 1024 * 1024;
const MAX_STDERR_LENGTH = 500;
const PROGRAMS_AT_ONCE = 4;
const MAX_KEPT = 1_000;

/**
 * Credentials by the programs of cloud providers, as the kubelet runs them (`credentialprovider.kubelet.k8s.io/v1`): one
 * run for all that ask about an image at the same time, answers kept in memory for as long as the program says. The
 * configuration is read for each pull, so that a changed file needs no restart and a broken one stops nothing.
 */
export class CredentialProviders implements CredentialSource {
  readonly #options: CredentialProvidersOptions;
  readonly #runs = new KeyedQueue();
  readonly #limiter = new Limiter(PROGRAMS_AT_ONCE);
  /** Answers by provider and cache key, with the monotonic milliseconds until which they hold. */
  readonly #kept = new Map<string, { readonly config: string; readonly until: number }>();
  #toldFaults = '';

  constructor(options: CredentialProvidersOptions) {
    this.#options = options;
  }

  async find(reference: ImageReference, options: CallOptions): Promise<ProvidedCredentials> {
    const { faults, providers } = await this.#config();
    const asked = providers.filter(({ matchImages }) =>
      matchImages.some((image) => pathLengthFor(image, reference.registry, reference.repository) !== undefined),
    );
    const configs: string[] = [];
    const failures = [...faults];
    for (const provider of asked) {
      try {
        configs.push(await this.#ask(provider, reference, options));
      } catch (error) {
        if (isAborted(error) && options.signal?.aborted === true) {
          throw error;
        }
        failures.push(`credential provider ${provider.name}: ${messageOf(error)}`);
      }
    }
    return { configs, faults: failures };
  }

  async #config(): Promise<CredentialProviderConfig> {
    const { configFile, logger } = this.#options;
    let config: CredentialProviderConfig;
    try {
      config = parseCredentialProviderConfig(await readFile(configFile, 'utf8'));
    } catch (error) {
      config = { providers: [], faults: [messageOf(error)] };
    }
    const faults = config.faults.map((fault) => `configuration of credential providers: ${fault}`);
    const told = faults.join('; ');
    if (told !== this.#toldFaults) {
      this.#toldFaults = told;
      logger.warn({ file: configFile, faults }, 'credential providers cannot be used as configured');
    }
    return { ...config, faults };
  }

  async #ask(provider: CredentialProvider, reference: ImageReference, options: CallOptions): Promise<string> {
    const image = `${reference.registry}/${reference.repository}`;
    const owner = JSON.stringify(provider);
    const kept = this.#keptFor(owner, image, reference.registry);
    if (kept !== undefined) {
      return kept;
    }
    const call = { what: `running ${provider.name}`, deadlineMs: RUN_DEADLINE_MS, signal: options.signal };
    return await this.#runs.run(`${owner} ${image}`, 'run', call, async (signal) => {
      const answer = await this.#limiter.run(() => this.#run(provider, image, reference.registry, signal), signal);
      this.#keep(owner, answer);
      return answer.config;
    });
  }

  /** @throws {EsbError} whose message holds nothing that the program has written */
  async #run(provider: CredentialProvider, image: string, registry: string, signal: AbortSignal): Promise<Answer> {
    const { logger, programFolder, runner } = this.#options;
    const { args, env, name } = provider;
    const request = { apiVersion: PROVIDER_API, kind: 'CredentialProviderRequest', image };
    const { code, stderr, stdout } = await withDeadline(`running ${name}`, RUN_DEADLINE_MS, signal, (ended) =>
      runner
        .run({
          program: join(programFolder, name),
          args,
          env: { ...(process.env as Readonly<Record<string, string>>), ...env },
          input: JSON.stringify(request),
          maxOutputBytes: MAX_ANSWER_BYTES,
          signal: ended,
        })
        .catch((error: unknown) => {
          throw errnoOf(error) === 'ENOENT' ? failure(`there is no such program in ${programFolder}`) : error;
        }),
    );
    if (code !== 0) {
      // By the protocol credentials go to the other output.
      const told = stderr.slice(-MAX_STDERR_LENGTH).trim();
      logger.warn({ provider: name, image, code, stderr: told }, 'a credential provider failed');
      throw failure(`it ended with code ${code ?? 'of a signal'}; the log of the agent has its words`);
    }
    return answerOf(stdout, provider, image, registry);
  }

  #keptFor(owner: string, image: string, registry: string): string | undefined {
    const now = this.#options.clock.monotonic();
    for (const cacheKey of [`image ${image}`, `registry ${registry}`, 'global']) {
      const kept = this.#kept.get(`${owner} ${cacheKey}`);
      if (kept !== undefined && kept.until > now) {
        return kept.config;
      }
    }
    return undefined;
  }

  #keep(owner: string, { cacheKey, cacheMs, config }: Answer): void {
    const now = this.#options.clock.monotonic();
    for (const [key, { until }] of this.#kept) {
      if (until <= now || this.#kept.size >= MAX_KEPT) {
        this.#kept.delete(key);
      }
    }
    if (cacheMs > 0) {
      this.#kept.set(`${owner} ${cacheKey}`, { config, until: now + cacheMs });
    }
  }
}

/** @throws {EsbError} for an answer that is none, without a part of it */
function answerOf(stdout: string, { defaultCacheMs }: CredentialProvider, image: string, registry: string): Answer {
  let answer: unknown;
  try {
    answer = JSON.parse(stdout);
  } catch {
    throw failure('its answer is no JSON');
  }
  const { apiVersion, auth, cacheDuration, cacheKeyType, kind } = isFields(answer) ? answer : {};
  if (apiVersion !== PROVIDER_API || kind !== 'CredentialProviderResponse') {
    throw failure(`its answer is no CredentialProviderResponse of ${PROVIDER_API}`);
  }
  const cacheKeys: Readonly<Record<string, string>> = {
    Image: `image ${image}`,
    Registry: `registry ${registry}`,
    Global: 'global',
  };
  const cacheKey = typeof cacheKeyType === 'string' ? cacheKeys[cacheKeyType] : undefined;
  const cacheMs = cacheDuration === undefined || cacheDuration === null ? defaultCacheMs : parseDuration(cacheDuration);
  if (cacheKey === undefined || cacheMs === undefined) {
    throw failure('its answer has no cacheKeyType of Image, Registry or Global, or a cacheDuration that is none');
  }
  // The same form as in a Secret: hosts with user name and password.
  return { config: JSON.stringify({ auths: isFields(auth) ? auth : {} }), cacheKey, cacheMs };
}

function failure(message: string): EsbError {
  return new EsbError(message, { code: 'ImagePullFailed' });
}
