import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { LambdaWorker } from '../api/lambda-worker.ts';
import { EsbError, errnoOf } from '../common/errors.ts';
import { lastLines } from './command.ts';
import { openHome } from './home.ts';
import { openInstance, pause } from './instance.ts';
import { type ClusterOptions, kubectlText } from './kubectl-command.ts';
import type { CommandContext } from './up.ts';

export interface LogsOptions extends ClusterOptions {
  /** Name of a worker, or of a part of the local instance such as `agent-node-1`. */
  readonly worker: string;
  readonly namespace: string;
  /** Lines from the end; 0 for all. */
  readonly tail: number;
  readonly follow: boolean;
}

const FOLLOW_MS = 300;

/**
 * Shows what a worker wrote, from the file that its shim writes on the node, or the log of a part.
 *
 * @throws {EsbError} `NotFound` when there is no such worker or it has no container, `NotLocal` when it is on a machine
 *   other than this one
 */
export async function runLogs(options: LogsOptions, context: CommandContext): Promise<void> {
  const write = context.write ?? ((text) => void process.stdout.write(text));
  const file = (await partLog(options.worker, context)) ?? (await workerLog(options, context));
  const { text, size } = await readFrom(file, 0);
  write(options.tail === 0 || text === '' ? text : `${lastLines(text, options.tail)}\n`);
  let offset = size;
  while (options.follow && !context.signal.aborted) {
    await pause(context.signal, FOLLOW_MS);
    const more = await readFrom(file, offset);
    write(more.text);
    offset = more.size;
  }
}

async function partLog(name: string, context: CommandContext): Promise<string | undefined> {
  const home = openHome();
  const instance = await openInstance(home);
  if (instance === undefined) {
    return undefined;
  }
  if (name === 'supervisor') {
    return join(home.logs, 'supervisor.log');
  }
  const status = await instance.supervisor.status({ signal: context.signal }).catch(() => undefined);
  return status?.parts.some((part) => part.name === name) === true
    ? join(home.logs, `${name}.log`)
    : undefined;
}

async function workerLog(options: LogsOptions, context: CommandContext): Promise<string> {
  const text = await kubectlText(
    ['get', 'lambdaworker', options.worker, '--namespace', options.namespace, '-o', 'json'],
    options,
    { signal: context.signal },
  );
  const { status } = JSON.parse(text) as LambdaWorker;
  const node = status?.assignment?.nodeName;
  if (node === undefined || status?.containerID === undefined) {
    throw new EsbError(`worker ${options.worker} has no container (phase ${status?.phase ?? 'Pending'})`, {
      code: 'NotFound',
    });
  }
  return join(openHome().node(node).agent, 'logs', `${status.containerID}.log`);
}

/** What the file has from `offset` on. A file that has become shorter is read from its beginning. */
async function readFrom(
  path: string,
  offset: number,
): Promise<{ readonly text: string; readonly size: number }> {
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      const from = size < offset ? 0 : offset;
      const buffer = Buffer.alloc(size - from);
      const { bytesRead } = await file.read(buffer, 0, buffer.length, from);
      return { text: buffer.subarray(0, bytesRead).toString(), size: from + bytesRead };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      throw new EsbError(`there is no ${path}: the worker's node is not on this machine, or has removed it`, {
        code: 'NotLocal',
        cause: error,
      });
    }
    throw error;
  }
}
