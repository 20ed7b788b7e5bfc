import { access, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../common/clock.ts';
import type { CallOptions } from '../common/deadline.ts';
import { errnoOf, messageOf } from '../common/errors.ts';
import { AttachmentStore, namespacePrefix } from './attachment-store.ts';
import { CniClient } from './cni-client.ts';
import { type CommandRunner, inNetworkNamespace, systemCommandRunner } from './command-runner.ts';
import { createIpForward, createRemoteIpForward, restoreIpForward } from './ip-forward.ts';
import { bridgeNetwork, parseNetworkConfig } from './network-config.ts';
import { createNamespaceKeeper } from './network-namespace.ts';
import { removeBridge } from './node-bridge.ts';
import { removeNodeRules } from './node-rules.ts';
import { ResultCache } from './result-cache.ts';

/** `deadlineMs` is for all of it; default 120,000. */
export interface NodeNetworkRemovalOptions extends CallOptions {
  /** The agent's state folder, as it was given to `createNodeNetwork`. */
  readonly stateDir: string;
  readonly configFile: string;
  readonly pluginFolder: string;
  readonly subnet: string;
  /** The network namespace that the node lives in, where it is not that of this process. */
  readonly nodeNetns?: string;
  readonly runner?: CommandRunner;
}

const DEADLINE_MS = 120_000;
const PLUGIN_DEADLINE_MS = 5000;

/**
 * Takes away everything that a node's network ever made: attachments and slots by CNI DEL, their namespaces, the bridge,
 * the rules, the folder `cni` of the state, and puts `ip_forward` back. The agent must have ended. Goes on after a failure;
 * may be repeated, also when nothing is there.
 *
 * @returns what could not be done, one message each; empty when nothing is left
 */
export async function removeNodeNetwork(options: NodeNetworkRemovalOptions): Promise<string[]> {
  const failures: string[] = [];
  const attempt = async (what: string, step: () => Promise<void>): Promise<void> => {
    try {
      await step();
    } catch (error) {
      failures.push(`${what}: ${messageOf(error)}`);
    }
  };
  const { stateDir, nodeNetns } = options;
  const expiry = AbortSignal.timeout(options.deadlineMs ?? DEADLINE_MS);
  const signal = options.signal === undefined ? expiry : AbortSignal.any([expiry, options.signal]);
  const runner = options.runner ?? systemCommandRunner;
  const folder = join(stateDir, 'cni');
  const namespaces = createNamespaceKeeper(runner);
  // A node whose own namespace is gone took its bridge, rules and settings with it.
  const nodeAlive = nodeNetns === undefined || (await namespaces.isPinned(nodeNetns));
  const nodeRunner = nodeNetns === undefined ? runner : inNetworkNamespace(runner, nodeNetns);

  const network = await readNetwork(options, folder);
  const prefix = namespacePrefix(stateDir);
  const recorded = (await new AttachmentStore(folder).load()).map((record) => record.id);
  const present = (await namespaces.names()).filter((name) => name.startsWith(prefix));
  const pluginsThere = await exists(join(options.pluginFolder, 'bridge'));
  for (const id of new Set([...recorded, ...present])) {
    if (nodeAlive && pluginsThere && network !== undefined) {
      const cni = new CniClient({
        config: network.config,
        pluginFolder: options.pluginFolder,
        cache: new ResultCache(folder),
        runner: nodeRunner,
        clock: systemClock,
      });
      const path = namespaces.path(id);
      const netns = (await namespaces.isPinned(path)) ? path : '';
      // The interface ends with its namespace and the reservation with the folder, so a plugin that fails is no matter.
      await cni
        .del({ containerId: id, netns, ifName: 'eth0' }, { signal, deadlineMs: PLUGIN_DEADLINE_MS })
        .catch(() => undefined);
    }
    await attempt(`network namespace ${id}`, () => namespaces.remove(id, { signal }));
  }
  // Without any trace of a network of ours, a bridge or table of the same name belongs to somebody else.
  if (nodeAlive && (await exists(folder))) {
    const ipForward = nodeNetns === undefined ? createIpForward() : createRemoteIpForward(nodeRunner);
    await attempt('bridge', () => removeBridge(nodeRunner, network?.bridge ?? 'esb0', { signal }));
    await attempt('nftables', () => removeNodeRules(nodeRunner, { signal }));
    await attempt('ip_forward', () => restoreIpForward(ipForward, folder));
  }
  if (failures.length === 0) {
    await attempt(folder, () => rm(folder, { recursive: true, force: true }));
  }
  return failures;
}

async function readNetwork(
  options: NodeNetworkRemovalOptions,
  folder: string,
): Promise<ReturnType<typeof bridgeNetwork> | undefined> {
  try {
    const config = parseNetworkConfig(await readFile(options.configFile, 'utf8'), options.configFile);
    return bridgeNetwork(config, options.subnet, join(folder, 'ipam'), options.configFile);
  } catch {
    // A configuration that is gone or broken since must not keep anything from being removed.
    return undefined;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      return false;
    }
    throw error;
  }
}
