import { join } from 'node:path';
import { toolsFolder } from '../support/tools.ts';
import type { ClusterNode } from './cluster-node.ts';

/**
 * Everything on a node that an installation could leave behind, one line each: files, network, mounts, control groups
 * and what containerd keeps. Two such lists are compared: what belongs to Kubernetes itself is in both, or comes and
 * goes with its Pods, like their bridge.
 */
export async function nodeTraces(node: ClusterNode): Promise<readonly string[]> {
  const ctr = join(toolsFolder(), 'ctr');
  const { stdout } = await node.run('sh', [
    '-c',
    `list() { sed "s#^#$1 #"; }
for folder in /var/lib/esb /run/esb /var/log/esb; do find $folder -mindepth 1 2>/dev/null | list file; done
ls /run/netns | grep -v '^cni-' | list netns
ip -o link | cut -d: -f2 | grep -v '@' | grep -v cni0 | list link
ip route show table all | grep -v cache | grep -v cni0 | grep -v veth | grep -v fe80 | list route
ip rule | list rule
pgrep -af '^[^ ]*containerd-shim[^ ]* -namespace esb' | list shim
nft list tables | list table
grep -E '/(esb|netns)' /proc/self/mountinfo | cut -d' ' -f5 | grep -v '/netns/cni-' | list mount
find /sys/fs/cgroup -type d -name 'esb*' | list cgroup
for namespace in $(${ctr} namespaces ls -q | grep -v '^k8s.io$'); do echo "containerd namespace $namespace"; done
for namespace in $(${ctr} namespaces ls -q | grep -v '^k8s.io$'); do
  for kind in containers images snapshots leases; do ${ctr} -n $namespace $kind ls | tail -n +2 | list "containerd $kind"; done
done
true`,
  ]);
  return stdout
    .split('\n')
    .map((line) => line.trim().replace(/\s+/g, ' '))
    .filter((line) => line !== '')
    .sort();
}
