import { EsbError } from '../../common/errors.ts';
import type { NewContainer } from '../../docker/container-service.ts';
import type { ImageConfig } from '../../oci/image-config.ts';
import { buildRuntimeSpec, type RuntimeSpec, type RuntimeSpecOptions } from '../../oci/runtime-spec.ts';
import { INIT_FOLDER, INIT_PROGRAM } from '../../oci/spec-init.ts';
import type { WorkerShape } from '../contract/runtime.ts';
import { DOCKER_NETWORK } from './labels.ts';

export interface DockerSpecOptions
  extends Pick<RuntimeSpecOptions, 'containerId' | 'functionName' | 'image' | 'init' | 'architecture' | 'oomScoreAdj'> {
  readonly labels: Readonly<Record<string, string>>;
  /** Includes the ports of the node in `Host` mode. */
  readonly shape: WorkerShape;
  /** Id of the image: the name may mean another image by now. */
  readonly imageId: string;
}

/** The engine's own log of a worker: enough output to bridge an agent's absence. */
const ENGINE_LOG = { 'max-size': '10m', 'max-file': '2' } as const;

/**
 * The engine's request for a worker. Process, limits and isolation are those of the worker's OCI runtime spec with
 * containerd (`buildRuntimeSpec`), in the engine's words.
 *
 * @throws {EsbError} as `buildRuntimeSpec` does, and `CreateFailed` for a class of destinations that no engine holds
 */
export function dockerSpecOf(options: DockerSpecOptions): NewContainer {
  const { containerId, image, init, shape } = options;
  if (shape.egress !== undefined && shape.egress !== 'All') {
    throw new EsbError(
      `spec.network.egress is ${shape.egress}, and a Docker engine holds no such class: leave it out, or run workers on containerd`,
      { code: 'CreateFailed' },
    );
  }
  const bridged = shape.networkMode === 'Bridge';
  const spec = buildRuntimeSpec({
    ...options,
    // The engine itself reads the image's /etc/passwd.
    image: { ...image, user: '' },
    cgroupsPath: '',
    netnsPath: bridged ? DOCKER_NETWORK : undefined,
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
      ...(init === undefined
        ? {}
        : { Mounts: [readOnly(init.program, INIT_PROGRAM), readOnly(init.folder, INIT_FOLDER)] }),
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
      ...(process.oomScoreAdj === undefined ? {} : { OomScoreAdj: process.oomScoreAdj }),
      ...(linux.sysctl === undefined ? {} : { Sysctls: { ...linux.sysctl } }),
    },
  };
}

/** A bind mount of the engine, which adds `nosuid` and the like to none. A missing source is refused, not made. */
function readOnly(source: string, target: string) {
  return { Type: 'bind', Source: source, Target: target, ReadOnly: true } as const;
}

/** Variables of the image that the worker must not have: a name without a value keeps the engine from adding it. */
function unsetNames(image: ImageConfig, spec: RuntimeSpec): string[] {
  const set = new Set(spec.process.env.map(nameOf));
  return image.env.map(nameOf).filter((name) => !set.has(name));
}

function nameOf(variable: string): string {
  return variable.slice(0, variable.indexOf('='));
}

/**
 * Options of `/tmp`, with `exec`, which Lambda allows and the engine's default does not. Older runc gives the mount the mode
 * of the image's own folder, under any options: where the user is known by number, the folder is owned by that user.
 */
function tmpfsOptions(spec: RuntimeSpec, imageUser: string): string {
  const options = spec.mounts.find(({ destination }) => destination === '/tmp')?.options ?? [];
  const [, uid, gid] = /^(\d+)(?::(\d+))?$/.exec(imageUser) ?? [];
  const { user } = spec.process;
  const known = imageUser === '' ? user : { uid, gid: gid ?? 0 };
  const owner = known.uid === undefined ? [] : [`uid=${known.uid}`, `gid=${known.gid}`];
  return ['rw', 'exec', ...options, ...owner].join(',');
}
