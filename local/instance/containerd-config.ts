import type { NodeHome } from '../common/home.ts';

/** Plugins that a daemon for workers alone does not need, or that would leave files outside its own folders. */
const disabledPlugins = [
  'io.containerd.grpc.v1.cri',
  'io.containerd.cri.v1.images',
  'io.containerd.cri.v1.runtime',
  'io.containerd.podsandbox.controller.v1.podsandbox',
  'io.containerd.internal.v1.opt',
  'io.containerd.nri.v1.nri',
  'io.containerd.image-verifier.v1.bindir',
  'io.containerd.monitor.container.v1.restart',
  'io.containerd.snapshotter.v1.blockfile',
  'io.containerd.snapshotter.v1.btrfs',
  'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.erofs',
  'io.containerd.snapshotter.v1.zfs',
] as const;

/** Configuration of a containerd for workers alone, with all its files below the node's folder. */
export function containerdConfig(node: NodeHome): string {
  const text = JSON.stringify;
  return `version = 3
root = ${text(node.containerdRoot)}
state = ${text(node.containerdState)}
imports = []
disabled_plugins = [
${disabledPlugins.map((plugin) => `  ${text(plugin)},\n`).join('')}]

[grpc]
  address = ${text(node.containerdSocket)}

[ttrpc]
  address = ${text(`${node.containerdSocket}.ttrpc`)}

[debug]
  level = "warn"
`;
}

/** `hosts.toml` of a registry on loopback that speaks plain HTTP. */
export function registryHosts(registry: string): string {
  return `server = "http://${registry}"

[host."http://${registry}"]
  capabilities = ["pull", "resolve"]
`;
}
