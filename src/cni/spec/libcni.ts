import { join } from 'node:path';
import { backoffDelay } from '../../common/backoff.ts';
import type { Clock } from '../../common/clock.ts';
import { type CallOptions, DeadlineError, sleep } from '../../common/deadline.ts';
import { EsbError, type EsbErrorOptions, errnoOf, messageOf } from '../../common/errors.ts';
import type { CommandResult, CommandRunner } from '../../common/exec/command-runner.ts';
import { CNI_CODE_TRY_AGAIN, type CniResult, readFailure, readResult } from './cni-result.ts';
import type { NetworkConfig, PluginConfig } from './network-config.ts';
import type { CniTarget, ResultCache } from './result-cache.ts';

/** The verbs of the CNI specification 1.1. */
type CniCommand = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'VERSION' | 'GC';

/**
 * A plugin that could not be run or did not do its work. Codes: `PluginMissing`, `PluginFailed`, `PluginInvalidOutput`.
 */
class PluginError extends EsbError {
  /** Error code of the specification, or of the plugin from 100 up; undefined where it gave none. */
  readonly cniCode: number | undefined;

  constructor(message: string, options: EsbErrorOptions & { cniCode?: number | undefined }) {
    super(message, options);
    this.cniCode = options.cniCode;
  }
}

export interface CniClientOptions {
  readonly config: NetworkConfig;
  /** Folder of the plugins (`CNI_PATH`). */
  readonly pluginFolder: string;
  readonly cache: ResultCache;
  readonly runner: CommandRunner;
  readonly clock: Clock;
}

/** Default milliseconds that one verb may take over all plugins. */
const DEFAULT_DEADLINE_MS = 20_000;
/** Attempts with a busy plugin, and the waits between them. */
const BUSY_RETRIES = 5;
const BUSY_BACKOFF = { firstMs: 100, maxMs: 1600 } as const;
/** Code of the specification for a verb (or another variable) that the plugin does not know. */
const CNI_CODE_INVALID_ENVIRONMENT = 4;

/** The runtime's side of CNI 1.1 for one network, as libcni in Go. */
export class CniClient {
  readonly #options: CniClientOptions;

  constructor(options: CniClientOptions) {
    this.#options = options;
  }

  /**
   * Attaches a namespace: each plugin in order, given the result of the one before. The last result is kept for DEL.
   * After a failure the caller has to {@link CniClient.del}.
   */
  async add(target: CniTarget, options: CallOptions = {}): Promise<CniResult> {
    const { cache, config } = this.#options;
    let result: CniResult | undefined;
    await this.#each('ADD', config.plugins, options, async (plugin, signal) => {
      const output = await this.#execute('ADD', plugin, this.#request(plugin, result), target, signal);
      result = readResult(output.stdout);
      if (result === undefined) {
        throw this.#invalidOutput('ADD', plugin.type, output.stdout);
      }
    });
    await cache.write(config, target, result ?? {});
    return result ?? {};
  }

  /** Detaches: each plugin in reverse order. Works without the namespace and repeatedly. */
  async del(target: CniTarget, options: CallOptions = {}): Promise<void> {
    const { cache, config } = this.#options;
    const { containerId, ifName } = target;
    const previous = await this.cachedResult(containerId, ifName);
    await this.#each('DEL', config.plugins.toReversed(), options, (plugin, signal) =>
      this.#execute('DEL', plugin, this.#request(plugin, previous), target, signal),
    );
    await cache.remove(config.name, containerId, ifName);
  }

  /**
   * Lets every plugin check the attachment against its result.
   *
   * @throws {EsbError} `AttachmentUnknown` when there is no result to compare with
   */
  async check(target: CniTarget, options: CallOptions = {}): Promise<void> {
    const { disableCheck, plugins } = this.#options.config;
    const previous = await this.cachedResult(target.containerId, target.ifName);
    if (previous === undefined) {
      throw new EsbError(`there is no result of ${target.containerId} to check`, { code: 'AttachmentUnknown' });
    }
    await this.#each('CHECK', disableCheck ? [] : plugins, options, (plugin, signal) =>
      this.#execute('CHECK', plugin, this.#request(plugin, previous), target, signal),
    );
  }

  /** Asks every plugin whether it could serve an ADD now. A plugin without the verb counts as ready. */
  async status(options: CallOptions = {}): Promise<void> {
    const { cniVersion, plugins } = this.#options.config;
    await this.#each('STATUS', cniVersion < '1.1.0' ? [] : plugins, options, (plugin, signal) =>
      this.#optional('STATUS', plugin, this.#request(plugin), signal),
    );
  }

  /**
   * Gives every plugin the list of attachments, so that each can drop the rest. A plugin without the verb does nothing.
   */
  async gc(valid: readonly CniTarget[], options: CallOptions = {}): Promise<void> {
    const { cniVersion, disableGC, plugins } = this.#options.config;
    const attachments = valid.map(({ containerId, ifName }) => ({ containerID: containerId, ifname: ifName }));
    await this.#each('GC', cniVersion < '1.1.0' || disableGC ? [] : plugins, options, (plugin, signal) =>
      this.#optional('GC', plugin, { ...this.#request(plugin), 'cni.dev/valid-attachments': attachments }, signal),
    );
  }

  /**
   * Asks the given programs which versions of the specification they speak.
   *
   * @throws {EsbError} `PluginMissing`, or `VersionIncompatible` when one does not speak that of the configuration
   */
  async checkVersions(programs: readonly string[], options: CallOptions = {}): Promise<void> {
    const { config, pluginFolder } = this.#options;
    const { cniVersion } = config;
    await this.#within('VERSION', options, async (signal) => {
      await Promise.all(
        programs.map(async (type) => {
          const output = await this.#execute('VERSION', { type }, { cniVersion }, undefined, signal);
          const versions = readResult(output.stdout)?.supportedVersions;
          if (!Array.isArray(versions)) {
            throw this.#invalidOutput('VERSION', type, output.stdout);
          }
          if (!versions.includes(cniVersion)) {
            throw new PluginError(
              `CNI plugin ${type} in ${pluginFolder} does not speak CNI ${cniVersion}, only ${versions.map(String).join(', ')}: install a newer one`,
              { code: 'VersionIncompatible' },
            );
          }
        }),
      );
    });
  }

  cachedResult(containerId: string, ifName: string): Promise<CniResult | undefined> {
    const { cache, config } = this.#options;
    return cache.read(config.name, containerId, ifName);
  }

  #request(plugin: PluginConfig, previous?: CniResult): object {
    const { name, cniVersion } = this.#options.config;
    // Capabilities are between the configuration and the runtime; we use none of them.
    const { capabilities: _, ...rest } = plugin;
    return { ...rest, name, cniVersion, ...(previous === undefined ? {} : { prevResult: previous }) };
  }

  /** Runs `call` for one plugin after the other. */
  async #each(
    command: CniCommand,
    plugins: readonly PluginConfig[],
    options: CallOptions,
    call: (plugin: PluginConfig, signal: AbortSignal) => Promise<unknown>,
  ): Promise<void> {
    await this.#within(command, options, async (signal) => {
      for (const plugin of plugins) {
        await call(plugin, signal);
      }
    });
  }

  async #optional(command: CniCommand, plugin: PluginConfig, request: object, signal: AbortSignal): Promise<void> {
    try {
      await this.#execute(command, plugin, request, undefined, signal);
    } catch (error) {
      if (!(error instanceof PluginError && error.cniCode === CNI_CODE_INVALID_ENVIRONMENT)) {
        throw error;
      }
    }
  }

  /** Runs one plugin to its success, again where it is busy. */
  async #execute(
    command: CniCommand,
    plugin: PluginConfig,
    request: object,
    target: CniTarget | undefined,
    signal: AbortSignal,
  ): Promise<CommandResult> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#once(command, plugin.type, request, target, signal);
      } catch (error) {
        const busy = error instanceof PluginError && error.retryable;
        if (!busy || attempt >= BUSY_RETRIES) {
          throw error;
        }
        await sleep(this.#options.clock, backoffDelay(attempt + 1, BUSY_BACKOFF), signal);
      }
    }
  }

  async #once(
    command: CniCommand,
    type: string,
    request: object,
    target: CniTarget | undefined,
    signal: AbortSignal,
  ): Promise<CommandResult> {
    const { pluginFolder, runner } = this.#options;
    const program = join(pluginFolder, type);
    const env = this.#environment(command, target);
    const output = await runner
      .run({ program, args: [], env, input: JSON.stringify(request), signal })
      .catch((error: unknown) => {
        throw this.#startFailure(command, type, error);
      });
    if (output.code === 0) {
      return output;
    }
    throw this.#failure(command, type, output);
  }

  #environment(command: CniCommand, target: CniTarget | undefined): Record<string, string> {
    return {
      PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin',
      CNI_COMMAND: command,
      CNI_PATH: this.#options.pluginFolder,
      ...(target === undefined
        ? {}
        : { CNI_CONTAINERID: target.containerId, CNI_NETNS: target.netns, CNI_IFNAME: target.ifName }),
    };
  }

  #startFailure(command: CniCommand, type: string, error: unknown): EsbError {
    const { pluginFolder } = this.#options;
    const errno = errnoOf(error);
    if (error instanceof EsbError) {
      return error;
    }
    if (errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'EACCES') {
      return pluginMissing(type, pluginFolder, error);
    }
    return new PluginError(
      `CNI plugin ${type} in ${pluginFolder} could not be run for ${command}: ${messageOf(error)}`,
      // Being written: an installation is under way.
      { code: 'PluginFailed', retryable: errno === 'ETXTBSY', cause: error },
    );
  }

  #failure(command: CniCommand, type: string, output: CommandResult): EsbError {
    const told = readFailure(output.stdout);
    const code = output.code === undefined ? 'was killed by a signal' : `exited with ${output.code}`;
    const why = told?.message ?? (excerpt(output.stderr || output.stdout) || code);
    return new PluginError(`CNI plugin ${type} in ${this.#options.pluginFolder} failed ${command}: ${why}`, {
      code: 'PluginFailed',
      retryable: told?.code === CNI_CODE_TRY_AGAIN,
      cniCode: told?.code,
    });
  }

  #invalidOutput(command: CniCommand, type: string, stdout: string): EsbError {
    return new PluginError(
      `CNI plugin ${type} in ${this.#options.pluginFolder} answered ${command} with what is not a result: ${excerpt(stdout) || 'nothing'}`,
      { code: 'PluginInvalidOutput' },
    );
  }

  /** Returns only once the plugin is gone, unlike a plain race, so that the next command meets no other plugin. */
  async #within<T>(command: CniCommand, options: CallOptions, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const deadlineMs = options.deadlineMs ?? DEFAULT_DEADLINE_MS;
    const expired = new AbortController();
    const timer = this.#options.clock.setTimer(() => expired.abort(), deadlineMs);
    try {
      return await call(
        options.signal === undefined ? expired.signal : AbortSignal.any([expired.signal, options.signal]),
      );
    } catch (error) {
      if (expired.signal.aborted) {
        throw new DeadlineError(`CNI ${command} with the plugins in ${this.#options.pluginFolder}`, deadlineMs, error);
      }
      throw error;
    } finally {
      timer.cancel();
    }
  }
}

/** The error of a plugin that is not there. */
export function pluginMissing(type: string, folder: string, cause?: unknown): EsbError {
  return new PluginError(
    `CNI plugin ${type} is missing in ${folder} or cannot be executed: install the CNI plugins there, or name another folder with --cni-bin-dir`,
    { code: 'PluginMissing', cause },
  );
}

function excerpt(text: string): string {
  const flat = text.replaceAll(/\s+/g, ' ').trim();
  return flat.length > 200 ? `${flat.slice(0, 200)}…` : flat;
}
