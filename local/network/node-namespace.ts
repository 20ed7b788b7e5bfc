import { access } from 'node:fs/promises';
import type { CallOptions } from '../../src/common/deadline.ts';
import { runCommand } from '../common/command.ts';
import { netnsPath, nodeAddress } from './node-address.ts';

/**
 * Makes the network namespace of a node, with its cable to the host, and keeps existing ones. The first node has none:
 * it is the host.
 */
export async function ensureNodeNamespace(node: string, options: CallOptions = {}): Promise<void> {
  const { namespace, link, host, node: address } = nodeAddress(node);
  if (namespace === undefined || link === undefined) {
    return;
  }
  const ip = (args: readonly string[]): Promise<unknown> => runCommand('ip', args, options);
  const inside = (args: readonly string[]): Promise<unknown> =>
    runCommand('nsenter', [`--net=${netnsPath(namespace)}`, '--', 'ip', ...args], options);
  if (!(await exists(netnsPath(namespace)))) {
    await ip(['netns', 'add', namespace]);
  }
  if (!(await exists(`/sys/class/net/${link}`))) {
    await ip(['link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace]);
  }
  await ip(['address', 'replace', `${host}/30`, 'dev', link]);
  await ip(['link', 'set', link, 'up']);
  await inside(['link', 'set', 'lo', 'up']);
  await inside(['address', 'replace', `${address}/30`, 'dev', 'eth0']);
  await inside(['link', 'set', 'eth0', 'up']);
  await inside(['route', 'replace', 'default', 'via', host]);
}

/** Removes the namespace of a node and its cable. A missing one is no error. */
export async function removeNodeNamespace(node: string, options: CallOptions = {}): Promise<void> {
  const { namespace, link } = nodeAddress(node);
  if (namespace === undefined || link === undefined) {
    return;
  }
  if (await exists(`/sys/class/net/${link}`)) {
    await runCommand('ip', ['link', 'delete', link], { ...options, allowedExitCodes: [0, 1] });
  }
  if (await exists(netnsPath(namespace))) {
    await runCommand('ip', ['netns', 'delete', namespace], options);
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
