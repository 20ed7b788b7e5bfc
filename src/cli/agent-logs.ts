import type { ClientReadableStream } from '@grpc/grpc-js';
import type { LogQuery } from '../agent/logs/log-query.ts';
import { EsbError } from '../common/errors.ts';
import type { LogChunk } from '../protocol/generated/agent.ts';
import { agentFault, openAgent } from './agent-client.ts';
import { requestClientCertificate } from './client-certificate.ts';
import type { Cluster } from './kubectl-command.ts';

/** A worker whose log is read, and its present container. */
export interface FoundWorker {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly nodeName: string;
  readonly containerId?: string | undefined;
}

/**
 * Reads the log of a worker from the agent of its node, from any machine that reaches the node.
 *
 * @throws {EsbError} `NotFound` when there is no such node, worker or log, `AgentUnreachable` when the agent cannot be
 *   called from here
 */
export async function readAgentLogs(
  { namespace, name, uid, nodeName }: FoundWorker,
  wanted: { readonly query: LogQuery; readonly follow: boolean },
  cluster: Cluster,
  sink: (data: Buffer, missed: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const agent = await openAgent(nodeName, requestClientCertificate([namespace], cluster, { signal }), cluster, signal);
  try {
    const methods = agent.methods as Record<string, ((message: object) => ClientReadableStream<LogChunk>) | undefined>;
    const stream = methods.getLogs?.({
      worker: { namespace, name, uid },
      ...wanted.query,
      follow: wanted.follow,
    });
    if (stream === undefined) {
      throw new EsbError('the protocol of the agent has no method GetLogs', { code: 'Internal' });
    }
    const cancel = (): void => stream.cancel();
    signal.addEventListener('abort', cancel, { once: true });
    try {
      for await (const chunk of stream as AsyncIterable<LogChunk>) {
        sink(chunk.data, chunk.missed);
      }
    } catch (error) {
      throw signal.aborted
        ? new EsbError('interrupted', { code: 'Aborted', cause: error })
        : agentFault(error, agent.endpoint);
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  } finally {
    agent.close();
  }
}
