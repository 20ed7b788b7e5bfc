import type { NewContainer } from '../../docker/container-service.ts';
import type { ImageConfig } from '../../oci/image-config.ts';
import { buildRuntimeSpec, type RuntimeSpec } from '../../oci/runtime-spec.ts';
import type { WorkerShape } from '../contract/runtime.ts';
import { DOCKER_NETWORK } from './labels.ts';

export interface DockerSpecOptions {
  readonly containerId: string;
  readonly functionName: string;
  readonly labels: Readonly<Record<string, string>>;
  /** With the ports of the node in it, in `Host` mode. */
  readonly shape: WorkerShape;
  readonly image: ImageConfig;
  /** Processor of the node in Go's names. */
  readonly architecture: string;
  /** Id of the image: its name may mean another one by now. */
  readonly imageId: string;
  readonly oomScoreAdj?: number | undefined;
}

/** What the engine itself keeps of a worker's output: enough to go on from after an agent was away for a while. */
const ENGINE_LOG = { 'max-size': '10m', 'max-file': '2' } as const;

/**
 * What is asked of the engine for a worker. Process, limits and confinement are those of the OCI runtime spec that the same
 * worker has with containerd (`buildRuntimeSpec`), in the engine's words.
 *
 * @throws {EsbError} as `buildRuntimeSpec` does
 */
export function dockerSpecOf(options: DockerSpecOptions): NewContainer {
  const { containerId, image, shape } = options;
  const bridged = shape.networkMode === 'Bridge';
  const spec = buildRuntimeSpec({
    containerId,
    functionName: options.functionName,
    architecture: options.architecture,
    shape,
    // The engine reads /etc/passwd of the image itself.
    image: { ...image, user: '' },
    cgroupsPath: '',
    ...(bridged ? { netnsPath: DOCKER_NETWORK } : {}),
    ...(options.oomScoreAdj === undefined ? {} : { oomScoreAdj: options.oomScoreAdj }),
  });
  const { process, linux } = spec;
  const [program = '', ...args] = process.args;
  const { cpu, memory, pids } = linux.resources;
  return {
    name: containerId,
    Image: options.imageId,
    Labels: { ...options.labels },
    ...(spec.hostname === undefined ? {} : { Hostname: spec.hostname }),
    Entrypoint: [program],
    Cmd: args,
    Env: [...process.env, ...unsetNames(image, spec)],
    User: image.user === '' ? `${process.user.uid}:${process.user.gid}` : image.user,
    WorkingDir: process.cwd,
    StopSignal: 'SIGTERM',
    HostConfig: {
      NetworkMode: bridged ? DOCKER_NETWORK : 'host',
      RestartPolicy: { Name: 'no' },
      LogConfig: { Type: 'json-file', Config: { ...ENGINE_LOG } },
      ReadonlyRootfs: spec.root.readonly,
      Tmpfs: { '/tmp': tmpfsOptions(spec, image.user) },
      CapDrop: ['ALL'],
      SecurityOpt: [
        'no-new-privileges',
        ...(linux.seccomp === undefined ? [] : [`seccomp=${JSON.stringify(linux.seccomp)}`]),
      ],
      IpcMode: 'private',
      CgroupnsMode: 'private',
      MaskedPaths: [...linux.maskedPaths],
      ReadonlyPaths: [...linux.readonlyPaths],
      Memory: memory.limit,
      MemorySwap: memory.swap,
      ...(cpu === undefined ? {} : { CpuPeriod: cpu.period, CpuQuota: cpu.quota }),
      PidsLimit: pids.limit,
      Ulimits: process.rlimits.map(({ type, soft, hard }) => ({
        Name: type.replace(/^RLIMIT_/, '').toLowerCase(),
        Soft: soft,
        Hard: hard,
      })),
      ...(spec.process.oomScoreAdj === undefined ? {} : { OomScoreAdj: spec.process.oomScoreAdj }),
      ...(linux.sysctl === undefined ? {} : { Sysctls: { ...linux.sysctl } }),
    },
  };
}

/** Names that the image sets and the worker is not to have: the engine adds those of the image, but for a name alone. */
function unsetNames(image: ImageConfig, spec: RuntimeSpec): string[] {
  const set = new Set(spec.process.env.map(nameOf));
  return image.env.map(nameOf).filter((name) => !set.has(name));
}

function nameOf(variable: string): string {
  return variable.slice(0, variable.indexOf('='));
}

/**
 * With `exec`, which the engine leaves out of its own default and Lambda has. Older runc gives the mount the mode of the
 * image's own folder, whatever is asked for: where the user is known by number the folder is that user's.
 */
function tmpfsOptions(spec: RuntimeSpec, imageUser: string): string {
  const options = spec.mounts.find(({ destination }) => destination === '/tmp')?.options ?? [];
  const [, uid, gid] = /^(\d+)(?::(\d+))?$/.exec(imageUser) ?? [];
  const { user } = spec.process;
  const owner =
    imageUser === ''
      ? [`uid=${user.uid}`, `gid=${user.gid}`]
      : uid === undefined
        ? []
        : [`uid=${uid}`, `gid=${gid ?? 0}`];
  return ['rw', 'exec', ...options, ...owner].join(',');
}
