import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type ChannelCredentials,
  credentials,
  loadPackageDefinition,
  Server,
  ServerCredentials,
  type ServerWritableStream,
  type ServiceClientConstructor,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

/** A call between the bare hops, by the method `Invoke` of the agent. */
export interface HopRequest {
  readonly payload: Buffer;
  /** Path of the request of the caller, without its first slash. */
  readonly requestId: string;
}

export type HopPart =
  | { readonly head: { readonly status: number; readonly contentType: string } }
  | { readonly chunk: Buffer }
  | { readonly trailer: object };

const definition = loadSync('esb/agent/v1/agent.proto', {
  includeDirs: [join(import.meta.dirname, '../../proto')],
  longs: Number,
  enums: String,
});

/** A client of the last hop. */
export const HopClient = (
  loadPackageDefinition(definition) as unknown as {
    esb: { agent: { v1: { Agent: ServiceClientConstructor } } };
  }
).esb.agent.v1.Agent;

/** Credentials of the first hop, by the files of a folder. */
export function clientCredentials(folder: string): ChannelCredentials {
  return credentials.createSsl(
    readFileSync(join(folder, 'ca.pem')),
    readFileSync(join(folder, 'client.key')),
    readFileSync(join(folder, 'client.pem')),
  );
}

/** Serves calls on a port of its own, to clients with a certificate, by the files of a folder. */
export async function serveHop(
  folder: string,
  serve: (call: ServerWritableStream<HopRequest, HopPart>) => void,
): Promise<number> {
  const server = new Server();
  server.addService(HopClient.service, { invoke: serve });
  const pair = {
    private_key: readFileSync(join(folder, 'server.key')),
    cert_chain: readFileSync(join(folder, 'server.pem')),
  };
  const listening = Promise.withResolvers<number>();
  server.bindAsync(
    '127.0.0.1:0',
    ServerCredentials.createSsl(readFileSync(join(folder, 'ca.pem')), [pair], true),
    (error, port) => (error === null ? listening.resolve(port) : listening.reject(error)),
  );
  return await listening.promise;
}
