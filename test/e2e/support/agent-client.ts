import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type ClientReadableStream,
  credentials,
  loadPackageDefinition,
  type ServiceClientConstructor,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { onTestFinished } from 'vitest';
import type { LambdaNode } from '../../../src/api/lambda-node.ts';
import type { Instance } from './instance.ts';

/** How a call of the agent's own API ended. */
export interface AgentOutcome {
  readonly outcome: string;
  readonly reason: string;
}

interface InvokeStub {
  invoke(request: object): ClientReadableStream<{ readonly trailer?: AgentOutcome }>;
  close(): void;
}

/** A plain gRPC client of one agent, with the certificate of a gateway: what a gateway that is behind would send. */
export class AgentClient {
  readonly #stub: InvokeStub;

  private constructor(stub: InvokeStub) {
    this.#stub = stub;
    onTestFinished(() => stub.close());
  }

  static async of(esb: Instance, node: string): Promise<AgentClient> {
    const { stdout } = await esb.kubectl(['get', 'lambdanode', node, '-o', 'json']);
    const { status } = JSON.parse(stdout) as LambdaNode;
    const pem = await readFile(join(esb.home, 'gateways', 'gateway-1-state', 'client.pem'));
    const { esb: loaded } = loadPackageDefinition(
      loadSync('esb/agent/v1/agent.proto', {
        includeDirs: [join(import.meta.dirname, '../../../proto')],
        enums: String,
        longs: Number,
        defaults: true,
        oneofs: true,
      }),
    ) as unknown as { esb: { agent: { v1: { Agent: ServiceClientConstructor } } } };
    const trust = credentials.createSsl(Buffer.from(status?.certificate ?? ''), pem, pem);
    const stub = new loaded.agent.v1.Agent(status?.endpoint ?? '', trust, {
      // The certificate is the node's, by name; the endpoint is an address.
      'grpc.ssl_target_name_override': node,
      'grpc.max_reconnect_backoff_ms': 1_000,
    });
    return new AgentClient(stub as unknown as InvokeStub);
  }

  /** Sends one empty call. A connection that fails counts as the outcome `UNREACHABLE`. */
  async invoke(
    worker: { readonly namespace: string; readonly name: string; readonly uid: string },
    epoch: number,
  ): Promise<AgentOutcome> {
    const stream = this.#stub.invoke({
      worker,
      epoch,
      requestId: crypto.randomUUID(),
      payload: Buffer.from('{}'),
    });
    try {
      let last: AgentOutcome | undefined;
      for await (const part of stream as AsyncIterable<{ readonly trailer?: AgentOutcome }>) {
        last = part.trailer ?? last;
      }
      return last ?? { outcome: 'UNREACHABLE', reason: 'NoTrailer' };
    } catch (error) {
      return { outcome: 'UNREACHABLE', reason: String(error) };
    }
  }
}
