import type { IpFamily } from '../../common/net/ip-range.ts';

/** The chain of each class for packets to elsewhere. */
const FORWARD_CHAINS = {
  All: 'egress_all',
  Internet: 'egress_internet',
  Cluster: 'egress_cluster',
  None: 'egress_none',
} as const;

/**
 * Destinations of a worker, of those that the rules of the node let: `All` of them, the `Internet` without private ranges
 * and the cluster, Pods and Services of the `Cluster`, or `None`, DNS included.
 */
export type EgressClass = keyof typeof FORWARD_CHAINS;

/** The class of a written word. One of a later release counts as `None`. */
export function egressOf(word: string): EgressClass {
  return Object.hasOwn(FORWARD_CHAINS, word) ? (word as EgressClass) : 'None';
}

/** The map of a verdict for each worker that has a class, by its link address; for packets to elsewhere. */
export const EGRESS_MAP = 'egress';
/** Map of verdicts for packets to the node itself. */
export const EGRESS_INPUT_MAP = 'egress_input';

/** Name of the set of destinations that are no addresses of the Internet, and of the set of the cluster's own ranges. */
export const PRIVATE_SET = 'private';
export const CLUSTER_SET = 'cluster';

/**
 * Ranges that the Internet does not route, or that lead to addresses within them: IANA's registries of special-purpose
 * addresses (RFC 6890). Ranges for documentation are left out, since they lead nowhere.
 */
export const PRIVATE_RANGES: Readonly<Record<IpFamily, readonly string[]>> = {
  4: [
    '0.0.0.0/8',
    '10.0.0.0/8',
    '100.64.0.0/10',
    '127.0.0.0/8',
    '169.254.0.0/16',
    '172.16.0.0/12',
    '192.0.0.0/24',
    '192.168.0.0/16',
    '198.18.0.0/15',
    '224.0.0.0/3',
  ],
  // The second one and 6to4 hold addresses of IPv4, private ones as well.
  6: ['::/16', '64:ff9b:1::/48', '100::/64', '2002::/16', 'fc00::/7', 'fe80::/10', 'fec0::/10', 'ff00::/8'],
};

/** An attachment whose class is held by the table. */
export interface HeldEgress {
  readonly egress: EgressClass;
  /** The link address of the worker's interface, which no process of the worker can change. */
  readonly mac: string;
}

/** Where packets of a class to the node itself, and those to elsewhere, go on in the table. */
export function chainsOf(egress: EgressClass): { readonly input: string; readonly forward: string } {
  return { input: egress === 'None' ? 'refuse_node' : 'input_dns', forward: FORWARD_CHAINS[egress] };
}

/** Both maps, with an element of each for every attachment in `held`. */
export function egressMaps(held: readonly HeldEgress[]): readonly string[] {
  const map = (name: string, way: 'input' | 'forward'): string => {
    const elements = held.map(({ egress, mac }) => `${mac} : goto ${chainsOf(egress)[way]}`);
    return `map ${name} {
    type ether_addr : verdict${elements.length === 0 ? '' : `\n    elements = { ${elements.join(', ')} }`}
  }`;
  };
  return [map(EGRESS_MAP, 'forward'), map(EGRESS_INPUT_MAP, 'input')];
}

/**
 * The chains of the classes.
 *
 * @param families those that workers have addresses of
 * @param refuse the end of a line that refuses a packet for its class
 */
export function egressChains(families: readonly IpFamily[], refuse: string): string {
  const lines = (of: (ip: string, suffix: string) => readonly string[]): string =>
    families.flatMap((family) => (family === 4 ? of('ip', '') : of('ip6', '6'))).join('\n    ');
  // Also by the address that the worker asked: a Service's was replaced on the way here by that of a Pod or a node.
  const ways = (ip: string): readonly string[] => [`${ip} daddr`, `ct original ${ip} daddr`];
  return `chain egress_internet {
    jump dns
    ${lines((ip, suffix) =>
      ways(ip).flatMap((way) => [PRIVATE_SET, CLUSTER_SET].map((set) => `${way} @${set}${suffix} ${refuse}`)),
    )}
    goto egress_all
  }
  chain egress_cluster {
    jump dns
    ${lines((ip, suffix) => ways(ip).map((way) => `${way} @${CLUSTER_SET}${suffix} goto egress_all`))}
    ${refuse}
  }
  chain egress_none {
    ${refuse}
  }`;
}

/** Commands that add the elements of one attachment. */
export function addEgress({ egress, mac }: HeldEgress, table: string): string {
  const { forward, input } = chainsOf(egress);
  return `add element ${table} ${EGRESS_MAP} { ${mac} : goto ${forward} }
add element ${table} ${EGRESS_INPUT_MAP} { ${mac} : goto ${input} }
`;
}

/** Commands that remove them. */
export function deleteEgress({ egress, mac }: HeldEgress, table: string): string {
  const { forward, input } = chainsOf(egress);
  return `delete element ${table} ${EGRESS_MAP} { ${mac} : goto ${forward} }
delete element ${table} ${EGRESS_INPUT_MAP} { ${mac} : goto ${input} }
`;
}
