import type { CallOptions } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import { type CommandRunner, LONG_OUTPUT_BYTES } from '../../common/exec/command-runner.ts';
import { formatRange, type IpFamily, type IpRange } from '../../common/net/ip-range.ts';
import { parseJson } from '../spec/cni-result.ts';
import { isObject, listOf } from '../spec/network-config.ts';
import {
  addEgress,
  CLUSTER_SET,
  chainsOf,
  deleteEgress,
  EGRESS_INPUT_MAP,
  EGRESS_MAP,
  type EgressClass,
  egressChains,
  egressMaps,
  type HeldEgress,
  PRIVATE_RANGES,
  PRIVATE_SET,
} from './egress-rules.ts';
import { runNodeCommand } from './node-command.ts';

/** Name of our table, in the family `inet`. */
export const RULES_TABLE = 'esb';
const TABLE = `inet ${RULES_TABLE}`;

/**
 * Ranges in which clouds serve credentials to all processes of a machine: link-local addresses, which are the machine's
 * own (RFC 3927), and the addresses of Azure (`WireServer`) and Alibaba outside of these.
 */
const METADATA_RANGES = ['169.254.0.0/16', '168.63.129.16/32', '100.100.100.200/32'] as const;
/** Metadata addresses of IPv6: link-local (RFC 4291), and those of Amazon, Google and Oracle. */
const METADATA_RANGES_V6 = ['fe80::/10', 'fd00:ec2::254/128', 'fd20:ce::254/128', 'fd00:c1::a9fe:a9fe/128'];

/**
 * The addresses of these services themselves: of all clouds, of tasks of ECS and Pods of EKS, Azure's and Alibaba's. A
 * worker's own network namespace has no way to them, even without the table of the node.
 */
export const METADATA_ADDRESSES: readonly string[] = [
  '169.254.169.254',
  '169.254.170.2',
  '169.254.170.23',
  '168.63.129.16',
  '100.100.100.200',
  'fd00:ec2::254',
  'fd00:ec2::23',
  'fd20:ce::254',
  'fd00:c1::a9fe:a9fe',
];

export interface NodeRulesOptions {
  /** Every bridge that workers are on. */
  readonly bridges: readonly string[];
  /** Addresses of the workers, one range of each family that they have. */
  readonly subnets: readonly IpRange[];
  /** Destinations that workers are denied, beside the node itself and the metadata address. */
  readonly deniedRanges: readonly string[];
  /** Destinations that workers reach although a denied range has them. Never the node, nor the metadata address. */
  readonly allowedRanges?: readonly string[];
  /** Name servers of the workers: DNS to these alone is let through wherever they are. */
  readonly nameServers?: readonly string[];
  /** Ranges of the cluster's Pods and Services. */
  readonly clusterRanges?: readonly string[];
  /** Class of workers that have none of their own. Default `All`. */
  readonly defaultEgress?: EgressClass;
  /** Workers with a class of their own. */
  readonly held?: readonly HeldEgress[];
}

/** Kinds of refused packets, and the counter of each in our table. */
const COUNTERS = {
  node: 'refused_node',
  metadata: 'refused_metadata',
  worker: 'refused_worker',
  range: 'refused_range',
  source: 'refused_source',
  egress: 'refused_egress',
} as const;

/**
 * Packets of workers that the rules refused, by where they were to go: `source` are those with a foreign sender,
 * `egress` those that the worker's class does not let.
 */
export type Refusals = Readonly<Record<keyof typeof COUNTERS, number>>;

/**
 * The one static table of a node. Workers reach neither the node on any of its addresses, nor the metadata service, nor
 * denied ranges, nor through the node each other; DNS to their name servers passes, and so do packets to an allowed
 * range within a denied one. From outside nothing reaches workers except answers. Packets of workers are masqueraded on
 * their way out. No worker has a rule of its own: one with a class has an element in two maps, by its link address, and
 * a class takes ways away from what the other rules let. A class judges each packet: an earlier worker of the same address
 * may have left a connection. Refused packets are counted.
 */
export function nodeRules(options: NodeRulesOptions): string {
  const bridges = `{ ${options.bridges.map((name) => JSON.stringify(name)).join(', ')} }`;
  const families = ([4, 6] as const).map((family) =>
    familyRules(
      family,
      options.subnets.find((subnet) => subnet.family === family),
      options,
    ),
  );
  const others = chainsOf(options.defaultEgress ?? 'All');
  const lines = (part: keyof FamilyRules): string => families.flatMap((rules) => rules[part]).join('\n    ');
  return `table inet ${RULES_TABLE}
delete table inet ${RULES_TABLE}
table inet ${RULES_TABLE} {
  ${Object.values(COUNTERS)
    .map((name) => `counter ${name} { }`)
    .join('\n  ')}
  ${families.flatMap(({ sets }) => sets).join('\n  ')}
  ${egressMaps(options.held ?? []).join('\n  ')}
  chain input {
    type filter hook input priority filter; policy accept;
    iifname != ${bridges} accept
    ct state related accept
    ct direction reply ct state established accept
    ${lines('input')}
    ether saddr vmap @${EGRESS_INPUT_MAP}
    goto ${others.input}
  }
  chain input_dns {
    jump dns
    goto refuse_node
  }
  chain refuse_node {
    meta pkttype { broadcast, multicast } drop
    ${count('node')} ${REJECT}
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname ${bridges} jump from_worker
    oifname ${bridges} ct state established,related accept
    oifname ${bridges} drop
  }
  chain from_worker {
    oifname ${bridges} ${count('worker')} ${REJECT}
    ${lines('source')}
    ether saddr vmap @${EGRESS_MAP}
    goto ${others.forward}
  }
  chain dns {
    ${lines('dns')}
  }
  chain egress_all {
    ct state established,related accept
    jump dns
    ${lines('destination')}
    accept
  }
  ${egressChains(
    options.subnets.map(({ family }) => family),
    `${count('egress')} ${REJECT}`,
  )}
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ${lines('postrouting')}
  }
}
`;
}

const REJECT = 'reject with icmpx admin-prohibited';

/** The lines for one family of addresses in each section of the table. */
interface FamilyRules {
  readonly sets: readonly string[];
  readonly dns: readonly string[];
  readonly input: readonly string[];
  readonly source: readonly string[];
  readonly destination: readonly string[];
  readonly postrouting: readonly string[];
}

function familyRules(
  family: IpFamily,
  subnet: IpRange | undefined,
  options: Pick<NodeRulesOptions, 'deniedRanges' | 'allowedRanges' | 'nameServers' | 'clusterRanges'>,
): FamilyRules {
  if (subnet === undefined) {
    // Workers have no address of it.
    const source = [`meta nfproto ipv${family} ${REJECT}`];
    return { sets: [], dns: [], input: [], source, destination: [], postrouting: [] };
  }
  const [ip, suffix] = family === 4 ? ['ip', ''] : ['ip6', '6'];
  const own = formatRange(subnet);
  const of = (ranges: readonly string[]): string[] => ranges.filter((range) => range.includes(':') === (family === 6));
  const set = (name: string, ranges: readonly string[]): string => `set ${name}${suffix} {
    type ipv${family}_addr
    flags interval
    auto-merge${ranges.length === 0 ? '' : `\n    elements = { ${ranges.join(', ')} }`}
  }`;
  return {
    sets: [
      set('metadata', family === 4 ? METADATA_RANGES : METADATA_RANGES_V6),
      set('denied', of(options.deniedRanges)),
      set('allowed', of(options.allowedRanges ?? [])),
      set('name_servers', of(options.nameServers ?? [])),
      set(PRIVATE_SET, PRIVATE_RANGES[family]),
      set(CLUSTER_SET, of(options.clusterRanges ?? [])),
    ],
    // By the address that the worker asked: a Service's was replaced on the way here by that of a Pod.
    dns: [`meta l4proto { tcp, udp } ct original ${ip} daddr @name_servers${suffix} ct original proto-dst 53 accept`],
    // Neighbour discovery is IPv6's ARP: without it no worker finds the gateway.
    input: family === 6 ? ['icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept'] : [],
    source: [`${ip} saddr != ${own} ${count('source')} drop`],
    destination: [
      // Also addresses that are on no bridge at the moment, lest packets go out with a worker's own address.
      `${ip} daddr ${own} ${count('worker')} ${REJECT}`,
      `${ip} daddr @metadata${suffix} ${count('metadata')} ${REJECT}`,
      `${ip} daddr @allowed${suffix} accept`,
      `${ip} daddr @denied${suffix} ${count('range')} ${REJECT}`,
    ],
    postrouting: [`${ip} saddr ${own} ${ip} daddr != ${own} masquerade`],
  };
}

function count(what: keyof typeof COUNTERS): string {
  return `counter name ${COUNTERS[what]}`;
}

/** Replaces the table, in one transaction, and returns its text. */
export async function applyNodeRules(runner: CommandRunner, options: NodeRulesOptions): Promise<string> {
  const input = nodeRules(options);
  await runNodeCommand(runner, 'nft', ['-f', '-'], { input, errorCode: 'NftFailed' });
  return input;
}

/** Removes the table; missing is success. */
export async function removeNodeRules(runner: CommandRunner, call: CallOptions = {}): Promise<void> {
  const input = `table inet ${RULES_TABLE}\ndelete table inet ${RULES_TABLE}\n`;
  await runNodeCommand(runner, 'nft', ['-f', '-'], { ...call, input, errorCode: 'NftFailed' });
}

/** Adds a worker with a class. An element that is there already is success, one of another class is not. */
export async function addHeld(runner: CommandRunner, held: HeldEgress): Promise<void> {
  await runNodeCommand(runner, 'nft', ['-f', '-'], { input: addEgress(held, TABLE), errorCode: 'NftFailed' });
}

/** Removes a worker with a class. A missing element is none. */
export async function removeHeld(runner: CommandRunner, held: HeldEgress): Promise<void> {
  await runNodeCommand(runner, 'nft', ['-f', '-'], { input: deleteEgress(held, TABLE), errorCode: 'NftFailed' });
}

/**
 * Forward chains of other programs that drop by default. No rule of ours can let through a packet that these drop.
 */
export async function readForwardDroppers(runner: CommandRunner): Promise<readonly string[]> {
  const chains = await list(runner, ['chains'], 'chain');
  return chains
    .filter(({ family, table }) => family !== 'inet' || table !== RULES_TABLE)
    .filter(({ hook, policy }) => hook === 'forward' && policy === 'drop')
    .map(({ family, table, name }) => [family, table, name].map(String).join(' '));
}

/** Refused packets of workers since the table was last written. */
export async function readRefusals(runner: CommandRunner, call: CallOptions = {}): Promise<Refusals> {
  const counters = await list(runner, ['counters', 'table', 'inet', RULES_TABLE], 'counter', call);
  const packets = (counter: string): number => {
    const found = counters.find(({ name }) => name === counter);
    return typeof found?.packets === 'number' ? found.packets : 0;
  };
  return {
    node: packets(COUNTERS.node),
    metadata: packets(COUNTERS.metadata),
    worker: packets(COUNTERS.worker),
    range: packets(COUNTERS.range),
    source: packets(COUNTERS.source),
    egress: packets(COUNTERS.egress),
  };
}

/** Objects of one kind in a list of nft. */
async function list(
  runner: CommandRunner,
  what: readonly string[],
  kind: string,
  call: CallOptions = {},
): Promise<readonly Readonly<Record<string, unknown>>[]> {
  return entriesOf(await readFilter(runner, what, call), kind);
}

/** The output of `nft -j list`. */
export async function readFilter(
  runner: CommandRunner,
  what: readonly string[],
  call: CallOptions = {},
): Promise<unknown> {
  const text = await runNodeCommand(runner, 'nft', ['-j', 'list', ...what], {
    ...call,
    maxOutputBytes: LONG_OUTPUT_BYTES,
    errorCode: 'NftFailed',
  });
  const document = parseJson(text);
  if (document === undefined) {
    throw new EsbError('nft answered with what is not JSON', { code: 'NftFailed' });
  }
  return document;
}

/** Objects of one kind in the output of `nft -j`. */
export function entriesOf(document: unknown, kind: string): readonly Readonly<Record<string, unknown>>[] {
  return listOf(isObject(document) ? document.nftables : undefined).flatMap((entry) => {
    const found = isObject(entry) ? entry[kind] : undefined;
    return isObject(found) ? [found] : [];
  });
}
