import { stringify } from 'yaml';
import type { NodePlace } from './node-shell.ts';

/** Socket of containerd on a node, where every installation has it. */
export const containerdSocket = '/run/containerd/containerd.sock';
/** Where containerd looks for the registries of a node. */
export const certsFolder = '/etc/containerd/certs.d';

/** A containerd that serves kubelet (CRI) and everybody else. */
export function criContainerdConfig(sandboxImage: string): string {
  const text = JSON.stringify;
  return `version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
imports = []

[grpc]
  address = ${text(containerdSocket)}

[debug]
  level = "info"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = ${text(sandboxImage)}

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = ${text(certsFolder)}

[plugins.'io.containerd.cri.v1.runtime']
  # Whoever may not lower the score of a process starts it with the score that it has.
  restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/opt/cni/bin"]
  conf_dir = "/etc/cni/net.d"
`;
}

/** The network of the Pods of a node: a bridge, and an address that other nodes have a route to. */
export function podNetwork({ podCidr }: NodePlace): string {
  return JSON.stringify({
    cniVersion: '1.0.0',
    name: 'pods',
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        isGateway: true,
        hairpinMode: true,
        ipam: { type: 'host-local', ranges: [[{ subnet: podCidr }]], routes: [{ dst: '0.0.0.0/0' }] },
      },
    ],
  });
}

export function kubeletConfig(authorityFile: string): string {
  return stringify({
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: authorityFile },
    },
    authorization: { mode: 'Webhook' },
    cgroupDriver: 'cgroupfs',
    failCgroupV1: false,
    failSwapOn: false,
    containerRuntimeEndpoint: `unix://${containerdSocket}`,
    // The disk is that of the machine, with other files on it.
    evictionHard: { 'memory.available': '100Mi', 'nodefs.available': '1%', 'imagefs.available': '1%' },
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    syncFrequency: '10s',
  });
}

export function kubeProxyConfig({ name }: NodePlace, kubeconfig: string, podRange: string): string {
  return stringify({
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode: 'nftables',
    hostnameOverride: name,
    clusterCIDR: podRange,
    clientConnection: { kubeconfig },
    // These are settings of the machine, which is not the node's alone.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
  });
}
