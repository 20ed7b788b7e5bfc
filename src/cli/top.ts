import { MAX_NAMESPACES } from '../api/gateway-name.ts';
import type { LambdaWorker } from '../api/lambda-worker.ts';
import { withDeadline } from '../common/deadline.ts';
import { EsbError, messageOf } from '../common/errors.ts';
import { Limiter } from '../common/limiter.ts';
import type { CertifiedKey } from '../common/x509.ts';
import type { ListResponse, Usage } from '../protocol/generated/agent.ts';
import { type AgentClient, agentFault, openAgent } from './agent-client.ts';
import { requestClientCertificate } from './client-certificate.ts';
import type { CommandContext } from './command-context.ts';
import { type Cluster, type ClusterOptions, clusterOf } from './kubectl-command.ts';
import { formatList } from './table.ts';
import { pause } from './wait.ts';
import { readWorkers, WORKER_HEADER, workerCells } from './worker-list.ts';

export interface TopOptions extends ClusterOptions {
  /** Default: every namespace. */
  readonly namespace?: string;
  readonly sort: 'cpu' | 'memory';
  readonly json: boolean;
}

/** Use of one worker; undefined where its agent does not tell. */
interface Used {
  /** Thousandths of a processor between two looks. */
  readonly cpuMilli: number;
  readonly memoryBytes: number;
}

/** Milliseconds between the two looks that a rate needs. An agent keeps figures for a second. */
const LOOK_EVERY_MS = 2_000;
const LIST_DEADLINE_MS = 15_000;
const NODES_AT_ONCE = 16;
const HEADER = [...WORKER_HEADER, 'CPU', 'MEMORY'];
const NONE = '-';

/**
 * Shows what workers use, by the kernel: their agents are looked at twice. Workers of a node whose agent cannot be called
 * from here have no figures.
 *
 * @throws {EsbError} `CommandFailed` where the caller may not have a certificate for the namespaces
 */
export async function runTop(options: TopOptions, context: CommandContext): Promise<void> {
  const { signal } = context;
  const cluster = await clusterOf(options, context);
  const workers = await readWorkers(options.namespace, cluster, signal);
  const used = new Map<string, Used>();
  const namespaces = [...new Set(workers.flatMap(({ metadata }) => metadata.namespace ?? []))];
  for (let at = 0; at < namespaces.length; at += MAX_NAMESPACES) {
    const asked = namespaces.slice(at, at + MAX_NAMESPACES);
    const nodeNames = new Set(
      workers.flatMap(({ metadata, status }) =>
        asked.includes(metadata.namespace ?? '') ? (status?.assignment?.nodeName ?? []) : [],
      ),
    );
    if (nodeNames.size > 0) {
      const own = await requestClientCertificate(asked, cluster, { signal });
      await lookAtNodes([...nodeNames], own, cluster, used, signal);
    }
  }
  const shown = workers
    .map((worker) => ({ worker, used: used.get(worker.metadata.uid ?? '') }))
    .toSorted((a, b) => weightOf(b.used, options.sort) - weightOf(a.used, options.sort));
  context.write(formatList(shown, options.json, { header: HEADER, rowOf, entryOf }));
}

async function lookAtNodes(
  nodeNames: readonly string[],
  own: CertifiedKey,
  cluster: Cluster,
  used: Map<string, Used>,
  signal: AbortSignal,
): Promise<void> {
  const limiter = new Limiter(NODES_AT_ONCE);
  const look = async (nodeName: string): Promise<void> => {
    try {
      const agent = await openAgent(nodeName, own, cluster, signal);
      await lookTwice(agent, used, signal).finally(() => agent.close());
    } catch (error) {
      signal.throwIfAborted();
      process.stderr.write(`esb: no figures of node ${nodeName}: ${messageOf(error)}\n`);
    }
  };
  await Promise.all(nodeNames.map((nodeName) => limiter.run(() => look(nodeName), signal)));
}

async function lookTwice(agent: AgentClient, used: Map<string, Used>, signal: AbortSignal): Promise<void> {
  const first = await usagesOf(agent, signal);
  await pause(signal, LOOK_EVERY_MS);
  for (const [uid, usage] of await usagesOf(agent, signal)) {
    used.set(uid, usedBetween(first.get(uid), usage));
  }
}

/** Use between two readings. A container that was made again in between counts from its start. */
export function usedBetween(before: Usage | undefined, after: Usage): Used {
  const elapsedMs = after.takenAtMs - (before?.takenAtMs ?? 0);
  const cpuUs = after.cpuUs - (before?.cpuUs ?? 0);
  const isComparable = before !== undefined && elapsedMs > 0 && cpuUs >= 0;
  return { cpuMilli: isComparable ? Math.round(cpuUs / elapsedMs) : 0, memoryBytes: after.memoryBytes };
}

async function usagesOf(agent: AgentClient, signal: AbortSignal): Promise<ReadonlyMap<string, Usage>> {
  const list = agent.methods.list as
    | ((message: object, answer: (error: unknown, response: ListResponse) => void) => { cancel(): void })
    | undefined;
  if (list === undefined) {
    throw new EsbError('the protocol of the agent has no method List', { code: 'Internal' });
  }
  const { workers } = await withDeadline('asking an agent', LIST_DEADLINE_MS, signal, async (ended) => {
    const { promise, reject, resolve } = Promise.withResolvers<ListResponse>();
    const call = list.call(agent.methods, { withUsage: true }, (error, response) =>
      error === null ? resolve(response) : reject(agentFault(error, agent.endpoint)),
    );
    ended.addEventListener('abort', () => call.cancel(), { once: true });
    return await promise;
  });
  return new Map(workers.flatMap(({ usage, worker }) => (usage === null ? [] : [[worker?.uid ?? '', usage] as const])));
}

interface Shown {
  readonly worker: LambdaWorker;
  readonly used: Used | undefined;
}

function weightOf(used: Used | undefined, sort: TopOptions['sort']): number {
  return (sort === 'cpu' ? used?.cpuMilli : used?.memoryBytes) ?? -1;
}

/** One line of the list. */
export function rowOf({ used, worker }: Shown): string[] {
  return [
    ...workerCells(worker),
    used === undefined ? NONE : `${used.cpuMilli}m`,
    used === undefined ? NONE : `${(used.memoryBytes / 2 ** 20).toFixed(1)}Mi`,
  ];
}

function entryOf({ used, worker }: Shown): object {
  const { name, namespace } = worker.metadata;
  return { namespace, name, nodeName: worker.status?.assignment?.nodeName, ...used };
}
