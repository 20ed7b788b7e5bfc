import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../../common/errors.ts';
import { type ContainerdClient, createContainerdClient } from '../../containerd/containerd-client.ts';
import type { CommandContext } from '../command-context.ts';
import { checkContainerd, checkInit, checkPlugins, checkRunc } from './container-checks.ts';
import { exitCodeOf, type Finding, formatFindings, problem } from './finding.ts';
import {
  checkCgroups,
  checkClock,
  checkDisk,
  checkKernel,
  checkLimits,
  checkMounts,
  type MachineNeeds,
} from './machine-checks.ts';
import {
  checkForwarding,
  checkIpForward,
  checkPacketFilter,
  checkSubnet,
  type NetworkNeeds,
} from './network-checks.ts';
import { type NodeProbe, systemProbe } from './node-probe.ts';

/** The agent's options that the node has to fit. */
export interface NodeDoctorOptions extends MachineNeeds, Omit<NetworkNeeds, 'bridge'> {
  readonly json: boolean;
  readonly containerdSocket: string;
  readonly initProgram: string;
  readonly cniBinDir: string;
  /** Default: the program's own network configuration. */
  readonly cniConfig?: string;
}

/**
 * Looks for faults that keep an agent with these options from working on this node. Changes nothing.
 *
 * @returns the exit code: 1 when there is a problem
 */
export async function runNodeDoctor(options: NodeDoctorOptions, context: CommandContext): Promise<number> {
  const socketPath = resolve(options.containerdSocket);
  const findings = await examineNode(options, systemProbe(context.signal), () =>
    createContainerdClient({ socketPath, namespace: 'esb', snapshotter: 'overlayfs' }),
  );
  context.write(formatFindings(findings, options.json));
  return exitCodeOf(findings);
}

/** Every check in turn. A check that fails to run is a problem itself, and the other checks still run. */
export async function examineNode(
  options: NodeDoctorOptions,
  probe: NodeProbe,
  connect: () => ContainerdClient,
): Promise<readonly Finding[]> {
  const configFile = resolve(
    options.cniConfig ?? fileURLToPath(new URL('../../../cni/10-esb.conflist', import.meta.url)),
  );
  const network: NetworkNeeds = { ...options, bridge: await bridgeOf(probe, configFile) };
  const checks: readonly (readonly [what: string, check: () => Promise<Finding[]>])[] = [
    ['kernel', () => checkKernel(probe)],
    ['control groups', () => checkCgroups(probe, options)],
    ['containerd', () => checkContainerd(probe, resolve(options.containerdSocket), connect)],
    ['runc', () => checkRunc(probe)],
    ['init of workers', () => checkInit(probe, resolve(options.initProgram))],
    ['CNI plugins', () => checkPlugins(probe, { pluginFolder: resolve(options.cniBinDir), configFile })],
    ['nftables', () => checkPacketFilter(probe, network)],
    ['forwarding', () => checkForwarding(probe, network)],
    ['forwarding of IPv4', () => checkIpForward(probe)],
    ['subnet', () => checkSubnet(probe, network)],
    ['mounts', () => checkMounts(probe, options)],
    ['clock', () => checkClock(probe)],
    ['limits', () => checkLimits(probe, options)],
    ['disk', () => checkDisk(probe, options)],
  ];
  const findings: Finding[] = [];
  for (const [what, check] of checks) {
    try {
      findings.push(...(await check()));
    } catch (error) {
      findings.push(problem(what, `cannot be checked: ${messageOf(error)}`, 'run this as root on the node itself'));
    }
  }
  return findings;
}

async function bridgeOf(probe: NodeProbe, configFile: string): Promise<string> {
  return /"bridge"\s*:\s*"([^"]+)"/.exec((await probe.read(configFile)) ?? '')?.[1] ?? 'esb0';
}
