import { Agent } from 'node:http';
import Docker from 'dockerode';
import { type CallOptions, withDeadline } from '../common/deadline.ts';
import { dockerError } from './docker-error.ts';

/** The connection to one engine, which all services share. */
export interface DockerChannel {
  readonly docker: Docker;
  /**
   * Makes a call; what it fails with becomes an error of ours. Default deadline 30,000 ms. The client cannot cut off every
   * kind of read: such a one is waited for no longer.
   */
  call<T>(what: string, options: CallOptions, make: (abortSignal: AbortSignal) => Promise<T>): Promise<T>;
  close(): void;
}

const DEADLINE_MS = 30_000;

/** Opens nothing yet: each call does when it needs to. */
export function openDockerChannel(socketPath: string): DockerChannel {
  const agent = new Agent({ keepAlive: true });
  const docker = new Docker({ socketPath });
  // The client's types do not know that it takes one.
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
