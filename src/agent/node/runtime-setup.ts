import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { SlotCounts } from '../../cni/contract.ts';
import { OrphanVeths } from '../../cni/gc/orphan-veths.ts';
import { type Refusals, readRefusals } from '../../cni/host/nftables.ts';
import { createNodeNetwork } from '../../cni/node-network.ts';
import type { Clock } from '../../common/clock.ts';
import { unreachable } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import type { Logger } from '../../common/logger.ts';
import { formatRange, type NamedRange, parseIpRange } from '../../common/net/ip-range.ts';
import type { AgentConfig } from '../../options/agent.ts';
import { readUserIdRange } from '../../runtime/containerd/user-id-blocks.ts';
import type { RuntimeObserver } from '../../runtime/contract/instrumentation.ts';
import type { ContainerRuntime } from '../../runtime/contract/runtime.ts';
import { createRuntime } from '../../runtime/factory.ts';
import { parseHostPortRange } from '../../runtime/start/host-port-allocator.ts';
import { NetworkGarbageCollector } from '../gc/network-gc.ts';
import { defaultMemoryMiB } from './node-status.ts';

/** The runtime of a node, and the parts of the node's network that come with it. */
export interface NodeRuntime {
  readonly runtime: ContainerRuntime;
  /** Attachments prepared in advance. */
  readonly slots: () => SlotCounts;
  /** Packets that the rules of the node refused workers; undefined where the rules are not ours. */
  readonly refusals: () => Promise<Refusals | undefined>;
  readonly network: Pick<NetworkGarbageCollector, 'look'>;
  readonly ports: Pick<OrphanVeths, 'read' | 'remove'>;
}

export interface NodeRuntimeOptions {
  readonly config: AgentConfig;
  readonly stateDir: string;
  readonly runDir: string;
  /** File mounted over `/etc/resolv.conf` of every worker, where the engine does not bring one. */
  readonly resolvConfPath: string;
  /** Ranges of the cluster that the subnet must not overlap. */
  readonly otherRanges: () => readonly NamedRange[];
  readonly observer: RuntimeObserver;
  /** Runs the programs of the operating system. */
  readonly runner: CommandRunner;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Milliseconds that a page of metrics waits for the packet filter's counters. */
const refusalsMs = 2_000;

/**
 * Makes the runtime that the agent's flags ask for. Nothing happens on the node before the start of the runtime.
 *
 * @throws {EsbError} `InvalidArgument` for flags that make no sense
 */
export async function createNodeRuntime(options: NodeRuntimeOptions): Promise<NodeRuntime> {
  const type = options.config.runtime.type;
  switch (type) {
    case 'containerd':
      return await onContainerd(options);
    case 'docker':
      return await onDocker(options);
    default:
      return unreachable(type);
  }
}

async function onContainerd(options: NodeRuntimeOptions): Promise<NodeRuntime> {
  const { config, clock, logger, runDir, runner, stateDir } = options;
  const { capacity, isolation, network: flags } = config;
  const { userNamespaces } = isolation;
  const userIds = userNamespaces === undefined ? undefined : await readUserIdRange(userNamespaces);
  const network = createNodeNetwork({
    stateDir,
    configFile: resolve(flags.cniConfig ?? fileURLToPath(new URL('../../../cni/10-esb.conflist', import.meta.url))),
    pluginFolder: resolve(flags.cniBinDir),
    subnet: flags.subnet,
    maxWorkers: capacity.maxWorkers,
    slots: flags.slots,
    deniedRanges: flags.denyCidr.map((cidr) => formatRange(parseIpRange(cidr))),
    allowedRanges: flags.allowCidr.map((cidr) => formatRange(parseIpRange(cidr))),
    otherRanges: options.otherRanges,
    resolvConfPath: options.resolvConfPath,
    runner,
    logger,
  });
  const runtime = await createRuntime({
    type: 'containerd',
    options: {
      ...common(options),
      containerd: { socketPath: resolve(config.runtime.containerdSocket) },
      network,
      images: { maxPulls: config.images.maxPulls, hostsFolder: resolve(config.images.certsDir) },
      etc: { hostsFolder: join(runDir, 'hosts'), resolvConfPath: options.resolvConfPath },
      shims: { runcRoot: join(runDir, 'runc'), workersPerShim: config.runtime.workersPerShim },
      isolation: {
        cgroupDriver: isolation.cgroupDriver,
        cgroupParent: isolation.cgroupParent,
        promisedMiB: capacity.memoryMiB ?? defaultMemoryMiB(),
        userIds,
        oomScoreAdj: isolation.oomScoreAdj,
      },
    },
  });
  return {
    runtime,
    slots: () => network.slots,
    refusals: () => readRefusals(runner, { deadlineMs: refusalsMs }),
    network: new NetworkGarbageCollector(network, runtime, clock),
    ports: new OrphanVeths(join(stateDir, 'cni'), runner),
  };
}

/** The engine owns network and rules, and removes their leftovers. */
async function onDocker(options: NodeRuntimeOptions): Promise<NodeRuntime> {
  const { config, stateDir } = options;
  return {
    runtime: await createRuntime({
      type: 'docker',
      options: {
        ...common(options),
        docker: { socketPath: resolve(config.runtime.dockerSocket), notesFolder: join(stateDir, 'docker') },
        images: { maxPulls: config.images.maxPulls },
        oomScoreAdj: config.isolation.oomScoreAdj,
      },
    }),
    slots: () => ({ ready: 0, wanted: 0 }),
    refusals: () => Promise.resolve(undefined),
    network: { look: () => Promise.resolve([]) },
    ports: {
      read: () => Promise.resolve({ ports: [], claimed: new Set() }),
      remove: () => Promise.resolve(false),
    },
  };
}

/** Options of every runtime. */
function common({ config, logger, observer, runner, stateDir }: NodeRuntimeOptions) {
  return {
    logs: {
      folder: join(stateDir, 'logs'),
      limits: { maxBytes: config.logs.maxBytes, maxFiles: config.logs.maxFiles },
    },
    hostPorts: { folder: join(stateDir, 'host-ports'), range: parseHostPortRange(config.network.hostPorts) },
    observer,
    runner,
    logger,
  };
}
