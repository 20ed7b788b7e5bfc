import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { SlotCounts } from '../cni/contract.ts';
import { OrphanVeths } from '../cni/gc/orphan-veths.ts';
import { type Refusals, readRefusals } from '../cni/host/nftables.ts';
import { createNodeNetwork } from '../cni/node-network.ts';
import { EsbError, unreachable } from '../common/errors.ts';
import type { CommandRunner } from '../common/exec/command-runner.ts';
import { formatRange, parseIpRange } from '../common/net/ip-range.ts';
import type { WorkerInits } from '../init/contract.ts';
import { createWorkerInits } from '../init/worker-inits.ts';
import type { AgentConfig } from '../options/agent.ts';
import { readUserIdRange } from '../runtime/containerd/user-id-blocks.ts';
import type { RuntimeObserver } from '../runtime/contract/instrumentation.ts';
import type { ContainerRuntime } from '../runtime/contract/runtime.ts';
import { createRuntime } from '../runtime/factory.ts';
import { CredentialProviders, type CredentialProvidersOptions } from '../runtime/images/credential-providers.ts';
import { parseHostPortRange } from '../runtime/start/host-port-allocator.ts';
import type { AgentParts } from './agent-parts.ts';
import type { Cluster } from './cluster.ts';
import { NetworkGarbageCollector } from './gc/network-gc.ts';

/** The runtime of a node, and the parts of the node's network that come with it. */
export interface NodeRuntime {
  readonly runtime: ContainerRuntime;
  /** The inits of its workers, which start and stop with the runtime. */
  readonly inits: WorkerInits;
  /** Attachments prepared in advance. */
  readonly slots: () => SlotCounts;
  /** Packets that the rules of the node refused workers; undefined where the rules are not ours. */
  readonly refusals: () => Promise<Refusals | undefined>;
  readonly network: Pick<NetworkGarbageCollector, 'look'>;
  readonly ports: Pick<OrphanVeths, 'read' | 'remove'>;
}

/** Milliseconds that a page of metrics waits for the packet filter's counters. */
const refusalsMs = 2_000;

/**
 * Makes the runtime that the flags ask for. Nothing happens on the node before the start of the runtime.
 *
 * @param runner runs the programs of the operating system
 * @param onDiskFull called when a pull found the disk of the images full
 * @throws {EsbError} `InvalidArgument` for flags that make no sense
 */
export async function openRuntime(
  parts: AgentParts,
  cluster: Cluster,
  runner: CommandRunner,
  onDiskFull: () => void,
): Promise<NodeRuntime> {
  const { type } = parts.config.runtime;
  const common = commonOptions(parts, runner, onDiskFull);
  switch (type) {
    case 'containerd':
      return await onContainerd(parts, cluster, common);
    case 'docker':
      return await onDocker(parts, common);
    default:
      return unreachable(type);
  }
}

type CommonOptions = ReturnType<typeof commonOptions>;

/** Options of every runtime. */
function commonOptions(
  { clock, config, logger, metrics, runDir, stateDir }: AgentParts,
  runner: CommandRunner,
  onDiskFull: () => void,
) {
  const observer: RuntimeObserver = {
    ...metrics,
    pullEnded(durationMs, outcome) {
      metrics.pullEnded(durationMs, outcome);
      if (outcome === 'DiskFull') {
        onDiskFull();
      }
    },
  };
  return {
    logs: {
      folder: join(stateDir, 'logs'),
      limits: { maxBytes: config.logs.maxBytes, maxFiles: config.logs.maxFiles },
    },
    hostPorts: { folder: join(stateDir, 'host-ports'), range: parseHostPortRange(config.network.hostPorts) },
    inits: createWorkerInits({
      runDir,
      stateDir,
      program: resolve(config.runtime.initProgram),
      clock,
      logger,
    }),
    images: { maxPulls: config.images.maxPulls, credentials: credentialsOf(config.images, { runner, clock, logger }) },
    observer,
    runner,
    logger,
  };
}

/** @throws {EsbError} `InvalidArgument` where one flag comes without the other */
function credentialsOf(
  { credentialBinDir, credentialConfig }: AgentConfig['images'],
  parts: Pick<CredentialProvidersOptions, 'runner' | 'clock' | 'logger'>,
): CredentialProviders | undefined {
  if (credentialBinDir === undefined && credentialConfig === undefined) {
    return undefined;
  }
  if (credentialBinDir === undefined || credentialConfig === undefined) {
    const message = '--image-credential-provider-config and --image-credential-provider-bin-dir are given together';
    throw new EsbError(message, { code: 'InvalidArgument' });
  }
  const configFile = resolve(credentialConfig);
  return new CredentialProviders({ configFile, programFolder: resolve(credentialBinDir), ...parts });
}

async function onContainerd(
  parts: AgentParts,
  { promised, ranges, reservedMilliCPU }: Cluster,
  common: CommonOptions,
): Promise<NodeRuntime> {
  const { config, clock, logger, resolvConfPath, runDir, stateDir } = parts;
  const { runner } = common;
  const { capacity, isolation, network: flags } = config;
  const { userNamespaces } = isolation;
  const userIds = userNamespaces === undefined ? undefined : await readUserIdRange(userNamespaces);
  const network = createNodeNetwork({
    stateDir,
    configFile: resolve(flags.cniConfig ?? fileURLToPath(new URL('../../cni/10-esb.conflist', import.meta.url))),
    pluginFolder: resolve(flags.cniBinDir),
    subnet: flags.subnet,
    maxWorkers: capacity.maxWorkers,
    slots: flags.slots,
    deniedRanges: flags.denyCidr.map((cidr) => formatRange(parseIpRange(cidr))),
    allowedRanges: flags.allowCidr.map((cidr) => formatRange(parseIpRange(cidr))),
    defaultEgress: flags.egress,
    otherRanges: () => ranges.current(),
    resolvConfPath,
    runner,
    logger,
  });
  const runtime = await createRuntime({
    type: 'containerd',
    options: {
      ...common,
      containerd: { socketPath: resolve(config.runtime.containerdSocket) },
      network,
      images: { ...common.images, hostsFolder: resolve(config.images.certsDir) },
      etc: { hostsFolder: join(runDir, 'hosts'), resolvConfPath },
      tmp: { folder: join(stateDir, 'tmp'), isWanted: capacity.tmp === 'auto' },
      shims: { runcRoot: join(runDir, 'runc'), workersPerShim: config.runtime.workersPerShim },
      isolation: {
        cgroupDriver: isolation.cgroupDriver,
        cgroupParent: isolation.cgroupParent,
        promisedMiB: () => promised().memoryMiB,
        reservedMilliCPU,
        userIds,
        oomScoreAdj: isolation.oomScoreAdj,
      },
    },
  });
  return {
    runtime,
    inits: common.inits,
    slots: () => network.slots,
    refusals: () => readRefusals(runner, { deadlineMs: refusalsMs }),
    network: new NetworkGarbageCollector(network, runtime, clock),
    ports: new OrphanVeths(join(stateDir, 'cni'), runner),
  };
}

/** The engine owns network and rules, and removes their leftovers. */
async function onDocker({ config, stateDir }: AgentParts, common: CommonOptions): Promise<NodeRuntime> {
  if (config.network.egress !== 'All') {
    throw new EsbError(`--egress ${config.network.egress} needs --runtime containerd: a Docker engine holds no class`, {
      code: 'InvalidArgument',
    });
  }
  return {
    runtime: await createRuntime({
      type: 'docker',
      options: {
        ...common,
        docker: { socketPath: resolve(config.runtime.dockerSocket), notesFolder: join(stateDir, 'docker') },
        oomScoreAdj: config.isolation.oomScoreAdj,
      },
    }),
    inits: common.inits,
    slots: () => ({ ready: 0, wanted: 0 }),
    refusals: () => Promise.resolve(undefined),
    network: { look: () => Promise.resolve([]) },
    ports: {
      read: () => Promise.resolve({ ports: [], claimed: new Set() }),
      remove: () => Promise.resolve(false),
    },
  };
}
