import { join } from 'node:path';
import { backoffDelay } from '../../common/backoff.ts';
import type { Clock } from '../../common/clock.ts';
import { type CallOptions, DeadlineError, sleep } from '../../common/deadline.ts';
import { EsbError, type EsbErrorOptions, errnoOf, messageOf } from '../../common/errors.ts';
import type { CommandResult, CommandRunner } from '../../common/exec/command-runner.ts';
import { CNI_CODE_TRY_AGAIN, type CniFailure, type CniResult, readFailure, readResult } from './cni-result.ts';
import { isObject, type NetworkConfig, type PluginConfig } from './network-config.ts';
import type { CniTarget, ResultCache } from './result-cache.ts';

/** The verbs of the CNI specification 1.1. */
export type CniCommand = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'VERSION' | 'GC';

/**
 * A plugin that could not be run or did not do its work. Codes: `PluginMissing`, `PluginFailed`, `PluginInvalidOutput`.
 */
export class PluginError extends EsbError {
  readonly plugin: string;
  /** Error code of the specification, or of the plugin from 100 up; undefined where it gave none. */
  readonly cniCode: number | undefined;

  constructor(message: string, options: EsbErrorOptions & { plugin: string; cniCode?: number | undefined }) {
    super(message, options);
    this.plugin = options.plugin;
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
  readonly #config: NetworkConfig;
  readonly #pluginFolder: string;
  readonly #cache: ResultCache;
  readonly #runner: CommandRunner;
  readonly #clock: Clock;

  constructor(options: CniClientOptions) {
    this.#config = options.config;
    this.#pluginFolder = options.pluginFolder;
    this.#cache = options.cache;
    this.#runner = options.runner;
    this.#clock = options.clock;
  }

  /**
   * Attaches a namespace: each plugin in order, given the result of the one before. The last result is kept for DEL.
   * After a failure the caller has to {@link CniClient.del}.
   */
  async add(target: CniTarget, options: CallOptions = {}): Promise<CniResult> {
    const result = await this.#within('ADD', options, async (signal) => {
      let previous: CniResult | undefined;
      for (const plugin of this.#config.plugins) {
        const output = await this.#execute('ADD', plugin, this.#request(plugin, previous), target, signal);
        previous = readResult(output.stdout);
        if (previous === undefined) {
          throw this.#invalidOutput('ADD', plugin.type, output.stdout);
        }
      }
      return previous ?? {};
    });
    await this.#cache.write(this.#config, target, result);
    return result;
  }

  /** Detaches: each plugin in reverse order. Works without the namespace and repeatedly. */
  async del(target: CniTarget, options: CallOptions = {}): Promise<void> {
    const { containerId, ifName } = target;
    const previous = await this.#cache.read(this.#config.name, containerId, ifName);
    await this.#within('DEL', options, async (signal) => {
      for (const plugin of this.#config.plugins.toReversed()) {
        await this.#execute('DEL', plugin, this.#request(plugin, previous), target, signal);
      }
    });
    await this.#cache.remove(this.#config.name, containerId, ifName);
  }

  /**
   * Lets every plugin check the attachment against its result.
   *
   * @throws {EsbError} `AttachmentUnknown` when there is no result to compare with
   */
  async check(target: CniTarget, options: CallOptions = {}): Promise<void> {
    const previous = await this.#cache.read(this.#config.name, target.containerId, target.ifName);
    if (previous === undefined) {
      throw new EsbError(`there is no result of ${target.containerId} to check`, {
        code: 'AttachmentUnknown',
      });
    }
    if (this.#config.disableCheck) {
      return;
    }
    await this.#within('CHECK', options, async (signal) => {
      for (const plugin of this.#config.plugins) {
        await this.#execute('CHECK', plugin, this.#request(plugin, previous), target, signal);
      }
    });
  }

  /** Asks every plugin whether it could serve an ADD now. A plugin without the verb counts as ready. */
  async status(options: CallOptions = {}): Promise<void> {
    if (this.#config.cniVersion < '1.1.0') {
      return;
    }
    await this.#within('STATUS', options, async (signal) => {
      for (const plugin of this.#config.plugins) {
        await this.#optional('STATUS', plugin, this.#request(plugin), signal);
      }
    });
  }

  /**
   * Gives every plugin the list of attachments, so that each can drop the rest. A plugin without the verb does nothing.
   */
  async gc(valid: readonly CniTarget[], options: CallOptions = {}): Promise<void> {
    if (this.#config.cniVersion < '1.1.0' || this.#config.disableGC) {
      return;
    }
    const attachments = valid.map(({ containerId, ifName }) => ({
      containerID: containerId,
      ifname: ifName,
    }));
    await this.#within('GC', options, async (signal) => {
      for (const plugin of this.#config.plugins) {
        const request = { ...this.#request(plugin), 'cni.dev/valid-attachments': attachments };
        await this.#optional('GC', plugin, request, signal);
      }
    });
  }

  /**
   * Asks the given programs which versions of the specification they speak.
   *
   * @throws {EsbError} `PluginMissing`, or `VersionIncompatible` when one does not speak that of the configuration
   */
  async checkVersions(programs: readonly string[], options: CallOptions = {}): Promise<void> {
    const { cniVersion } = this.#config;
    await this.#within('VERSION', options, async (signal) => {
      await Promise.all(
        programs.map(async (type) => {
          const output = await this.#execute('VERSION', { type }, { cniVersion }, undefined, signal);
          const answer = readResult(output.stdout);
          const versions: unknown = isObject(answer) ? answer.supportedVersions : undefined;
          if (!Array.isArray(versions)) {
            throw this.#invalidOutput('VERSION', type, output.stdout);
          }
          if (!versions.includes(cniVersion)) {
            throw new PluginError(
              `CNI plugin ${type} in ${this.#pluginFolder} does not speak CNI ${cniVersion}, only ${versions.map(String).join(', ')}: install a newer one`,
              { code: 'VersionIncompatible', plugin: type },
            );
          }
        }),
      );
    });
  }

  cachedResult(containerId: string, ifName: string): Promise<CniResult | undefined> {
    return this.#cache.read(this.#config.name, containerId, ifName);
  }

  #request(plugin: PluginConfig, previous?: CniResult): object {
    const { name, cniVersion } = this.#config;
    // Capabilities are between the configuration and the runtime; we use none of them.
    const { capabilities: _, ...rest } = plugin;
    return { ...rest, name, cniVersion, ...(previous === undefined ? {} : { prevResult: previous }) };
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
        await sleep(this.#clock, backoffDelay(attempt + 1, BUSY_BACKOFF), signal);
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
    let output: CommandResult;
    try {
      output = await this.#runner.run({
        program: join(this.#pluginFolder, type),
        args: [],
        env: this.#environment(command, target),
        input: JSON.stringify(request),
        signal,
      });
    } catch (error) {
      throw this.#startFailure(command, type, error);
    }
    if (output.code === 0) {
      return output;
    }
    throw this.#failure(command, type, output);
  }

  #environment(command: CniCommand, target: CniTarget | undefined): Record<string, string> {
    return {
      PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin',
      CNI_COMMAND: command,
      CNI_PATH: this.#pluginFolder,
      ...(target === undefined
        ? {}
        : { CNI_CONTAINERID: target.containerId, CNI_NETNS: target.netns, CNI_IFNAME: target.ifName }),
    };
  }

  #startFailure(command: CniCommand, type: string, error: unknown): unknown {
    const errno = errnoOf(error);
    if (error instanceof EsbError) {
      return error;
    }
    if (errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'EACCES') {
      return pluginMissing(type, this.#pluginFolder, error);
    }
    return new PluginError(
      `CNI plugin ${type} in ${this.#pluginFolder} could not be run for ${command}: ${messageOf(error)}`,
      // Being written: an installation is under way.
      { code: 'PluginFailed', plugin: type, retryable: errno === 'ETXTBSY', cause: error },
    );
  }

  #failure(command: CniCommand, type: string, output: CommandResult): EsbError {
    const told: CniFailure | undefined = readFailure(output.stdout);
    const code = output.code === undefined ? 'was killed by a signal' : `exited with ${output.code}`;
    const why = told?.message ?? (excerpt(output.stderr || output.stdout) || code);
    return new PluginError(`CNI plugin ${type} in ${this.#pluginFolder} failed ${command}: ${why}`, {
      code: 'PluginFailed',
      plugin: type,
      retryable: told?.code === CNI_CODE_TRY_AGAIN,
      cniCode: told?.code,
    });
  }

  #invalidOutput(command: CniCommand, type: string, stdout: string): EsbError {
    return new PluginError(
      `CNI plugin ${type} in ${this.#pluginFolder} answered ${command} with what is not a result: ${excerpt(stdout) || 'nothing'}`,
      { code: 'PluginInvalidOutput', plugin: type },
    );
  }

  /** Returns only once the plugin is gone, unlike a plain race, so that the next command meets no other plugin. */
  async #within<T>(command: CniCommand, options: CallOptions, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const deadlineMs = options.deadlineMs ?? DEFAULT_DEADLINE_MS;
    const expired = new AbortController();
    const timer = this.#clock.setTimer(() => expired.abort(), deadlineMs);
    try {
      return await call(
        options.signal === undefined ? expired.signal : AbortSignal.any([expired.signal, options.signal]),
      );
    } catch (error) {
      if (expired.signal.aborted) {
        throw new DeadlineError(`CNI ${command} with the plugins in ${this.#pluginFolder}`, deadlineMs, error);
      }
      throw error;
    } finally {
      timer.cancel();
    }
  }
}

/** The error of a plugin that is not there. */
export function pluginMissing(type: string, folder: string, cause?: unknown): PluginError {
  return new PluginError(
    `CNI plugin ${type} is missing in ${folder} or cannot be executed: install the CNI plugins there, or name another folder with --cni-bin-dir`,
    { code: 'PluginMissing', plugin: type, cause },
  );
}

function excerpt(text: string): string {
  const flat = text.replaceAll(/\s+/g, ' ').trim();
  return flat.length > 200 ? `${flat.slice(0, 200)}…` : flat;
}
