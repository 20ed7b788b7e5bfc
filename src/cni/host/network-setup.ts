import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import { type IpFamily, type IpRange, parseIpv4Range } from '../../common/net/ip-range.ts';
import { CniClient } from '../spec/libcni.ts';
import {
  type BridgeNetwork,
  bridgeNetwork,
  parseNetworkConfig,
  type Segment,
  segmentConfig,
} from '../spec/network-config.ts';
import { type CniTarget, ResultCache } from '../spec/result-cache.ts';
import { HostLocal } from './host-local.ts';
import { capacityOf, planSegments, segmentAt } from './network-plan.ts';

/** Name of the interface inside. */
export const INTERFACE = 'eth0';

/** Key of a namespace of ours for a plugin; `netns` is empty when the namespace is gone. */
export function cniTarget(id: string, netns: string): CniTarget {
  return { containerId: id, netns, ifName: INTERFACE };
}

/** A bridge of the node with what works on its attachments. */
export interface NodeSegment extends Segment {
  readonly cni: CniClient;
  readonly ipam: HostLocal;
  readonly cache: ResultCache;
  /** How many attachments fit on it. */
  readonly capacity: number;
}

/** The network configuration, read and planned. */
export interface NetworkSetup {
  readonly families: readonly IpFamily[];
  /** IPv4 first. */
  readonly subnets: readonly IpRange[];
  readonly programs: readonly string[];
  /** Bridges that new attachments are put on. */
  readonly planned: readonly NodeSegment[];
  /** The bridge with a number, planned or left over. */
  at(index: number): NodeSegment;
}

interface NetworkSetupOptions {
  /** The folder `cni` of the agent's state. */
  readonly folder: string;
  readonly configFile: string;
  readonly pluginFolder: string;
  /** IPv4 addresses of the workers of this node. */
  readonly subnet: string;
  readonly maxWorkers: number;
  readonly runner: CommandRunner;
  readonly clock: Clock;
}

/**
 * Reads the configuration.
 *
 * @throws {EsbError} `NetworkConfigInvalid`, `InvalidArgument`, `SubnetTooSmall`
 */
export async function readNetworkSetup(options: NetworkSetupOptions): Promise<NetworkSetup> {
  const { configFile, folder, maxWorkers } = options;
  const subnet = parseIpv4Range(options.subnet);
  const text = await readFile(configFile, 'utf8').catch((error: unknown) => {
    throw new EsbError(`cannot read the network configuration: ${messageOf(error)}`, {
      code: 'NetworkConfigInvalid',
      retryable: true,
      cause: error,
    });
  });
  const network = bridgeNetwork(parseNetworkConfig(text, configFile), configFile);
  const subnets = [...(network.ipv4 ? [subnet] : []), ...(network.ipv6 === undefined ? [] : [network.ipv6])];
  const plan = { bridge: network.bridge, network: network.config.name, subnets };
  const planned = planSegments({ ...plan, maxWorkers }).map((segment) => equip(segment, network, options));
  const others = new Map<number, NodeSegment>();
  await mkdir(join(folder, 'ipam'), { recursive: true, mode: 0o700 });
  return {
    families: subnets.map(({ family }) => family),
    subnets,
    programs: network.programs,
    planned,
    at(index) {
      const found = planned[index] ?? others.get(index) ?? equip(segmentAt(plan, index), network, options);
      others.set(index, found);
      return found;
    },
  };
}

function equip(segment: Segment, network: BridgeNetwork, options: NetworkSetupOptions): NodeSegment {
  const dataDir = join(options.folder, 'ipam');
  const cache = new ResultCache(options.folder);
  return {
    ...segment,
    cache,
    capacity: capacityOf(segment),
    ipam: new HostLocal(dataDir, segment.network),
    cni: new CniClient({
      config: segmentConfig(network, segment, dataDir),
      pluginFolder: options.pluginFolder,
      cache,
      runner: options.runner,
      clock: options.clock,
    }),
  };
}
