import { join } from 'node:path';
import { SYSTEM_NAMESPACE } from '../../src/api/name.ts';
import type { Home } from '../common/home.ts';
import { NODE_LINKS, nodeAddress } from '../network/node-address.ts';
import type { PartSpec } from '../supervisor/part.ts';
import { type InstanceState, nodeNames, portOf } from './instance-state.ts';
import type { PkiFiles } from './pki.ts';

/** Service range of the API server; the agents' subnet must not overlap it. */
export const SERVICE_CIDR = '10.96.0.0/16';
/** Addresses of the workers, the same on every node. */
export const WORKER_SUBNET = '10.234.0.0/16';

/** Agents in a namespace of their own have the port to themselves. */
const NAMESPACED_AGENT_PORT = 9443;
const NAMESPACED_HEALTH_PORT = 9093;

export interface PartsOptions {
  readonly home: Home;
  readonly state: InstanceState;
  readonly pki: PkiFiles;
  /** The Node.js that runs the roles. */
  readonly node: string;
  /** Folder of the repository with the program. */
  readonly repository: string;
  /** The program that is process 1 of workers. */
  readonly initProgram: string;
}

/** The parts below ESB: etcd, API server, registry, and each node's relay and containerd. */
export function infrastructureParts(options: PartsOptions): PartSpec[] {
  const { state } = options;
  return [
    etcd(options),
    apiServer(options),
    registry(options),
    ...nodeNames(state.nodes).flatMap((node) => [...relay(options, node), containerd(options, node)]),
  ];
}

/** The roles of ESB. */
export function roleParts(options: PartsOptions): PartSpec[] {
  const { state } = options;
  const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);
  return [
    ...numbers(state.controllers).map((number) => controller(options, number)),
    ...nodeNames(state.nodes).map((node) => agent(options, node)),
    events(options),
    ...numbers(state.gateways).map((number) => gateway(options, number)),
  ];
}

/** The group of the workers of one node: below a group of the instance, so that `down` finds them all. */
export function cgroupParent(home: Home, node: string): string {
  return `${instanceCgroup(home)}/${node}`;
}

/** The group of all workers of the instance. */
export function instanceCgroup(home: Home): string {
  return `/esb/${home.volatile.slice(home.volatile.lastIndexOf('-') + 1)}`;
}

/** Address at which gateways call agents. */
export function agentEndpoint(state: InstanceState, node: string): { host: string; port: number } {
  const { node: host, namespace } = nodeAddress(node);
  return { host, port: namespace === undefined ? portOf(state, `agent-${node}`) : NAMESPACED_AGENT_PORT };
}

function etcd({ home, state }: PartsOptions): PartSpec {
  const client = `http://127.0.0.1:${portOf(state, 'etcd')}`;
  const peer = `http://127.0.0.1:${portOf(state, 'etcd-peer')}`;
  return {
    name: 'etcd',
    program: join(home.bin, 'etcd'),
    args: [
      `--data-dir=${home.etcd}`,
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=default=${peer}`,
      // One member on a developer's machine: objects lost in a power cut can be applied again.
      '--unsafe-no-fsync',
      '--auto-compaction-mode=periodic',
      '--auto-compaction-retention=10m',
      '--log-level=warn',
    ],
    env: {},
    logFile: join(home.logs, 'etcd.log'),
    health: { kind: 'http', url: `${client}/health` },
    stopGraceMs: 5_000,
  };
}

function apiServer({ home, state, pki }: PartsOptions): PartSpec {
  const port = portOf(state, 'apiserver');
  return {
    name: 'apiserver',
    program: join(home.bin, 'kube-apiserver'),
    args: [
      `--etcd-servers=http://127.0.0.1:${portOf(state, 'etcd')}`,
      `--secure-port=${port}`,
      '--bind-address=127.0.0.1',
      '--advertise-address=127.0.0.1',
      // Without it the server would try to publish its loopback address as an endpoint, and fail.
      '--endpoint-reconciler-type=none',
      `--cert-dir=${join(home.pki, 'generated')}`,
      `--tls-cert-file=${pki.serverCertificate}`,
      `--tls-private-key-file=${pki.serverKey}`,
      `--client-ca-file=${pki.authority}`,
      `--service-account-key-file=${pki.serviceAccountPublicKey}`,
      `--service-account-signing-key-file=${pki.serviceAccountKey}`,
      '--service-account-issuer=https://kubernetes.default.svc',
      '--authorization-mode=Node,RBAC',
      // Service accounts would need a controller manager.
      '--disable-admission-plugins=ServiceAccount',
      `--service-cluster-ip-range=${SERVICE_CIDR}`,
      '--allow-privileged',
      ...(state.audit ? [`--audit-policy-file=${home.auditPolicy}`, `--audit-log-path=${home.auditLog}`] : []),
    ],
    // A server with few objects collects garbage for a quarter of its time otherwise, beside workers on the same processors.
    env: { GOGC: '300' },
    logFile: join(home.logs, 'apiserver.log'),
    health: { kind: 'http', url: `https://127.0.0.1:${port}/readyz`, authorityFile: pki.authority },
    stopGraceMs: 5_000,
  };
}

function registry({ home, state }: PartsOptions): PartSpec {
  const port = portOf(state, 'registry');
  return {
    name: 'registry',
    program: join(home.bin, 'crane'),
    // Blobs go to disk; manifests are kept in memory, so that `up` pushes them again after a restart.
    args: ['registry', 'serve', '--address', `127.0.0.1:${port}`, '--disk', home.registry],
    env: {},
    logFile: join(home.logs, 'registry.log'),
    health: { kind: 'http', url: `http://127.0.0.1:${port}/v2/` },
    stopGraceMs: 2_000,
  };
}

function containerd({ home }: PartsOptions, node: string): PartSpec {
  const place = home.node(node);
  const name = `containerd-${node}`;
  return {
    name,
    program: join(home.bin, 'containerd'),
    args: ['--config', place.containerdConfig],
    env: {},
    ...inNamespace(node),
    logFile: join(home.logs, `${name}.log`),
    health: { kind: 'socket', path: place.containerdSocket },
    stopGraceMs: 10_000,
  };
}

/** Makes the host's loopback services reachable on the loopback of a node in a namespace of its own. */
function relay({ home, state, node, repository }: PartsOptions, name: string): PartSpec[] {
  const { namespace } = nodeAddress(name);
  if (namespace === undefined) {
    return [];
  }
  const part = `relay-${name}`;
  const socket = join(home.volatile, `${part}.sock`);
  return [
    {
      name: part,
      program: node,
      args: [
        ...nodeFlags,
        join(repository, 'local/network/relay-process.ts'),
        namespace,
        socket,
        String(portOf(state, 'apiserver')),
        String(portOf(state, 'registry')),
      ],
      env: {},
      logFile: join(home.logs, `${part}.log`),
      health: { kind: 'socket', path: socket },
      stopGraceMs: 2_000,
    },
  ];
}

function controller(options: PartsOptions, number: number): PartSpec {
  const { home, state } = options;
  const name = `controller-${number}`;
  const health = `127.0.0.1:${portOf(state, `${name}-health`)}`;
  return rolePart(options, name, health, [
    'controller',
    '--kubeconfig',
    join(home.kubeconfigs, name),
    '--health',
    health,
    '--identity',
    name,
    '--demand-listen',
    `127.0.0.1:${portOf(state, `${name}-demand`)}`,
    // Nodes of one machine cost nothing that packing would save.
    '--placement=spread',
  ]);
}

function gateway(options: PartsOptions, number: number): PartSpec {
  const { home, state } = options;
  const name = `gateway-${number}`;
  const health = `127.0.0.1:${portOf(state, `${name}-health`)}`;
  return rolePart(options, name, health, [
    'gateway',
    '--kubeconfig',
    join(home.kubeconfigs, name),
    '--namespace',
    'default',
    '--listen',
    `127.0.0.1:${portOf(state, name)}`,
    '--health',
    health,
    '--state-dir',
    join(home.gateways, `${name}-state`),
    `--authentication=${state.authentication ?? 'off'}`,
    ...(state.authentication === 'on' ? ['--control-api'] : []),
    `--events-address=127.0.0.1:${portOf(state, 'events')}`,
  ]);
}

/** The role that keeps the events of all gateways. */
function events(options: PartsOptions): PartSpec {
  const { home, state } = options;
  const health = `127.0.0.1:${portOf(state, 'events-health')}`;
  return rolePart(options, 'events', health, [
    'events',
    '--kubeconfig',
    join(home.kubeconfigs, 'events'),
    '--namespace',
    'default',
    '--listen',
    `127.0.0.1:${portOf(state, 'events')}`,
    '--health',
    health,
    '--state-dir',
    join(home.gateways, 'events-state'),
    // A caller here has the machine, and tries destinations on it.
    '--event-destination=*',
    '--event-destination=127.0.0.0/8',
    '--event-destination=::1',
  ]);
}

function agent(options: PartsOptions, node: string): PartSpec {
  const { home, initProgram, state } = options;
  const place = home.node(node);
  const address = nodeAddress(node);
  const name = `agent-${node}`;
  const endpoint = agentEndpoint(state, node);
  const healthPort = address.namespace === undefined ? portOf(state, `${name}-health`) : NAMESPACED_HEALTH_PORT;
  const health = `${address.node}:${healthPort}`;
  return {
    ...rolePart(options, name, health, [
      'agent',
      '--node-name',
      node,
      '--kubeconfig',
      join(home.kubeconfigs, name),
      '--containerd-socket',
      place.containerdSocket,
      '--cni-bin-dir',
      home.bin,
      '--init-program',
      initProgram,
      '--state-dir',
      place.agent,
      '--run-dir',
      place.agentRun,
      '--certs-dir',
      place.certs,
      '--listen',
      `${endpoint.host}:${endpoint.port}`,
      '--advertise',
      `${endpoint.host}:${endpoint.port}`,
      '--health',
      health,
      '--subnet',
      WORKER_SUBNET,
      '--service-cidr',
      SERVICE_CIDR,
      // Agents and their health are served there, for the host alone.
      '--deny-cidr',
      NODE_LINKS,
      '--cgroup-parent',
      cgroupParent(home, node),
      ...(state.agentOptions ?? []),
    ]),
    ...inNamespace(node),
  };
}

/** Milliseconds for a role to let calls end: an agent gives them 20 seconds. As long as Kubernetes gives to a Pod by default. */
const ROLE_STOP_GRACE_MS = 30_000;
const nodeFlags = ['--disable-warning=ExperimentalWarning'] as const;

function rolePart(
  { home, node, repository }: PartsOptions,
  name: string,
  health: string,
  args: readonly string[],
): PartSpec {
  return {
    name,
    program: node,
    args: [...nodeFlags, join(repository, 'src/main.ts'), ...args, '--system-namespace', SYSTEM_NAMESPACE],
    env: { RUNTIME_TYPE: 'containerd' },
    logFile: join(home.logs, `${name}.log`),
    health: { kind: 'http', url: `http://${health}/readyz` },
    stopGraceMs: ROLE_STOP_GRACE_MS,
  };
}

function inNamespace(node: string): { readonly namespace?: string } {
  const { namespace } = nodeAddress(node);
  return namespace === undefined ? {} : { namespace };
}
