import { nodeConditions } from '../api/condition.ts';
import {
  GUARD_ROLE,
  HOLD_ROLE_LABEL,
  HOLD_SELECTOR,
  isRetired,
  type LambdaNode,
  lambdaNodes,
} from '../api/lambda-node.ts';
import { type LambdaWorker, lambdaWorkers, WORKER_FINALIZER } from '../api/lambda-worker.ts';
import { CLIENT_CA_NAME, CLUSTER_RANGES_NAME, CONTROLLER_LEASE } from '../api/name.ts';
import type { Clock } from '../common/clock.ts';
import { EsbError } from '../common/errors.ts';
import { configMaps, leases, pods, secrets } from '../kube/api/resource-types.ts';
import type { KubeClient } from '../kube/api/types.ts';
import type { CommandContext } from './command-context.ts';
import { withKubeClient } from './kube-client.ts';
import { lookUntil, waitingClock } from './wait.ts';

export interface RetireOptions {
  /** Names of the nodes to retire. */
  readonly nodes: readonly string[];
  /** Retires every node, and then removes the objects of each; in place of names. */
  readonly all: boolean;
  /**
   * Removes the objects that ESB made at run time in its own namespace, in place of nodes; for after the controllers
   * have ended.
   */
  readonly leftovers: boolean;
  /** Seconds of wait until the nodes are left. */
  readonly timeout: number;
  readonly systemNamespace: string;
  /** Default: in a Pod its service account, else that of the local instance or the one that kubectl takes. */
  readonly kubeconfig?: string;
}

/** Client, clock and output of the work. */
export interface RetireParts {
  readonly client: Pick<KubeClient, 'get' | 'list' | 'patch' | 'delete'>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

const LOOK_EVERY_MS = 1_000;
/** Milliseconds that controllers get to release the workers of a node that was given up. */
const RELEASE_MS = 30_000;
/** Milliseconds that controllers get to let the guard Pods go, which the kubelet ends within two seconds. */
const UNGUARD_MS = 30_000;
const MOST_NAMED = 5;

/**
 * Retires nodes: their workers move to other nodes or are removed, and their agents remove all that they made there.
 *
 * @throws {EsbError} `InvalidArgument`, `NotFound` for an unknown node, `NotRetired` with what is left
 */
export async function runRetire(options: RetireOptions, context: CommandContext): Promise<void> {
  const kinds = [options.nodes.length > 0, options.all, options.leftovers].filter(Boolean).length;
  if (kinds !== 1) {
    throw new EsbError('name nodes, or give --all or --leftovers, and no two of these', { code: 'InvalidArgument' });
  }
  const { signal, write } = context;
  const work = options.leftovers ? removeLeftovers : retireNodes;
  await withKubeClient('esb-retire', options, context, (client) =>
    work(options, { client, clock: waitingClock, signal, say: (line) => write(`${line}\n`) }),
  );
}

/** Retires the named nodes or all of them; with all, their LambdaNodes and Leases are removed, too. */
export async function retireNodes(options: RetireOptions, parts: RetireParts): Promise<void> {
  const { client, say, signal } = parts;
  const present = await allNodes(parts);
  const missing = options.nodes.filter((name) => !present.some(({ metadata }) => metadata.name === name));
  if (missing.length > 0) {
    throw new EsbError(`there is no LambdaNode ${missing.join(', ')}`, { code: 'NotFound' });
  }
  const names = new Set(options.all ? present.map(({ metadata }) => metadata.name) : options.nodes);
  for (const name of names) {
    await client.patch(lambdaNodes, { name }, { kind: 'merge', body: { spec: { retired: true } } }, { signal });
  }
  say(names.size === 0 ? 'There is no node.' : `Retiring ${[...names].join(', ')}.`);
  const silent = await untilLeft(names, options.timeout * 1_000, parts);
  if (!options.all) {
    if (silent.size > 0) {
      throw new EsbError(`after ${options.timeout} s these are not left yet: ${[...silent.values()].join('; ')}`, {
        code: 'NotRetired',
      });
    }
    return;
  }
  for (const why of silent.values()) {
    say(`Given up: ${why}. What ESB made there stays.`);
  }
  // From here on a worker of such a node counts as lost, and the controller removes its finalizer.
  for (const name of names) {
    await client.delete(lambdaNodes, { name }, { signal });
    await client.delete(leases, { namespace: options.systemNamespace, name }, { signal });
  }
  await untilReleased(parts);
  await untilUnguarded(options.systemNamespace, parts);
  say('ESB has left every node.');
}

/**
 * Removes the objects that ESB made at run time in its own namespace. A controller that still runs would make them
 * again.
 */
export async function removeLeftovers(
  options: Pick<RetireOptions, 'systemNamespace'>,
  parts: RetireParts,
): Promise<void> {
  const { client, say, signal } = parts;
  const namespace = options.systemNamespace;
  await client.delete(leases, { namespace, name: CONTROLLER_LEASE }, { signal });
  await client.delete(secrets, { namespace, name: CLIENT_CA_NAME }, { signal });
  await client.delete(configMaps, { namespace, name: CLIENT_CA_NAME }, { signal });
  await client.delete(configMaps, { namespace, name: CLUSTER_RANGES_NAME }, { signal });
  say('What ESB made at run time is removed.');
}

/** Returns the nodes that were not left in time, with the reason. A node that is gone counts as left. */
async function untilLeft(
  names: ReadonlySet<string>,
  timeoutMs: number,
  parts: RetireParts,
): Promise<ReadonlyMap<string, string>> {
  const told = new Map<string, string>();
  const waiting = async (): Promise<readonly (readonly [string, string])[]> => {
    const nodes = (await allNodes(parts)).filter(({ metadata }) => names.has(metadata.name));
    return nodes.flatMap((node) => {
      const { name } = node.metadata;
      const why = whyNotLeft(node);
      if (told.get(name) !== (why ?? '')) {
        parts.say(`${name}: ${why ?? 'left'}`);
      }
      told.set(name, why ?? '');
      return why === undefined ? [] : [[name, `${name}: ${why}`] as const];
    });
  };
  return new Map(await untilNone(waiting, timeoutMs, parts));
}

/** Looks until nothing is found any more, for so many milliseconds at most. Returns the rest. */
function untilNone<T>(
  find: () => Promise<readonly T[]>,
  withinMs: number,
  { clock, signal }: RetireParts,
): Promise<readonly T[]> {
  return lookUntil(find, ({ length }) => length === 0, { withinMs, everyMs: LOOK_EVERY_MS, clock, signal });
}

/** The reason why a node is not left yet; undefined for a left node. */
export function whyNotLeft(node: LambdaNode): string | undefined {
  if (!isRetired(node)) {
    return 'somebody took its retirement back';
  }
  const retired = node.status?.conditions?.find(({ type }) => type === nodeConditions.retired);
  if (retired === undefined) {
    return 'its agent has not answered yet';
  }
  return retired.status === 'True' ? undefined : retired.message;
}

/** Waits until no worker has our finalizer: without controllers it could not be deleted. */
async function untilReleased(parts: RetireParts): Promise<void> {
  const { client, signal } = parts;
  const held = await untilNone(
    async () => {
      const { items } = await client.list<LambdaWorker>(lambdaWorkers, {}, { signal });
      return items.filter(({ metadata }) => metadata.finalizers?.includes(WORKER_FINALIZER) === true);
    },
    RELEASE_MS,
    parts,
  );
  if (held.length > 0) {
    const named = held.slice(0, MOST_NAMED).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
    const more = held.length > MOST_NAMED ? ` and ${held.length - MOST_NAMED} more` : '';
    throw new EsbError(
      `the finalizer ${WORKER_FINALIZER} is still on ${named.join(', ')}${more}: does a controller run?`,
      { code: 'NotRetired' },
    );
  }
}

/**
 * Waits until no guard Pod is there: without controllers none would go, and the deletion of a namespace waits for half
 * of the grace that its Pods name.
 */
async function untilUnguarded(namespace: string, parts: RetireParts): Promise<void> {
  const { client, say, signal } = parts;
  const selected = { namespace, labelSelector: `${HOLD_SELECTOR},${HOLD_ROLE_LABEL}=${GUARD_ROLE}` };
  const guards = async () => (await client.list(pods, selected, { signal })).items;
  const rest = await untilNone(guards, UNGUARD_MS, parts);
  if (rest.length > 0) {
    say(`Still there: ${rest.map(({ metadata }) => `Pod ${namespace}/${metadata.name}`).join(', ')}.`);
  }
}

async function allNodes({ client, signal }: RetireParts): Promise<readonly LambdaNode[]> {
  return (await client.list<LambdaNode>(lambdaNodes, {}, { signal })).items;
}
