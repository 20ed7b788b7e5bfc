import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { registryHosts } from '../../local/instance/containerd-config.ts';
import { type CommandOptions, type CommandResult, run } from '../support/command.ts';
import { type OwnedProcess, startOwnedProcess } from '../support/owned-process.ts';
import { clusterToolsFolder, toolsFolder } from '../support/tools.ts';
import { waitFor } from '../support/wait-for.ts';
import { connectNode, networkScript, podRange, registryAddress } from './cluster-network.ts';
import type { ControlPlane } from './control-plane.ts';
import { certsFolder, criContainerdConfig, kubeletConfig, kubeProxyConfig, podNetwork } from './node-files.ts';
import { emptyCgroupScript, type NodePlace, nodeScript, onNode } from './node-shell.ts';

/** A node of the cluster: a "machine" made of namespaces, with containerd, kubelet and kube-proxy. */
export interface ClusterNode {
  readonly name: string;
  readonly address: string;
  /** Runs a program on the node, to its end. Throws with its output when it fails, unless it may. */
  run(program: string, args: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  /** Starts a program on the node. */
  start(
    name: string,
    program: string,
    args: readonly string[],
    env?: Readonly<Record<string, string>>,
  ): Promise<OwnedProcess>;
  /** Ends everything on the node at once, as when its power fails, and removes its control groups. */
  stop(): Promise<void>;
}

export interface ClusterNodeOptions {
  readonly place: NodePlace;
  readonly others: readonly NodePlace[];
  readonly controlPlane: ControlPlane;
  readonly sandboxImage: string;
}

/** Names of plugins of the CNI that Pods of this lab use. */
const podPlugins = ['bridge', 'host-local', 'loopback'] as const;

/** Makes the node and starts its services; it is Ready some seconds later. */
export async function startClusterNode(options: ClusterNodeOptions): Promise<ClusterNode> {
  const { place, others, controlPlane } = options;
  const tools = toolsFolder();
  await mkdir(place.folder, { recursive: true });
  // The log is read from this start on, not from an earlier one.
  await rm(join(place.folder, 'node.log'), { force: true });
  const holder = await startOwnedProcess({
    program: 'sh',
    args: ['-c', nodeScript(place)],
    logFile: join(place.folder, 'node.log'),
  });
  await waitFor(`the namespaces of ${place.name}`, () => {
    if (holder.ended()) {
      throw new Error(holder.output());
    }
    return holder.output().includes('ready');
  });
  const [nsenter = '', ...entering] = onNode(holder.pid);
  const runHere: ClusterNode['run'] = (program, args, commandOptions) =>
    run(nsenter, [...entering, program, ...args], commandOptions);
  const start: ClusterNode['start'] = (name, program, args, env = {}) =>
    startOwnedProcess({
      program: nsenter,
      args: [...entering, program, ...args],
      logFile: join(place.folder, `${name}.log`),
      env: { ...process.env, ...env, PATH: `${tools}:${process.env.PATH ?? ''}:/usr/sbin:/sbin` },
    });
  const services: OwnedProcess[] = [];
  const stop = async (): Promise<void> => {
    if (holder.ended()) {
      return;
    }
    for (const service of services.reverse()) {
      await service.kill();
    }
    await run('sh', ['-c', emptyCgroupScript(place.cgroup)], { timeoutMs: 60_000 });
    await holder.kill();
  };
  try {
    await connectNode(place, holder.pid);
    await runHere('sh', ['-c', networkScript(place, others)]);
    await writeNodeFiles(options, tools, runHere);
    services.push(
      await start('containerd', join(tools, 'containerd'), ['--config', join(place.folder, 'containerd.toml')]),
    );
    await waitFor('containerd', async () => {
      await runHere(join(tools, 'ctr'), ['version']);
      return true;
    });
    const proxyConfig = join(place.folder, 'kube-proxy.yaml');
    const proxyUser = await controlPlane.kubeconfig('system:kube-proxy', []);
    await writeFile(proxyConfig, kubeProxyConfig(place, proxyUser, podRange));
    services.push(await start('kube-proxy', join(clusterToolsFolder(), 'kube-proxy'), ['--config', proxyConfig]));
    const kubeletUser = await controlPlane.kubeconfig(`system:node:${place.name}`, ['system:nodes']);
    services.push(
      await start('kubelet', join(clusterToolsFolder(), 'kubelet'), [
        `--config=${join(place.folder, 'kubelet.yaml')}`,
        `--kubeconfig=${kubeletUser}`,
        `--hostname-override=${place.name}`,
        `--node-ip=${place.address}`,
      ]),
    );
  } catch (error) {
    await stop();
    throw error;
  }
  return { name: place.name, address: place.address, run: runHere, start, stop };
}

async function writeNodeFiles(
  { place, controlPlane, sandboxImage }: ClusterNodeOptions,
  tools: string,
  runHere: ClusterNode['run'],
): Promise<void> {
  await writeFile(join(place.folder, 'containerd.toml'), criContainerdConfig(sandboxImage));
  await writeFile(join(place.folder, 'kubelet.yaml'), kubeletConfig(controlPlane.authorityFile));
  await writeFile(join(place.folder, 'pods.conflist'), podNetwork(place));
  await writeFile(join(place.folder, 'hosts.toml'), registryHosts(registryAddress));
  const hosts = `${certsFolder}/${registryAddress}`;
  await runHere('sh', [
    '-euc',
    `mkdir -p /opt/cni/bin /etc/cni/net.d ${hosts}
cp -L ${podPlugins.map((name) => join(tools, name)).join(' ')} /opt/cni/bin/
cp ${place.folder}/pods.conflist /etc/cni/net.d/10-pods.conflist
cp ${place.folder}/hosts.toml ${hosts}/hosts.toml`,
  ]);
}
