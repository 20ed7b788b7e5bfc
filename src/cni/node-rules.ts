import type { CallOptions } from '../common/deadline.ts';
import { EsbError } from '../common/errors.ts';
import type { CommandRunner } from './command-runner.ts';
import { isObject } from './network-config.ts';
import { runNodeCommand } from './node-command.ts';

/** Name of our table, in the family `inet`. */
export const RULES_TABLE = 'esb';

/** Where clouds serve credentials to whoever runs on the machine. */
const METADATA_RANGE = '169.254.169.254/32';

export interface NodeRulesOptions {
  readonly bridge: string;
  readonly subnet: string;
  /** Destinations that workers are denied, beside the node itself and the metadata address. */
  readonly deniedRanges: readonly string[];
}

/**
 * The one static table of a node. Workers reach neither the node on any of its addresses, nor the metadata service, nor
 * denied ranges, nor through the node each other; DNS to any of them is let through. From outside nothing reaches workers
 * except answers. What they send on is masqueraded. There is no rule per worker.
 */
export function nodeRules(options: NodeRulesOptions): string {
  const denied = [METADATA_RANGE, ...options.deniedRanges].join(', ');
  const bridge = JSON.stringify(options.bridge);
  const dns = 'meta l4proto { tcp, udp } th dport 53 accept';
  const refuse = 'reject with icmpx admin-prohibited';
  return `table inet ${RULES_TABLE}
delete table inet ${RULES_TABLE}
table inet ${RULES_TABLE} {
  set denied {
    type ipv4_addr
    flags interval
    auto-merge
    elements = { ${denied} }
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname != ${bridge} accept
    ct state established,related accept
    ${dns}
    ${refuse}
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname ${bridge} jump from_worker
    oifname ${bridge} ct state established,related accept
    oifname ${bridge} drop
  }
  chain from_worker {
    ct state established,related accept
    oifname ${bridge} ${refuse}
    ip saddr != ${options.subnet} drop
    meta nfproto ipv6 ${refuse}
    ${dns}
    ip daddr @denied ${refuse}
    accept
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${options.subnet} ip daddr != ${options.subnet} masquerade
  }
}
`;
}

/** Puts the table in place of whatever it was before, in one transaction. */
export async function applyNodeRules(
  runner: CommandRunner,
  options: NodeRulesOptions,
  call: CallOptions = {},
): Promise<void> {
  await runNodeCommand(runner, 'nft', ['-f', '-'], {
    ...call,
    input: nodeRules(options),
    errorCode: 'NftFailed',
  });
}

/** Removes the table; missing is success. */
export async function removeNodeRules(runner: CommandRunner, call: CallOptions = {}): Promise<void> {
  await runNodeCommand(runner, 'nft', ['-f', '-'], {
    ...call,
    input: `table inet ${RULES_TABLE}\ndelete table inet ${RULES_TABLE}\n`,
    errorCode: 'NftFailed',
  });
}

/** What is known of the node's packet filter from one look at it. */
export interface RulesState {
  /** Whether our table has its chains. */
  readonly present: boolean;
  /** Forward chains of others that drop by default: no rule of ours can let through what they drop. */
  readonly forwardDroppers: readonly string[];
}

/** Chains that {@link nodeRules} makes. */
const OWN_CHAINS: readonly string[] = ['input', 'forward', 'from_worker', 'postrouting'];

export async function readRulesState(runner: CommandRunner, call: CallOptions = {}): Promise<RulesState> {
  const text = await runNodeCommand(runner, 'nft', ['-j', 'list', 'chains'], {
    ...call,
    errorCode: 'NftFailed',
  });
  const chains = readChains(text);
  const own = chains.filter((chain) => chain.family === 'inet' && chain.table === RULES_TABLE);
  const others = chains.filter((chain) => !own.includes(chain));
  return {
    present: OWN_CHAINS.every((name) => own.some((chain) => chain.name === name)),
    forwardDroppers: others
      .filter((chain) => chain.hook === 'forward' && chain.policy === 'drop')
      .map((chain) => [chain.family, chain.table, chain.name].map(String).join(' ')),
  };
}

function readChains(text: string): readonly Readonly<Record<string, unknown>>[] {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new EsbError('nft answered with what is not JSON', { code: 'NftFailed', cause: error });
  }
  const entries: unknown = isObject(document) ? document.nftables : undefined;
  return (Array.isArray(entries) ? (entries as unknown[]) : []).flatMap((entry) => {
    const chain = isObject(entry) ? entry.chain : undefined;
    return isObject(chain) ? [chain] : [];
  });
}
