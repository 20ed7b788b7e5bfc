import { Agent } from 'node:http';
import Docker from 'dockerode';
import { type CallOptions, withDeadline } from '../common/deadline.ts';
import { dockerError } from './docker-error.ts';

/** The connection to one engine, which all services share. */
export interface DockerChannel {
  readonly docker: Docker;
  /**
   * Makes a call and converts its error. Default deadline 30,000 ms. The client cannot cut off every kind of read; the
   * deadline ends the wait all the same.
   */
  call<T>(what: string, options: CallOptions, make: (abortSignal: AbortSignal) => Promise<T>): Promise<T>;
  close(): void;
}

const DEADLINE_MS = 30_000;

/** Makes a channel; calls open connections on demand. */
export function openDockerChannel(socketPath: string): DockerChannel {
  const agent = new Agent({ keepAlive: true });
  const docker = new Docker({ socketPath });
  // Missing in the client's types.
  Object.assign(docker.modem, { agent });
  return {
    docker,
    async call(what, options, make) {
      const { deadlineMs = DEADLINE_MS, signal } = options;
      return await withDeadline(what, deadlineMs, signal, async (ended) => {
        try {
          return await make(ended);
        } catch (error) {
          throw dockerError(what, error, ended);
        }
      });
    },
    close: () => agent.destroy(),
  };
}
