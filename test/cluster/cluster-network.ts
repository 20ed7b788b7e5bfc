import { run } from '../support/command.ts';
import type { NodePlace } from './node-shell.ts';

/** Addresses of the lab. The lab has a network namespace of its own, so these addresses meet nothing. */
export const labAddress = '172.30.0.1';
export const serviceRange = '10.96.0.0/16';
/** First address of the service range, at which Pods find the API server. */
export const apiServiceAddress = '10.96.0.1';
export const podRange = '10.244.0.0/16';
/** Where everybody in the lab finds the registry; it speaks plain HTTP. */
export const registryAddress = `${labAddress}:5000`;
export const apiServerUrl = `https://${labAddress}:6443`;

const bridge = 'lab0';
/** End of a node's link that is on the bridge. */
const linkOf = (node: string): string => `v-${node}`;

/** Folder, control group and addresses of the lab's `number`th node, from 1. */
export function nodePlace(folder: string, cgroup: string, number: number): NodePlace {
  const name = `node-${String.fromCharCode(96 + number)}`;
  return {
    name,
    folder: `${folder}/${name}`,
    cgroup: `${cgroup}/${name}`,
    address: `172.30.0.${10 + number}`,
    podCidr: `10.244.${number}.0/24`,
  };
}

/** Makes the bridge that joins the nodes and the control plane. */
export async function makeBridge(): Promise<void> {
  await run('ip', ['link', 'add', bridge, 'type', 'bridge']);
  await run('ip', ['address', 'add', `${labAddress}/24`, 'dev', bridge]);
  await run('ip', ['link', 'set', bridge, 'up']);
  await run('sysctl', ['-q', '-w', 'net.ipv4.ip_forward=1']);
}

/** Removes the bridge, and with it the ways to the nodes. */
export async function removeBridge(): Promise<void> {
  await run('ip', ['link', 'delete', bridge]);
}

/** Connects a node with the bridge, and tells the control plane the way to its Pods. */
export async function connectNode(place: NodePlace, pid: number): Promise<void> {
  const link = linkOf(place.name);
  // The end of a node that was stopped goes some time after its last process.
  await run('ip', ['link', 'delete', link], { mayFail: true });
  await run('ip', ['link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(pid)]);
  await run('ip', ['link', 'set', link, 'master', bridge, 'up']);
  await run('ip', ['route', 'replace', place.podCidr, 'via', place.address]);
}

/** Takes a node off the bridge: packets from and to the node are lost, and no connection is told. */
export async function cutLink({ name }: NodePlace): Promise<void> {
  await run('ip', ['link', 'set', linkOf(name), 'nomaster']);
}

/** Puts a node on the bridge again. */
export async function mendLink({ name }: NodePlace): Promise<void> {
  await run('ip', ['link', 'set', linkOf(name), 'master', bridge]);
}

/** Commands that set the network of a node up from inside, with the ways to the Pods of all others. */
export function networkScript(place: NodePlace, others: readonly NodePlace[]): string {
  return `set -eu
ip address add ${place.address}/24 dev eth0
ip link set eth0 up
ip route add default via ${labAddress}
${others.map(({ podCidr, address }) => `ip route add ${podCidr} via ${address}`).join('\n')}
sysctl -q -w net.ipv4.ip_forward=1
# A Pod that calls a Service and is answered by a Pod of its own node: the answer must pass the node's rules, too.
sysctl -q -w net.bridge.bridge-nf-call-iptables=1
# An unanswered SYN keeps its way to a Pod for 120 seconds by default; a client that uses its port again then takes that
# way too, long after kube-proxy has taken the Pod out of the Service.
sysctl -q -w net.netfilter.nf_conntrack_tcp_timeout_syn_sent=5
`;
}
