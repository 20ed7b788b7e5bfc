import { parseHostRoutes } from '../../cni/host/host-routes.ts';
import { entriesOf, nodeRules, RULES_TABLE } from '../../cni/host/nftables.ts';
import { messageOf } from '../../common/errors.ts';
import { formatRange, overlaps, parseIpRange } from '../../common/net/ip-range.ts';
import { type Finding, problem, warning, well } from './finding.ts';
import type { NodeProbe } from './node-probe.ts';

export interface NetworkNeeds {
  readonly subnet: string;
  /** Ranges of the cluster that the subnet may not overlap. */
  readonly serviceCidr: readonly string[];
  /** The first of the workers' bridges; the others have the next numbers. */
  readonly bridge: string;
}

/** Whether the kernel takes our rules, which it checks without putting them in place. */
export async function checkPacketFilter(probe: NodeProbe, needs: NetworkNeeds): Promise<Finding[]> {
  const subnet = parseIpRange(needs.subnet);
  const rules = nodeRules({ bridges: [needs.bridge], subnets: [subnet], deniedRanges: [] });
  const result = await probe.run('nft', ['--check', '--file', '-'], { input: rules });
  if (result === undefined) {
    return [problem('nftables', 'the program nft is not installed', "apt-get install nftables, or your system's like")];
  }
  if (result.code !== 0) {
    const why = result.stderr.trim().split('\n')[0] ?? '';
    const mend = 'load its modules (modprobe nf_tables nft_ct nft_masq nft_reject_inet), and run this as root';
    return [problem('nftables', `the kernel does not take the rules: ${why}`, mend)];
  }
  return [well('nftables', `the kernel takes the rules (table inet ${RULES_TABLE})`)];
}

/** A forward chain of another program. */
interface DroppingChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
}

/**
 * Whether another program's rules drop packets of workers. Every chain of a hook has to accept a packet, so that our
 * rules cannot let through a packet that another chain drops: that chain itself needs a rule.
 */
export async function checkForwarding(probe: NodeProbe, needs: NetworkNeeds): Promise<Finding[]> {
  const listed = await probe.run('nft', ['--json', 'list', 'ruleset']);
  const bridges = nameOfAll(needs.bridge);
  const chains = listed?.code === 0 ? droppersIn(listed.stdout, bridges) : [];
  const findings = chains.map((chain) =>
    problem(
      'forwarding',
      `the chain ${chain.name} of the table ${chain.family} ${chain.table} drops what is forwarded: workers reach nothing outside, and no rule of ESB can change that`,
      adviceFor(chain, bridges),
    ),
  );
  // The older iptables keeps its rules where nft does not see them.
  const legacy = await probe.run('iptables-legacy', ['--list-rules', 'FORWARD']);
  const text = legacy?.code === 0 ? legacy.stdout : '';
  if (/^-P FORWARD DROP$/m.test(text) && !text.includes(`-i ${bridges}`)) {
    findings.push(
      problem(
        'forwarding',
        'the policy of FORWARD in iptables-legacy is DROP: workers reach nothing outside, and no rule of ESB can change that',
        iptablesAdvice('iptables-legacy', 'FORWARD', bridges),
      ),
    );
  }
  return findings.length === 0 ? [well('forwarding', 'no chain of another program drops by default')] : findings;
}

function adviceFor({ family, table, name }: DroppingChain, bridges: string): string {
  if (family === 'ip' && table === 'filter' && name === 'FORWARD') {
    return `${iptablesAdvice('iptables', 'FORWARD', bridges)}\n(with Docker use the chain DOCKER-USER, which it leaves alone)`;
  }
  const chain = `${family} ${table} ${name}`;
  return `nft insert rule ${chain} oifname "${bridges}*" ct state established,related accept\nnft insert rule ${chain} iifname "${bridges}*" accept`;
}

function iptablesAdvice(program: string, chain: string, bridges: string): string {
  // A plus sign at the end stands for every bridge with this prefix.
  return `${program} -I ${chain} -i ${bridges}+ -j ACCEPT\n${program} -I ${chain} -o ${bridges}+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`;
}

/**
 * Base chains at the forward hook that drop by default, in tables without a rule that lets workers through.
 *
 * @param bridges prefix of the names of the workers' bridges
 */
function droppersIn(ruleset: string, bridges: string): readonly DroppingChain[] {
  const document: unknown = JSON.parse(ruleset);
  const rules = entriesOf(document, 'rule');
  return entriesOf(document, 'chain')
    .filter(({ hook, policy, table }) => hook === 'forward' && policy === 'drop' && table !== RULES_TABLE)
    .map((chain) => ({ family: String(chain.family), table: String(chain.table), name: String(chain.name) }))
    .filter(
      ({ family, table }) =>
        !rules.some((rule) => {
          const expression = JSON.stringify(rule.expr);
          return (
            rule.family === family &&
            rule.table === table &&
            expression.includes('"iifname"') &&
            expression.includes(`"${bridges}`) &&
            expression.includes('"accept"')
          );
        }),
    );
}

/** Whether another network uses the workers' addresses. */
export async function checkSubnet(probe: NodeProbe, needs: NetworkNeeds): Promise<Finding[]> {
  let subnet: ReturnType<typeof parseIpRange>;
  try {
    subnet = parseIpRange(needs.subnet);
  } catch (error) {
    return [problem('subnet', messageOf(error), 'give --subnet a range such as 10.234.0.0/16')];
  }
  const routes = parseHostRoutes((await probe.read('/proc/net/route')) ?? '');
  const others = [
    ...routes
      .filter((route) => !route.interface.startsWith(nameOfAll(needs.bridge)))
      .map(({ range, interface: name }) => ({ range, what: `the route ${formatRange(range)} by ${name}` })),
    ...needs.serviceCidr.map((cidr) => ({ range: parseIpRange(cidr), what: `${cidr}, a range of the cluster` })),
  ].filter(({ range }) => overlaps(range, subnet));
  const mend = 'give the agent another range with --subnet; every node may have the same one';
  return others.length === 0
    ? [well('subnet', `${needs.subnet} meets no route of this node`)]
    : others.map(({ what }) => problem('subnet', `${needs.subnet} collides with ${what}`, mend));
}

/** Whether IPv4 is forwarded, which the agent switches on itself. */
export async function checkIpForward(probe: NodeProbe): Promise<Finding[]> {
  const value = (await probe.read('/proc/sys/net/ipv4/ip_forward'))?.trim();
  const mend = 'nothing, unless something here switches it off again: sysctl -w net.ipv4.ip_forward=1';
  return [
    value === '1'
      ? well('forwarding of IPv4', 'on')
      : warning('forwarding of IPv4', 'off; the agent switches it on', mend),
  ];
}

/** The prefix of the names of all bridges. */
function nameOfAll(bridge: string): string {
  return bridge.replace(/\d+$/, '');
}
