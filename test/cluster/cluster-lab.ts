import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type CommandResult, run } from '../support/command.ts';
import { type OwnedProcess, startOwnedProcess } from '../support/owned-process.ts';
import { clusterToolsFolder, toolsFolder } from '../support/tools.ts';
import { waitFor } from '../support/wait-for.ts';
import { buildShellImage, pushImage, shellImage } from './cluster-images.ts';
import {
  cutLink,
  labAddress,
  makeBridge,
  mendLink,
  nodePlace,
  registryAddress,
  removeBridge,
} from './cluster-network.ts';
import { type ClusterNode, startClusterNode } from './cluster-node.ts';
import { type ControlPlane, startControlPlane } from './control-plane.ts';
import type { NodePlace } from './node-shell.ts';

/** A real cluster: control plane, nodes with kubelets, and a registry. */
export interface ClusterLab {
  /** Folder of everything, with the logs. */
  readonly folder: string;
  readonly controlPlane: ControlPlane;
  readonly nodes: readonly ClusterNode[];
  /** Runs kubectl as the administrator; gives what it prints. Rejects when it fails, with that. */
  kubectl(args: readonly string[], input?: string): Promise<string>;
  /** Runs kubectl with the kubeconfig of somebody else, and gives a result also when it fails. */
  kubectlAs(kubeconfig: string, args: readonly string[], input?: string): Promise<CommandResult>;
  /** Runs Helm as the administrator; gives what it prints. Rejects when it fails, with that. */
  helm(args: readonly string[]): Promise<string>;
  node(name: string): ClusterNode;
  /** Name of a machine that joins the cluster when its power is turned on, and is no node of it before. */
  readonly spare: string;
  /** Ends all of a node at once, as when its power fails. */
  powerOff(name: string): Promise<void>;
  /** Starts it again, with the disk that it had, and waits until it is Ready. */
  powerOn(name: string): Promise<void>;
  /** Ends a node as {@link powerOff} does, and counts its machine among those of the cluster no more. */
  takeAway(name: string): Promise<void>;
  /** Takes a node off the network. Its programs run on, and no connection from or to the node is told. */
  cutOff(name: string): Promise<void>;
  /** Puts the node back on the network, and waits until the node is Ready. */
  joinAgain(name: string): Promise<void>;
  /** Ends everything and removes the folder. */
  stop(): Promise<void>;
}

const NODES = 2;
/** Nodes with the spare one. */
const MACHINES = NODES + 1;
const COMMAND_TIMEOUT_MS = 6 * 60_000;

/**
 * Starts the cluster and waits until its nodes are Ready. The lab needs a network namespace, mounts and a process table
 * of its own (`test/support/apart.sh`).
 */
export async function startClusterLab(): Promise<ClusterLab> {
  const folder = await mkdtemp('/tmp/esb-cluster-');
  const cgroup = folder.slice('/tmp/'.length);
  const tools = toolsFolder();
  const stopping: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const one of stopping.reverse()) {
      await one();
    }
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await makeBridge();
    stopping.push(removeBridge);
    const registry = await startRegistry(folder);
    stopping.push(() => registry.kill());
    await pushImage(await buildShellImage(folder), 'busybox:1');
    const controlPlane = await startControlPlane(join(folder, 'control-plane'));
    stopping.push(() => controlPlane.stop());
    const places = Array.from({ length: MACHINES }, (_, index) => nodePlace(folder, cgroup, index + 1));
    const nodes = new Map<string, ClusterNode>();
    const startNode = async (place: NodePlace): Promise<void> => {
      const others = places.filter((other) => other !== place);
      nodes.set(place.name, await startClusterNode({ place, others, controlPlane, sandboxImage: shellImage }));
    };
    stopping.push(async () => {
      await run('sh', [
        '-c',
        `for group in /sys/fs/cgroup/${cgroup} /sys/fs/cgroup/*/${cgroup}; do [ ! -d "$group" ] || rmdir "$group"; done`,
      ]);
    });
    stopping.push(async () => {
      for (const node of nodes.values()) {
        await node.stop();
      }
    });
    for (const place of places.slice(0, NODES)) {
      await startNode(place);
    }
    const kubectlAs: ClusterLab['kubectlAs'] = (kubeconfig, args, input) =>
      run(join(tools, 'kubectl'), ['--kubeconfig', kubeconfig, '--cache-dir', join(folder, 'kubectl-cache'), ...args], {
        timeoutMs: COMMAND_TIMEOUT_MS,
        mayFail: true,
        ...(input === undefined ? {} : { input }),
      });
    const kubectl: ClusterLab['kubectl'] = async (args, input) => {
      const { code, stdout, stderr } = await kubectlAs(controlPlane.adminKubeconfig, args, input);
      if (code !== 0) {
        throw new Error(`kubectl ${args.join(' ')} exited with ${code}\n${stdout}${stderr}`);
      }
      return stdout;
    };
    const nodesReady = (): Promise<boolean> =>
      waitFor(
        'nodes that are Ready',
        async () => {
          const { items } = JSON.parse(await kubectl(['get', 'nodes', '-o', 'json'])) as {
            items: readonly {
              metadata: { name: string };
              status: { conditions: readonly { type: string; status: string }[] };
            }[];
          };
          const ready = items.filter(({ status }) =>
            status.conditions.some((condition) => condition.type === 'Ready' && condition.status === 'True'),
          );
          return [...nodes.keys()].every((name) => ready.some(({ metadata }) => metadata.name === name));
        },
        { timeoutMs: 120_000, everyMs: 500 },
      );
    const placeOf = (name: string): NodePlace =>
      existing(
        name,
        places.find((place) => place.name === name),
      );
    const node = (name: string): ClusterNode => existing(name, nodes.get(name));
    await nodesReady();
    return {
      folder,
      controlPlane,
      get nodes() {
        return [...nodes.values()];
      },
      kubectl,
      kubectlAs,
      async helm(args) {
        const { stdout } = await run(
          join(clusterToolsFolder(), 'helm'),
          [`--kubeconfig=${controlPlane.adminKubeconfig}`, ...args],
          {
            timeoutMs: COMMAND_TIMEOUT_MS,
            env: {
              HELM_CACHE_HOME: join(folder, 'helm/cache'),
              HELM_CONFIG_HOME: join(folder, 'helm/config'),
              HELM_DATA_HOME: join(folder, 'helm/data'),
            },
          },
        );
        return stdout;
      },
      node,
      spare: places[NODES]?.name ?? '',
      powerOff: (name) => node(name).stop(),
      async powerOn(name) {
        await startNode(placeOf(name));
        await nodesReady();
      },
      cutOff: (name) => cutLink(placeOf(name)),
      async joinAgain(name) {
        await mendLink(placeOf(name));
        await nodesReady();
      },
      async takeAway(name) {
        await node(name).stop();
        nodes.delete(name);
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function existing<T>(name: string, found: T | undefined): T {
  if (found === undefined) {
    throw new Error(`there is no node ${name}`);
  }
  return found;
}

async function startRegistry(folder: string): Promise<OwnedProcess> {
  await mkdir(join(folder, 'registry'));
  const crane = join(toolsFolder(), 'crane');
  const registry = await startOwnedProcess({
    program: crane,
    args: ['registry', 'serve', '--address', registryAddress, '--disk', join(folder, 'registry')],
    logFile: join(folder, 'registry.log'),
  });
  await waitFor(`the registry at ${labAddress}`, async () => {
    await run(crane, ['catalog', '--insecure', registryAddress]);
    return true;
  });
  return registry;
}
