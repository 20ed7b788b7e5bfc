import { EsbError, messageOf } from '../../common/errors.ts';
import { formatRange, type IpRange, parseIpRange } from '../../common/net/ip-range.ts';

/** The configuration of one plugin; passed on unchanged. */
export interface PluginConfig extends Readonly<Record<string, unknown>> {
  readonly type: string;
}

/** A CNI network configuration list (CNI specification 1.1, section 1). */
export interface NetworkConfig {
  readonly cniVersion: string;
  readonly name: string;
  readonly disableCheck: boolean;
  readonly disableGC: boolean;
  readonly plugins: readonly PluginConfig[];
}

/** Versions of the specification that this implementation speaks, best first. */
export const SUPPORTED_VERSIONS: readonly string[] = ['1.1.0', '1.0.0', '0.4.0'];

/**
 * Reads a `.conflist`.
 *
 * @param origin what the text came from, for messages
 * @throws {EsbError} `NetworkConfigInvalid`
 */
export function parseNetworkConfig(text: string, origin: string): NetworkConfig {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw invalid(origin, `it is not JSON: ${messageOf(error)}`, error);
  }
  if (!isObject(document)) {
    throw invalid(origin, 'it is not an object');
  }
  const { name, plugins } = document;
  if (typeof name !== 'string' || !/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name)) {
    throw invalid(origin, "'name' must start with a letter or digit and hold only those, '_', '.' and '-'");
  }
  if (!Array.isArray(plugins) || plugins.length === 0) {
    throw invalid(origin, "'plugins' must be a list of at least one plugin");
  }
  return {
    cniVersion: chooseVersion(document, origin),
    name,
    disableCheck: document.disableCheck === true,
    disableGC: document.disableGC === true,
    plugins: plugins.map((plugin: unknown, index) => readPlugin(plugin, origin, index)),
  };
}

/** The fields of the configuration that the agent itself needs. */
export interface BridgeNetwork {
  /** Configuration as the file has it. */
  readonly config: NetworkConfig;
  /** Name of the first bridge. */
  readonly bridge: string;
  /** Whether workers get IPv4 addresses: all but where the file asks for IPv6 alone. */
  readonly ipv4: boolean;
  /** The subnet of IPv6 addresses, where the file asks for them. */
  readonly ipv6: IpRange | undefined;
  /** Every program that is executed, in order, IPAM included. */
  readonly programs: readonly string[];
}

/**
 * Reads what the agent relies on from a configuration list, which must have one bridge that is a gateway, isolates its
 * ports, and takes addresses from host-local. Of the ranges of host-local those of IPv4 are replaced by the node's own
 * subnet, and one of IPv6 is kept.
 *
 * @throws {EsbError} `NetworkConfigInvalid`
 */
export function bridgeNetwork(config: NetworkConfig, origin: string): BridgeNetwork {
  const bridges = config.plugins.filter((plugin) => plugin.type === 'bridge');
  const [bridge, another] = bridges;
  if (bridge === undefined || another !== undefined) {
    throw invalid(origin, `it must have exactly one plugin of type 'bridge', not ${bridges.length}`);
  }
  const name = bridge.bridge;
  if (typeof name !== 'string' || name === '' || name.length > 15) {
    throw invalid(origin, "the bridge plugin must give its 'bridge' a name of 1 to 15 characters");
  }
  if (bridge.isGateway !== true && bridge.isDefaultGateway !== true) {
    throw invalid(origin, "the bridge plugin must have 'isDefaultGateway': true, else workers reach nothing");
  }
  if (bridge.portIsolation !== true) {
    throw invalid(origin, "the bridge plugin must have 'portIsolation': true, else workers reach each other");
  }
  if (bridge.ipMasq === true) {
    throw invalid(origin, "the bridge plugin must have 'ipMasq': false, as the rules of the node masquerade");
  }
  const ipam = bridge.ipam;
  if (!isObject(ipam) || ipam.type !== 'host-local') {
    throw invalid(origin, "the bridge plugin must have an 'ipam' of type 'host-local'");
  }
  const subnets = readSubnets(ipam, origin);
  const ipv6 = subnets.filter(({ family }) => family === 6);
  if (ipv6.length > 1) {
    throw invalid(origin, "the 'ipam' must have one IPv6 range at most");
  }
  return {
    config,
    bridge: name,
    ipv4: ipv6.length === 0 || subnets.some(({ family }) => family === 4),
    ipv6: ipv6[0],
    programs: [...new Set([...config.plugins.map((plugin) => plugin.type), 'host-local'])],
  };
}

/** The configuration list for one bridge of the node, with its own name, addresses and folder of host-local. */
export function segmentConfig(network: BridgeNetwork, segment: Segment, dataDir: string): NetworkConfig {
  const ranges = segment.ranges.map((range) => [{ subnet: formatRange(range) }]);
  return {
    ...network.config,
    name: segment.network,
    plugins: network.config.plugins.map((plugin) => {
      if (plugin.type !== 'bridge' || !isObject(plugin.ipam)) {
        return plugin;
      }
      const { subnet: _subnet, ranges: _ranges, ...rest } = plugin.ipam;
      return { ...plugin, bridge: segment.bridge, ipam: { ...rest, ranges, dataDir } };
    }),
  };
}

function readSubnets(ipam: Readonly<Record<string, unknown>>, origin: string): readonly IpRange[] {
  const ranges = listOf(ipam.ranges).flatMap(listOf);
  return [...(ipam.subnet === undefined ? [] : [ipam]), ...ranges].map((range) => {
    const subnet = isObject(range) ? range.subnet : undefined;
    if (typeof subnet !== 'string') {
      throw invalid(origin, "each range of the 'ipam' must have a 'subnet'");
    }
    try {
      return parseIpRange(subnet);
    } catch (error) {
      throw invalid(origin, messageOf(error), error);
    }
  });
}

function chooseVersion(document: Readonly<Record<string, unknown>>, origin: string): string {
  const offered = [document.cniVersion, ...listOf(document.cniVersions)];
  const chosen = SUPPORTED_VERSIONS.find((version) => offered.includes(version));
  if (chosen === undefined) {
    const given = offered.filter((version) => typeof version === 'string').join(', ') || 'none';
    throw invalid(origin, `'cniVersion' must be one of ${SUPPORTED_VERSIONS.join(', ')}; it gives ${given}`);
  }
  return chosen;
}

function readPlugin(plugin: unknown, origin: string, index: number): PluginConfig {
  const type = isObject(plugin) ? plugin.type : undefined;
  if (!isObject(plugin) || typeof type !== 'string' || !/^[\w.-]+$/.test(type)) {
    throw invalid(origin, `plugin ${index + 1} must have a 'type' that is the name of a program`);
  }
  return { ...plugin, type };
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The list itself; an empty one for anything else. */
export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function invalid(origin: string, why: string, cause?: unknown): EsbError {
  return new EsbError(`network configuration ${origin} is not valid: ${why}`, { code: 'NetworkConfigInvalid', cause });
}

/** One bridge of the node with its share of the addresses. */
export interface Segment {
  readonly index: number;
  /** Name of the interface. */
  readonly bridge: string;
  /** Name of the CNI network, which is also that of host-local's folder. */
  readonly network: string;
  /** IPv4 first. */
  readonly ranges: readonly IpRange[];
}
