import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { writeFileAtomically } from '../../src/common/atomic-file.ts';
import { EsbError, errnoOf } from '../../src/common/errors.ts';
import { localCode } from '../common/error-codes.ts';

/** Number of each part of an instance. */
export interface InstanceSize {
  readonly nodes: number;
  readonly gateways: number;
  readonly controllers: number;
  /** Whether the API server keeps an audit log. */
  readonly audit: boolean;
}

/** The choices of `up` for an instance, which later runs keep. */
export interface InstanceState extends InstanceSize {
  /** Options of every agent beside those of the instance. */
  readonly agentOptions?: readonly string[];
  /** Whether the gateways authenticate callers. Absent for not. */
  readonly authentication?: 'on' | 'off';
  /** TCP ports by purpose, such as `registry`, `gateway-1` or `agent-node-1-health`. */
  readonly ports: Readonly<Record<string, number>>;
}

/** A wanted port and the preferred number. */
export interface WantedPort {
  readonly name: string;
  readonly preferred: number;
}

/** Nodes by name: node-1 is the host itself, every other one a network namespace. */
export function nodeNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `node-${index + 1}`);
}

/** Every port of the host that an instance of this size needs. */
export function wantedPorts(size: InstanceSize): WantedPort[] {
  const numbered = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);
  return [
    { name: 'etcd', preferred: 2379 },
    { name: 'etcd-peer', preferred: 2380 },
    { name: 'apiserver', preferred: 6443 },
    { name: 'registry', preferred: 5000 },
    // The other nodes have all ports of their namespace to themselves.
    { name: 'agent-node-1', preferred: 9443 },
    { name: 'agent-node-1-health', preferred: 9093 },
    { name: 'events', preferred: 9444 },
    { name: 'events-health', preferred: 9290 },
    ...numbered(size.controllers).map((n) => ({ name: `controller-${n}-health`, preferred: 9190 + n })),
    ...numbered(size.controllers).map((n) => ({ name: `controller-${n}-demand`, preferred: 9450 + n })),
    ...numbered(size.gateways).map((n) => ({ name: `gateway-${n}`, preferred: 9079 + n })),
    ...numbered(size.gateways).map((n) => ({ name: `gateway-${n}-health`, preferred: 9290 + n })),
  ];
}

/**
 * Gives every wanted port a number: its present one, else its preferred one where that is free, else any free one.
 *
 * @param isFree whether no process listens there
 * @param anyFree resolves to a port that no process listens on
 */
export async function choosePorts(
  wanted: readonly WantedPort[],
  known: Readonly<Record<string, number>>,
  isFree: (port: number) => Promise<boolean>,
  anyFree: () => Promise<number>,
): Promise<Record<string, number>> {
  const chosen: Record<string, number> = { ...known };
  const taken = new Set(Object.values(known));
  for (const { name, preferred } of wanted) {
    if (chosen[name] !== undefined) {
      continue;
    }
    let port = preferred;
    while (taken.has(port) || !(await isFree(port))) {
      port = await anyFree();
    }
    chosen[name] = port;
    taken.add(port);
  }
  return chosen;
}

/** A line for each port that differs from the preferred one, and why. */
export function movedPorts(wanted: readonly WantedPort[], chosen: Readonly<Record<string, number>>): readonly string[] {
  return wanted.flatMap(({ name, preferred }) => {
    const port = chosen[name];
    return port === undefined || port === preferred
      ? []
      : [`  · ${name} listens on port ${port}: ${preferred} was taken when the instance was first brought up`];
  });
}

/** Whether no process listens on that TCP port, on loopback or on every address. */
export async function isPortFree(port: number): Promise<boolean> {
  return (await tryListen(port, '127.0.0.1')) !== undefined && (await tryListen(port, '0.0.0.0')) !== undefined;
}

/** A TCP port that no process listens on. */
export async function anyFreePort(): Promise<number> {
  const port = await tryListen(0, '127.0.0.1');
  if (port === undefined) {
    throw new EsbError('there is no free TCP port on 127.0.0.1', { code: localCode('NoFreePort') });
  }
  return port;
}

async function tryListen(port: number, host: string): Promise<number | undefined> {
  const server = createServer();
  const listening = Promise.withResolvers<boolean>();
  server.once('error', () => listening.resolve(false));
  server.listen(port, host, () => listening.resolve(true));
  if (!(await listening.promise)) {
    return undefined;
  }
  const address = server.address();
  const closed = Promise.withResolvers<void>();
  server.close(() => closed.resolve());
  await closed.promise;
  return typeof address === 'object' && address !== null ? address.port : undefined;
}

/** The choices of an earlier `up`; undefined where there was none. */
export async function readInstanceState(file: string): Promise<InstanceState | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
  try {
    return JSON.parse(text) as InstanceState;
  } catch (error) {
    throw new EsbError(`${file} cannot be read; \`npm run down\` and start again`, {
      code: 'InvalidState',
      cause: error,
    });
  }
}

export async function writeInstanceState(file: string, state: InstanceState): Promise<void> {
  await writeFileAtomically(file, `${JSON.stringify(state, undefined, 2)}\n`);
}

/** The port called `name`. */
export function portOf(state: InstanceState, name: string): number {
  const port = state.ports[name];
  if (port === undefined) {
    throw new EsbError(`no port was chosen for ${name}`, { code: 'InvalidState' });
  }
  return port;
}
