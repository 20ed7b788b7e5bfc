import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import { type CallOptions, withDeadline } from '../../common/deadline.ts';
import { undefinedIfNoFile } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import { addressToNumber, contains, type IpRange, singleAddress } from '../../common/net/ip-range.ts';
import { parseJson } from '../spec/cni-result.ts';
import { listOf } from '../spec/network-config.ts';
import { globalAddresses } from './netns.ts';
import { gatewayOf } from './network-plan.ts';
import { runNodeCommand } from './node-command.ts';

const BATCH_DEADLINE_MS = 10_000;

export interface Bridge {
  readonly name: string;
  /** The node has the first address of each. */
  readonly ranges: readonly IpRange[];
}

/** An attachment on a bridge, as it is seen from the node. */
export interface BridgePort {
  /** The node's end; absent where no result names one. */
  readonly hostInterface?: string;
  readonly ips: readonly string[];
}

function listPath(cniFolder: string): string {
  return join(cniFolder, 'bridges.json');
}

/** Names of the bridges that were made and not removed since, kept in the `cni` folder of the agent's state. */
export async function readBridgeNames(cniFolder: string): Promise<readonly string[]> {
  const text = await undefinedIfNoFile(readFile(listPath(cniFolder), 'utf8'));
  return listOf(parseJson(text ?? '')).filter((name) => typeof name === 'string');
}

export async function writeBridgeNames(cniFolder: string, names: readonly string[]): Promise<void> {
  await mkdir(cniFolder, { recursive: true, mode: 0o700 });
  await writeFileAtomically(listPath(cniFolder), JSON.stringify(names));
}

/**
 * Makes the bridge before the plugin does, with an address of its own: a bridge without one takes the lowest of its
 * ports' and changes it as they come and go, and workers then send to the old one until their neighbour entries expire.
 * The plugin finds the bridge and uses it as it is. `ports` are put back on it, isolated from each other.
 */
export async function createBridge(
  runner: CommandRunner,
  bridge: Bridge,
  ports: readonly BridgePort[],
  options: CallOptions = {},
): Promise<void> {
  const { name, ranges } = bridge;
  const fail = { ...options, errorCode: 'BridgeFailed' as const };
  await runNodeCommand(
    runner,
    'ip',
    ['link', 'add', 'name', name, 'address', hardwareAddress(ranges), 'type', 'bridge'],
    fail,
  );
  const up = [...ranges.map((range) => addressLine(name, range)), `link set dev ${name} up`];
  await runNodeCommand(runner, 'ip', ['-batch', '-'], { ...fail, input: batch(up) });
  const back = ports.flatMap(({ hostInterface }) =>
    hostInterface === undefined
      ? []
      : [`link set dev ${hostInterface} master ${name}`, `link set dev ${hostInterface} type bridge_slave isolated on`],
  );
  await batchAnyway(runner, [...back, ...routeLines(bridge, ports)], options);
}

/**
 * Gives an existing bridge its planned addresses and removes others: the node may have been given another subnet.
 * Attachments with earlier addresses stay within reach.
 *
 * @returns whether anything had to be changed
 */
export async function correctBridge(
  runner: CommandRunner,
  bridge: Bridge,
  ports: () => Promise<readonly BridgePort[]>,
  options: CallOptions = {},
): Promise<boolean> {
  const { name, ranges } = bridge;
  const fail = { ...options, errorCode: 'BridgeFailed' as const };
  const args = ['-j', 'address', 'show', 'dev', name];
  const present = globalAddresses(await runNodeCommand(runner, 'ip', args, fail), name);
  const isOf = (range: IpRange, { ip, prefixLength }: (typeof present)[number]): boolean =>
    gatewayOf(range) === ip && range.prefixLength === prefixLength;
  const wrong = present.filter((address) => !ranges.some((range) => isOf(range, address)));
  const missing = ranges.filter((range) => !present.some((address) => isOf(range, address)));
  if (wrong.length === 0 && missing.length === 0) {
    return false;
  }
  const lines = [
    ...wrong.map(({ ip, prefixLength }) => `address delete ${ip}/${prefixLength} dev ${name}`),
    ...missing.map((range) => addressLine(name, range)),
  ];
  await runNodeCommand(runner, 'ip', ['-batch', '-'], { ...fail, input: batch(lines) });
  const routes = routeLines(bridge, await ports());
  // Earlier attachments still know the node by its former address. New ones come first, as the plugin reads the first.
  const former = wrong
    .filter(({ ip }) => routes.length > 0 && !ranges.some((range) => gatewayOf(range) === ip))
    .map(({ ip }) => `address add ${singleAddress(ip)} dev ${name}`);
  await batchAnyway(runner, [...former, ...routes], options);
  return true;
}

/**
 * Removes the neighbour entries that the node has of addresses on a bridge, before an address goes to another worker.
 * The kernel asks the earlier link address for 8 s before it asks for a new one (`delay_first_probe_time`, then three
 * probes, in arp(7)), and no announcement of the worker tells it: the port does not forward yet when the kernel sends
 * the announcement.
 */
export async function removeNeighbours(
  runner: CommandRunner,
  bridge: string,
  addresses: readonly string[],
  options: CallOptions = {},
): Promise<void> {
  const lines = addresses.map((address) => `neigh flush to ${singleAddress(address)} dev ${bridge}`);
  await runNodeCommand(runner, 'ip', ['-batch', '-'], { ...options, errorCode: 'BridgeFailed', input: batch(lines) });
}

/** Removes the bridge; missing is success. */
export async function removeBridge(runner: CommandRunner, bridge: string, options: CallOptions = {}): Promise<void> {
  const fail = { ...options, errorCode: 'BridgeFailed' as const };
  const present = await runNodeCommand(runner, 'ip', ['-o', 'link', 'show', 'type', 'bridge'], fail);
  if (present.split('\n').some((line) => line.split(': ')[1]?.trim() === bridge)) {
    await runNodeCommand(runner, 'ip', ['link', 'delete', 'dev', bridge], fail);
  }
}

function addressLine(name: string, range: IpRange): string {
  const address = `${gatewayOf(range)}/${range.prefixLength}`;
  // The address is unique by plan, and a bridge without ports never ends duplicate detection.
  return range.family === 4 ? `address add ${address} brd + dev ${name}` : `address add ${address} nodad dev ${name}`;
}

/** For attachments whose addresses are not of the bridge's own ranges. */
function routeLines({ name, ranges }: Bridge, ports: readonly BridgePort[]): readonly string[] {
  return ports
    .flatMap(({ ips }) => ips)
    .filter((ip) => !ranges.some((range) => contains(range, ip)))
    .map((ip) => `route replace ${singleAddress(ip)} dev ${name}`);
}

/** One line that fails, for an interface that is gone, must not keep the others from being carried out. */
async function batchAnyway(runner: CommandRunner, lines: readonly string[], options: CallOptions): Promise<void> {
  if (lines.length > 0) {
    const args = ['-force', '-batch', '-'];
    await withDeadline('ip -force -batch', BATCH_DEADLINE_MS, options.signal, (signal) =>
      runner.run({ program: 'ip', args, input: batch(lines), signal }),
    );
  }
}

function batch(lines: readonly string[]): string {
  return `${lines.join('\n')}\n`;
}

/** A locally administered hardware address made from the gateway's, as container networks do. */
function hardwareAddress(ranges: readonly IpRange[]): string {
  const [range] = ranges;
  const gateway = range === undefined ? 0n : addressToNumber(gatewayOf(range));
  const bytes = [24n, 16n, 8n, 0n].map((shift) => Number((gateway >> shift) & 0xffn));
  return ['0a', '58', ...bytes.map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}
