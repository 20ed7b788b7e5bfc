import type { Container, ContainerCreateOptions, ContainerInspectInfo, HostConfig } from 'dockerode';
import type { CallOptions } from '../common/deadline.ts';
import { hasCode, undefinedIfNotFound } from '../common/errors.ts';
import type { DockerChannel } from './docker-channel.ts';
import { dockerError } from './docker-error.ts';
import { type LogFrame, readLogFrames } from './log-frames.ts';

/** State of a container, in the engine's words. */
export type ContainerStatus = 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead';

/** A container as the engine describes it. */
export interface DockerContainer {
  /** The engine's own id, which differs for a later container of the same name. */
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
  /** Addresses by network. */
  readonly addresses: Readonly<Record<string, string>>;
}

export interface DockerUsage {
  readonly cpuUs: number;
  readonly memoryBytes: number;
}

/** Request of the Docker Engine API, "Create a container". */
export type NewContainer = Omit<ContainerCreateOptions, 'abortSignal' | 'HostConfig'> & {
  readonly name: string;
  readonly HostConfig: HostConfig & { readonly CgroupnsMode?: 'private' | 'host' };
};

/** Containers that are inspected at a time. */
const AT_ONCE = 16;
/** Longest timer of Node.js; the caller's signal ends the wait. */
const NO_DEADLINE_MS = 2 ** 31 - 1;
const OPEN_DEADLINE_MS = 30_000;

export type ContainerService = ReturnType<typeof createContainerService>;

/** Containers of the engine, by name. Errors are those of `dockerError`. */
export function createContainerService({ docker, call }: DockerChannel) {
  /** Calls a method of one container; `verb` names the call in errors. */
  async function act<T>(
    verb: string,
    name: string,
    options: CallOptions,
    make: (container: Container, request: { readonly abortSignal: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    return await call(`docker container ${verb} ${name}`, options, (abortSignal) =>
      make(docker.getContainer(name), { abortSignal }),
    );
  }

  async function inspect(name: string, options: CallOptions = {}): Promise<DockerContainer> {
    return containerOf(await act('inspect', name, options, (container, request) => container.inspect(request)));
  }

  return {
    inspect,
    /** Returns the engine's id. */
    async create(container: NewContainer, options: CallOptions = {}): Promise<string> {
      const { id } = await call(`docker container create ${container.name}`, options, (abortSignal) =>
        docker.createContainer({ ...container, abortSignal }),
      );
      return id;
    },
    /** `FailedPrecondition` for a container that runs already. */
    async start(name: string, options: CallOptions = {}): Promise<void> {
      await act('start', name, options, (container, request) => container.start(request));
    },
    /** SIGTERM, then SIGKILL after the grace; the deadline has to be longer. Nothing to stop is success. */
    async stop(name: string, graceSeconds: number, options: CallOptions = {}): Promise<void> {
      const t = Math.ceil(graceSeconds);
      await unlessEnded(act('stop', name, options, (container, request) => container.stop({ t, ...request })));
    },
    /** SIGKILL, and waits for the end; the engine thaws a frozen process for that. Nothing to kill is success. */
    async kill(name: string, options: CallOptions = {}): Promise<void> {
      await unlessEnded(act('kill', name, options, (container, request) => container.kill(request)));
    },
    async pause(name: string, options: CallOptions = {}): Promise<void> {
      await act('pause', name, options, (container, request) => container.pause(request));
    },
    async unpause(name: string, options: CallOptions = {}): Promise<void> {
      await act('unpause', name, options, (container, request) => container.unpause(request));
    },
    /** Removes a container with its process and its anonymous volumes. */
    async remove(name: string, options: CallOptions = {}): Promise<void> {
      await act('rm', name, options, (container, request) => container.remove({ force: true, v: true, ...request }));
    },
    /** Every container with a label, in any state. */
    async list(label: string, options: CallOptions = {}): Promise<DockerContainer[]> {
      const found = await call('docker container ls', options, (abortSignal) =>
        docker.listContainers({ all: true, filters: { label: [label] }, abortSignal }),
      );
      const containers: DockerContainer[] = [];
      for (let at = 0; at < found.length; at += AT_ONCE) {
        const asked = found.slice(at, at + AT_ONCE);
        const inspected = await Promise.all(asked.map(({ Id }) => undefinedIfNotFound(inspect(Id, options))));
        containers.push(...inspected.filter((each) => each !== undefined));
      }
      return containers;
    },
    /** Microseconds of processor time, and bytes of memory but for file pages that were not read of late. */
    async usage(name: string, options: CallOptions = {}): Promise<DockerUsage> {
      const { cpu_stats: cpu, memory_stats: memory } = await act('stats', name, options, (container, request) =>
        container.stats({ stream: false, 'one-shot': true, ...request }),
      );
      // The engine tells the file of the kernel, whose names differ between the versions of cgroups.
      const stats = memory.stats as unknown as Readonly<Record<string, number | undefined>> | undefined;
      const inactive = stats?.total_inactive_file ?? stats?.inactive_file ?? 0;
      return {
        cpuUs: (cpu.cpu_usage?.total_usage ?? 0) / 1_000,
        memoryBytes: Math.max(0, (memory.usage ?? 0) - inactive),
      };
    },
    /** Waits for the end of a container, without a deadline of its own. */
    async wait(name: string, signal: AbortSignal): Promise<void> {
      const options = { signal, deadlineMs: NO_DEADLINE_MS };
      await act('wait', name, options, (container, request) => container.wait(request));
    },
    /**
     * Output of a container as it comes, from `since` on (a time of a {@link LogFrame}; from the first line when absent)
     * to the end of its process.
     */
    async *logs(name: string, since: string | undefined, signal: AbortSignal): AsyncIterable<readonly LogFrame[]> {
      const what = `docker container logs ${name}`;
      try {
        // The signal outlives the call, since it ends the stream as well.
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

/** A call to end a container; the engine refuses that for an ended one. */
async function unlessEnded(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    if (!hasCode(error, 'FailedPrecondition')) {
      throw error;
    }
  }
}

/** A time as the engine takes it: seconds with their nanoseconds. */
function unixTimeOf(time: string): string {
  const [, second = '', fraction = ''] = /^(.{19})(?:\.(\d+))?Z$/.exec(time) ?? [];
  return `${Date.parse(`${second}Z`) / 1000}.${fraction.padEnd(9, '0')}`;
}

function containerOf(info: ContainerInspectInfo): DockerContainer {
  const { State: state } = info;
  // The engine writes never as the year 1.
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
