import { EsbError } from '../../common/errors.ts';
import { formatRange, type IpRange, numberToAddress, rangeOf, sizeOf } from '../../common/net/ip-range.ts';
import type { Segment } from '../spec/network-config.ts';

/** Ports that a Linux bridge can have (`BR_MAX_PORTS`, port 0 is not used). */
export const BRIDGE_PORTS = 1023;

/** Workers that a bridge is meant for; the rest of its ports is for prepared slots and for workers being replaced. */
const WORKERS_PER_BRIDGE = 1000;
/**
 * Share of the subnet that belongs to one bridge. Twice as many addresses as ports, so that an address which was given
 * back is not given out again at once; and the same however many bridges there are, so that asking for more workers
 * moves none of those that are there.
 */
const SHARE = { 4: 21, 6: 112 } as const;
/** Number of addresses of a range that are never given out: network, gateway and broadcast. */
export const NOT_GIVEN = 3n;

/** The kernel's bound for the name of an interface. */
const NAME_LENGTH = 15;

export interface NetworkPlanOptions {
  /** Name of the first bridge. */
  readonly bridge: string;
  /** Name of the CNI network of the first bridge. */
  readonly network: string;
  /** At most one of each family, IPv4 first. */
  readonly subnets: readonly IpRange[];
  /** How many workers the node is to hold. */
  readonly maxWorkers: number;
}

/**
 * Bridges that a node has for so many workers.
 *
 * @throws {EsbError} `SubnetTooSmall`, with a sufficient subnet in the message
 */
export function planSegments(options: NetworkPlanOptions): readonly Segment[] {
  const count = Math.max(1, Math.ceil(options.maxWorkers / WORKERS_PER_BRIDGE));
  for (const subnet of options.subnets) {
    if (count > 1 && !holds(subnet, count)) {
      const most = SHARE[subnet.family] - Math.ceil(Math.log2(count));
      throw new EsbError(
        `the subnet ${formatRange(subnet)} is too small for ${options.maxWorkers} workers, which need ${count} bridges of a /${SHARE[subnet.family]} each: ` +
          `give the agent a subnet of /${most} or larger, or --max-workers ${WORKERS_PER_BRIDGE} or less`,
        { code: 'SubnetTooSmall' },
      );
    }
  }
  return Array.from({ length: count }, (_, index) => segmentAt(options, index));
}

/** The bridge with a number, planned or left over from a plan with more of them. */
export function segmentAt(options: Pick<NetworkPlanOptions, 'bridge' | 'network' | 'subnets'>, index: number): Segment {
  return {
    index,
    bridge: index === 0 ? options.bridge : numbered(options.bridge, index),
    // A dot, as it must not look like the beginning of a container's id in the names of results.
    network: index === 0 ? options.network : `${options.network}.${index}`,
    ranges: options.subnets.map((subnet) => share(subnet, index)),
  };
}

/** How many attachments fit on a bridge. */
export function capacityOf(segment: Segment): number {
  // An IPv6 range may have more addresses than a number can tell exactly; how many more does not matter.
  const addresses = segment.ranges.map((range) => Number(sizeOf(range) - NOT_GIVEN));
  return Math.max(0, Math.min(BRIDGE_PORTS, ...addresses));
}

/** The node's own address on a bridge. */
export function gatewayOf(range: IpRange): string {
  return numberToAddress(range.family, range.first + 1n);
}

function holds(subnet: IpRange, count: number): boolean {
  return sizeOf(subnet) >= sizeOf(rangeOf(subnet.family, 0n, SHARE[subnet.family])) * BigInt(count);
}

function share(subnet: IpRange, index: number): IpRange {
  const prefixLength = Math.max(subnet.prefixLength, SHARE[subnet.family]);
  const size = sizeOf(rangeOf(subnet.family, 0n, prefixLength));
  return rangeOf(subnet.family, subnet.first + size * BigInt(index), prefixLength);
}

function numbered(name: string, index: number): string {
  const [digits = '0'] = /\d+$/.exec(name) ?? [];
  const suffix = String(Number(digits) + index);
  return `${name.replace(/\d+$/, '').slice(0, NAME_LENGTH - suffix.length)}${suffix}`;
}
