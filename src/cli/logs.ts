import { type FoundSpan, LogCursor, type LogQuery } from '../agent/logs/log-query.ts';
import { functionNameOf, type LambdaWorker } from '../api/lambda-worker.ts';
import { EsbError, hasCode } from '../common/errors.ts';
import { systemCommandRunner } from '../common/exec/command-runner.ts';
import { LogFolder } from '../runtime/logs/log-folder.ts';
import { logFolderReader } from '../runtime/logs/log-reader.ts';
import { type FoundWorker, readAgentLogs } from './agent-logs.ts';
import type { CommandContext } from './command-context.ts';
import { type Cluster, type ClusterOptions, clusterOf } from './kubectl-command.ts';
import { LogText } from './log-text.ts';
import { parseSince } from './since.ts';
import { pause } from './wait.ts';
import { readWorkers } from './worker-list.ts';

export interface LogsOptions extends ClusterOptions {
  /** Name of a worker or of a function, or of a process of the local instance such as `agent-node-1`. */
  readonly worker: string;
  readonly namespace: string;
  /** Lines from the end; 0 for all. */
  readonly tail: number;
  readonly follow: boolean;
  /** A duration such as `10m`, or a date. */
  readonly since?: string;
  /** Shows one call alone. */
  readonly requestId?: string;
  /** Shows the container that failed to replace the present one, or else the one before. */
  readonly previous: boolean;
  /** Asks the agent also where its files are on this machine. */
  readonly throughAgent: boolean;
  /** Shows the emulator's own lines, too. */
  readonly emulator: boolean;
}

const FOLLOW_MS = 300;

/**
 * Shows the output of a worker, of all workers of a function, or of a process of the local instance. Reads the files of
 * a worker's node where they are on this machine; otherwise, or on request, calls the agent.
 *
 * @throws {EsbError} `NotFound` when there is no such worker, function or log, `InvalidArgument` for an invalid time,
 *   and the errors of {@link readAgentLogs}
 */
export async function runLogs(options: LogsOptions, context: CommandContext): Promise<void> {
  const { signal, write } = context;
  const cluster = await clusterOf(options, context);
  const { instance } = cluster;
  if ((await instance?.showLog(options.worker, options, write, signal)) === true) {
    return;
  }
  const query: LogQuery = {
    tailLines: options.tail,
    sinceMs: options.since === undefined ? 0 : parseSince(options.since, Date.now()),
    requestId: options.requestId ?? '',
    previous: options.previous,
  };
  const workers = await findWorkers(options, cluster, signal);
  const show = (worker: LambdaWorker, to: (text: string) => void): Promise<void> =>
    showWorker(worker, query, options, { cluster, write: to, signal });
  const [only] = workers;
  if (only !== undefined && workers.length === 1) {
    return show(only, write);
  }
  const missing: EsbError[] = [];
  const showOne = async (worker: LambdaWorker): Promise<void> => {
    let head = `==> ${worker.metadata.name} <==\n`;
    const writeBelow = (text: string): void => {
      if (text !== '') {
        write(head + text);
        head = '';
      }
    };
    try {
      await show(worker, writeBelow);
    } catch (error) {
      if (!hasCode(error, 'NotFound')) {
        throw error;
      }
      missing.push(error);
    }
  };
  if (options.follow) {
    await Promise.all(workers.map(showOne));
  } else {
    for (const worker of workers) {
      await showOne(worker);
    }
  }
  const [first] = missing;
  if (first !== undefined && missing.length === workers.length) {
    throw first;
  }
}

/**
 * The workers that a name stands for: the one that bears it, else all of the function of this name. The one that was
 * called last comes last, where a terminal shows most of it.
 */
export function workersNamed(name: string, workers: readonly LambdaWorker[]): readonly LambdaWorker[] {
  const calledAt = ({ status }: LambdaWorker): number => Date.parse(status?.lastInvocationTime ?? '') || 0;
  const one = workers.find(({ metadata }) => metadata.name === name);
  return one !== undefined
    ? [one]
    : workers
        .filter((worker) => functionNameOf(worker) === name)
        .toSorted((first, second) => calledAt(first) - calledAt(second));
}

async function showWorker(
  resource: LambdaWorker,
  query: LogQuery,
  options: LogsOptions,
  { cluster, signal, write }: { cluster: Cluster; write: (text: string) => void; signal: AbortSignal },
): Promise<void> {
  const { instance } = cluster;
  const worker = foundWorker(resource, options);
  const shown = new LogText({ emulator: options.emulator });
  const sink = (data: Buffer, missed: number): void => {
    if (missed > 0) {
      process.stderr.write(`esb: ${missed} bytes were removed before they could be shown\n`);
    }
    write(shown.take(data));
  };
  const folder = options.throughAgent ? undefined : await instance?.workerLogs(worker.nodeName, options.kubeconfig);
  const wanted = { query, follow: options.follow };
  if (folder === undefined) {
    await readAgentLogs(worker, wanted, cluster, sink, signal);
  } else {
    await readLocalLogs(folder, worker, wanted, sink, signal);
  }
  write(shown.end());
}

async function findWorkers(
  { namespace, worker: name }: LogsOptions,
  cluster: Cluster,
  signal: AbortSignal,
): Promise<readonly LambdaWorker[]> {
  const found = workersNamed(name, await readWorkers(namespace, cluster, signal));
  if (found.length === 0) {
    throw new EsbError(
      `the namespace ${namespace} has no worker ${name}, and no function of this name has one: esb ps lists them`,
      { code: 'NotFound' },
    );
  }
  return found;
}

function foundWorker({ metadata, status }: LambdaWorker, { namespace }: LogsOptions): FoundWorker {
  const { name, uid = '' } = metadata;
  const nodeName = status?.assignment?.nodeName;
  if (nodeName === undefined) {
    throw new EsbError(`worker ${name} is on no node (phase ${status?.phase ?? 'Pending'})`, { code: 'NotFound' });
  }
  return { namespace, name, uid, nodeName, containerId: status?.containerID };
}

async function readLocalLogs(
  folder: string,
  worker: FoundWorker,
  wanted: { readonly query: LogQuery; readonly follow: boolean },
  sink: (data: Buffer, missed: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const logs = logFolderReader(new LogFolder(folder, systemCommandRunner));
  const containerId = worker.containerId ?? (await logs.newest(worker.uid));
  if (containerId === undefined) {
    throw new EsbError(`worker ${worker.name} has written nothing yet`, { code: 'NotFound' });
  }
  const take = ({ data, missed }: FoundSpan): Promise<void> => {
    sink(data, missed);
    return Promise.resolve();
  };
  let present = containerId;
  let cursor = new LogCursor(logs, present, wanted.query);
  await cursor.begin(take);
  while (wanted.follow && !wanted.query.previous && !cursor.isComplete && !signal.aborted) {
    await pause(signal, FOLLOW_MS);
    await cursor.readOn(take);
    const newest = await logs.newest(worker.uid);
    if (newest !== undefined && newest !== present) {
      await cursor.end(take);
      present = newest;
      cursor = new LogCursor(logs, present, { ...wanted.query, tailLines: 0, sinceMs: 0 });
      await cursor.begin(take);
    }
  }
  await cursor.end(take);
}
