import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { messageOf, undefinedIfNoFile } from '../../common/errors.ts';
import { type CommandRunner, inNetworkNamespace, systemCommandRunner } from '../../common/exec/command-runner.ts';
import { AttachmentStore, namespacePrefix } from '../attachments/attachment-store.ts';
import { readBridgeNames, removeBridge } from '../host/bridge.ts';
import { localIpForward, remoteIpForward, restoreIpForward } from '../host/ip-forward.ts';
import { createNamespaceKeeper } from '../host/netns.ts';
import { cniTarget, readNetworkSetup } from '../host/network-setup.ts';
import { removeNodeRules } from '../host/nftables.ts';
import { runNodeCommand } from '../host/node-command.ts';

/** `deadlineMs` is for all of it; default 120,000. */
export interface NetworkUninstallOptions extends CallOptions {
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
/** How many attachments are removed at once: there may be thousands. */
const AT_ONCE = 4;

/**
 * Removes all that a node's network ever made: attachments and slots by CNI DEL, their namespaces, the bridge, the
 * rules, the folder `cni` of the state, and puts `ip_forward` back where no other program can need it. The agent must
 * have ended. Goes on after a failure; may be repeated, also when nothing is there.
 *
 * @returns one message for each step that failed; empty when nothing is left
 */
export async function removeNodeNetwork(options: NetworkUninstallOptions): Promise<string[]> {
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

  // A configuration that is gone or broken since must not keep anything from being removed.
  const setup = await readNetworkSetup({
    ...options,
    folder,
    runner: nodeRunner,
    clock: systemClock,
    maxWorkers: 1,
  }).catch(() => undefined);
  const prefix = namespacePrefix(stateDir);
  const records = await new AttachmentStore(folder).load();
  const segments = new Map(records.map(({ id, segment }) => [id, segment]));
  const present = (await namespaces.names()).filter((name) => name.startsWith(prefix));
  const pluginsThere = await exists(join(options.pluginFolder, 'bridge'));
  const waiting = [...new Set([...segments.keys(), ...present])];
  const removeNext = async (): Promise<void> => {
    for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) {
      const name = id;
      if (nodeAlive && pluginsThere && setup !== undefined) {
        const path = namespaces.path(name);
        const netns = (await namespaces.isPinned(path)) ? path : '';
        // The interface ends with its namespace and the reservation with the folder, so a plugin may fail.
        await setup
          .at(segments.get(name) ?? 0)
          .cni.del(cniTarget(name, netns), { signal, deadlineMs: PLUGIN_DEADLINE_MS })
          .catch(() => undefined);
      }
      await attempt(`network namespace ${name}`, () => namespaces.remove(name, { signal }));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, removeNext));
  // Without any trace of a network of ours, a bridge or table of the same name belongs to another program.
  if (nodeAlive && (await exists(folder))) {
    const ipForward = nodeNetns === undefined ? localIpForward : remoteIpForward(nodeRunner);
    for (const bridge of new Set([setup?.at(0).bridge ?? 'esb0', ...(await readBridgeNames(folder))])) {
      await attempt(`bridge ${bridge}`, () => removeBridge(nodeRunner, bridge, { signal }));
    }
    await attempt('nftables', () => removeNodeRules(nodeRunner, { signal }));
    await attempt('forwarding', async () => {
      const others = await countInterfaces(nodeRunner, { signal });
      for (const family of [4, 6] as const) {
        await restoreIpForward(ipForward(family), folder, family, others);
      }
    });
  }
  if (failures.length === 0) {
    await attempt(folder, () => rm(folder, { recursive: true, force: true }));
  }
  return failures;
}

/** Interfaces that are up, without the loopback. Ours are gone by now. */
async function countInterfaces(runner: CommandRunner, options: CallOptions): Promise<number> {
  const text = await runNodeCommand(runner, 'ip', ['-o', 'link', 'show', 'up'], {
    ...options,
    errorCode: 'ForwardingFailed',
  });
  return text.split('\n').filter((line) => line !== '' && !/^\d+: lo:/.test(line)).length;
}

async function exists(path: string): Promise<boolean> {
  return (await undefinedIfNoFile(stat(path))) !== undefined;
}
