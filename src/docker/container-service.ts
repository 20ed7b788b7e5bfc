import type { ContainerCreateOptions, ContainerInspectInfo, HostConfig } from 'dockerode';
import type { CallOptions } from '../common/deadline.ts';
import { hasCode } from '../common/errors.ts';
import type { DockerChannel } from './docker-channel.ts';
import { dockerError } from './docker-error.ts';
import { type LogFrame, readLogFrames } from './log-frames.ts';

/** What a container does, in the engine's words. */
export type ContainerStatus =
  | 'created'
  | 'running'
  | 'paused'
  | 'restarting'
  | 'removing'
  | 'exited'
  | 'dead';

/** A container as the engine tells of it. */
export interface DockerContainer {
  /** The engine's own id: that of another container of the same name is another one. */
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAt: Date;
  readonly status: ContainerStatus;
  /** 0 when nothing runs. */
  readonly pid: number;
  readonly exitCode: number;
  readonly finishedAt?: Date;
  readonly oomKilled: boolean;
  /** Address in each network in which it has one. */
  readonly addresses: Readonly<Record<string, string>>;
}

/** As the Docker Engine API has it ("Create a container"). */
export type NewContainer = Omit<ContainerCreateOptions, 'abortSignal' | 'HostConfig'> & {
  readonly name: string;
  readonly HostConfig: HostConfig & { readonly CgroupnsMode?: 'private' | 'host' };
};

/** Containers of the engine, by name. Errors are those of `dockerError`. */
export interface ContainerService {
  /** Returns the engine's id. */
  create(container: NewContainer, options?: CallOptions): Promise<string>;
  /** A container that runs already is `FailedPrecondition`. */
  start(name: string, options?: CallOptions): Promise<void>;
  /** SIGTERM, then SIGKILL after the grace; the deadline has to be longer. Nothing to stop is success. */
  stop(name: string, graceSeconds: number, options?: CallOptions): Promise<void>;
  /** SIGKILL, and waits for the end; a frozen process is thawed to it. Nothing to kill is success. */
  kill(name: string, options?: CallOptions): Promise<void>;
  pause(name: string, options?: CallOptions): Promise<void>;
  unpause(name: string, options?: CallOptions): Promise<void>;
  /** With its process and its anonymous volumes. */
  remove(name: string, options?: CallOptions): Promise<void>;
  inspect(name: string, options?: CallOptions): Promise<DockerContainer>;
  /** Every container with a label, whatever it does. */
  list(label: string, options?: CallOptions): Promise<DockerContainer[]>;
  /** Waits for its end, without a deadline of its own. */
  wait(name: string, options: { readonly signal: AbortSignal }): Promise<void>;
  /**
   * What it writes, as it comes, from `since` on (a time as a {@link LogFrame} has it; from the first line when absent) to
   * the end of its process.
   */
  logs(name: string, since: string | undefined, signal: AbortSignal): AsyncIterable<readonly LogFrame[]>;
}

/** Containers that are asked about at the same time. */
const AT_ONCE = 16;
/** Node.js accepts no longer one; the caller's signal ends it. */
const NO_DEADLINE_MS = 2 ** 31 - 1;
const OPEN_DEADLINE_MS = 30_000;

export function createContainerService(channel: DockerChannel): ContainerService {
  const { docker, call } = channel;

  async function inspect(name: string, options: CallOptions = {}): Promise<DockerContainer> {
    return await call(`docker container inspect ${name}`, options, async (abortSignal) =>
      containerOf(await docker.getContainer(name).inspect({ abortSignal })),
    );
  }

  return {
    inspect,
    async create(container, options = {}) {
      const { id } = await call(`docker container create ${container.name}`, options, (abortSignal) =>
        docker.createContainer({ ...container, abortSignal }),
      );
      return id;
    },
    async start(name, options = {}) {
      await call(`docker container start ${name}`, options, (abortSignal) =>
        docker.getContainer(name).start({ abortSignal }),
      );
    },
    async stop(name, graceSeconds, options = {}) {
      await unlessEnded(
        call(`docker container stop ${name}`, options, (abortSignal) =>
          docker.getContainer(name).stop({ t: Math.ceil(graceSeconds), abortSignal }),
        ),
      );
    },
    async kill(name, options = {}) {
      await unlessEnded(
        call(`docker container kill ${name}`, options, (abortSignal) =>
          docker.getContainer(name).kill({ abortSignal }),
        ),
      );
    },
    async pause(name, options = {}) {
      await call(`docker container pause ${name}`, options, (abortSignal) =>
        docker.getContainer(name).pause({ abortSignal }),
      );
    },
    async unpause(name, options = {}) {
      await call(`docker container unpause ${name}`, options, (abortSignal) =>
        docker.getContainer(name).unpause({ abortSignal }),
      );
    },
    async remove(name, options = {}) {
      await call(`docker container rm ${name}`, options, (abortSignal) =>
        docker.getContainer(name).remove({ force: true, v: true, abortSignal }),
      );
    },
    async list(label, options = {}) {
      const found = await call('docker container ls', options, (abortSignal) =>
        docker.listContainers({ all: true, filters: { label: [label] }, abortSignal }),
      );
      const containers: DockerContainer[] = [];
      for (let at = 0; at < found.length; at += AT_ONCE) {
        const asked = found.slice(at, at + AT_ONCE).map(async ({ Id }) => {
          try {
            return [await inspect(Id, options)];
          } catch (error) {
            // Removed since.
            if (hasCode(error, 'NotFound')) {
              return [];
            }
            throw error;
          }
        });
        containers.push(...(await Promise.all(asked)).flat());
      }
      return containers;
    },
    async wait(name, { signal }) {
      await call(`docker container wait ${name}`, { signal, deadlineMs: NO_DEADLINE_MS }, (abortSignal) =>
        docker.getContainer(name).wait({ abortSignal }),
      );
    },
    async *logs(name, since, signal) {
      const what = `docker container logs ${name}`;
      try {
        // The signal has to outlive the call: it ends the stream as well.
        const stream = await call(what, { signal, deadlineMs: OPEN_DEADLINE_MS }, () =>
          docker.getContainer(name).logs({
            follow: true,
            stdout: true,
            stderr: true,
            timestamps: true,
            ...(since === undefined ? {} : { since: unixTimeOf(since) }),
            abortSignal: signal,
          }),
        );
        yield* readLogFrames(stream as NodeJS.ReadableStream as AsyncIterable<Buffer>);
      } catch (error) {
        throw dockerError(what, error, signal);
      }
    },
  };
}

/** For what the engine refuses to end since it has ended. */
async function unlessEnded(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    if (!hasCode(error, 'FailedPrecondition')) {
      throw error;
    }
  }
}

/** Seconds with their nanoseconds, as the engine takes a time. */
function unixTimeOf(time: string): string {
  const [, second = '', fraction = ''] = /^(.{19})(?:\.(\d+))?Z$/.exec(time) ?? [];
  return `${Date.parse(`${second}Z`) / 1000}.${fraction.padEnd(9, '0')}`;
}

function containerOf(info: ContainerInspectInfo): DockerContainer {
  const { State: state } = info;
  // The engine's word for never is the year 1.
  const finished = new Date(state.FinishedAt);
  return {
    id: info.Id,
    name: info.Name.replace(/^\//, ''),
    labels: info.Config.Labels ?? {},
    createdAt: new Date(info.Created),
    status: state.Status as ContainerStatus,
    pid: state.Pid,
    exitCode: state.ExitCode,
    oomKilled: state.OOMKilled,
    ...(finished.getTime() > 0 ? { finishedAt: finished } : {}),
    addresses: Object.fromEntries(
      Object.entries(info.NetworkSettings.Networks ?? {}).flatMap(([network, { IPAddress: ip }]) =>
        ip === '' ? [] : [[network, ip]],
      ),
    ),
  };
}
