import { describe, expect, it } from 'vitest';
import { EsbError } from '../../../src/common/errors.ts';
import type { ImageConfig } from '../../../src/oci/image-config.ts';
import { buildRuntimeSpec, type RuntimeSpec, type RuntimeSpecOptions } from '../../../src/oci/runtime-spec.ts';
import { workerSeccompProfile } from '../../../src/oci/seccomp.ts';
import { handlerInItsPlace } from '../../../src/oci/spec-process.ts';
import type { SpecShape } from '../../../src/oci/spec-shape.ts';
import { needsUserFiles } from '../../../src/oci/spec-user.ts';

const image: ImageConfig = {
  env: ['PATH=/usr/bin', 'LANG=C.UTF-8'],
  user: '',
  workingDir: '/var/task',
  entrypoint: ['/entry'],
  cmd: [],
  diffIds: [],
  platform: { os: 'linux', architecture: 'amd64' },
};
const shape: SpecShape = {
  command: [],
  args: [],
  env: [],
  memoryMiB: 128,
  pids: 256,
  ephemeralStorageMiB: 512,
  readOnlyRootFilesystem: true,
  timeoutSeconds: 3,
};

interface Overrides extends Omit<Partial<RuntimeSpecOptions>, 'shape' | 'image'> {
  readonly shape?: Partial<SpecShape>;
  readonly image?: Partial<ImageConfig>;
}

function build(overrides: Overrides = {}): RuntimeSpec {
  return buildRuntimeSpec({
    containerId: 'hello-3f2a91bc',
    functionName: 'hello',
    architecture: 'amd64',
    netnsPath: '/run/netns/esb-x',
    cgroupsPath: '/esb/hello-3f2a91bc',
    ...overrides,
    shape: { ...shape, ...overrides.shape },
    image: { ...image, ...overrides.image },
  });
}

function env(spec: RuntimeSpec): Record<string, string> {
  return Object.fromEntries(spec.process.env.map((entry) => entry.split(/=(.*)/s).slice(0, 2)));
}

describe('the handler that a runtime goes by', () => {
  const inPlace = (program: readonly string[], by: Partial<SpecShape>) =>
    handlerInItsPlace({ ...shape, ...by }, { ...image, entrypoint: program });
  const python = ['/aws-lambda-rie', 'python3', '-m', 'awslambdaric'];
  const handler = 'app.handler';

  it.each([
    ['the Entrypoint ends with', [...python, 'lambda_function.handler'], { handler }, 'lambda_function.handler'],
    ['spec.args is', python, { handler, args: ['other.handler'] }, 'other.handler'],
    ['spec.command ends with', [], { handler, command: [...python, 'other.handler'] }, 'other.handler'],
    ['is a method', ['/rie', '/run', 'example.Handler::handle'], { handler }, 'example.Handler::handle'],
  ] as const)('is the one that %s', (_, program, by, expected) => {
    expect(inPlace(program, by)).toBe(expected);
  });

  it.each([
    ['none is given', [...python, 'lambda_function.handler'], {}],
    ['nothing else is named', python, { handler }],
    ['the same is named', [...python, handler], { handler }],
    ['a file comes before it', ['/aws-lambda-rie', 'node', 'bootstrap.mjs'], { handler }],
    ['a path comes before it', ['/aws-lambda-rie', '/var/runtime/bootstrap'], { handler }],
    ['a version comes before it', ['/aws-lambda-rie', 'python3.11'], { handler }],
    ['the image starts by a script', ['/lambda-entrypoint.sh'], { handler }],
  ] as const)('is spec.handler where %s', (_, program, by) => {
    expect(inPlace(program, by)).toBeUndefined();
  });
});

describe('the process of a worker', () => {
  const args = (of: Pick<Partial<ImageConfig>, 'entrypoint' | 'cmd'>, by: Partial<SpecShape> = {}): readonly string[] =>
    build({ image: of, shape: by }).process.args;

  it('is Entrypoint and Cmd of the image', () => {
    expect(args({ entrypoint: ['/entry'], cmd: ['a', 'b'] })).toEqual(['/entry', 'a', 'b']);
    expect(args({ entrypoint: [], cmd: ['/program', 'b'] })).toEqual(['/program', 'b']);
  });

  it('takes args in place of the Cmd', () => {
    expect(args({ entrypoint: ['/entry'], cmd: ['a'] }, { args: ['x'] })).toEqual(['/entry', 'x']);
  });

  it('takes command in place of the Entrypoint, without the Cmd that belonged to it', () => {
    expect(args({ entrypoint: ['/entry'], cmd: ['a'] }, { command: ['/other'] })).toEqual(['/other']);
    expect(args({ entrypoint: ['/entry'] }, { command: ['/other'], args: ['x'] })).toEqual(['/other', 'x']);
  });

  it('gets the handler as its argument where neither args nor a Cmd gives one', () => {
    const handler = 'app.handler';
    expect(args({ entrypoint: ['/lambda-entrypoint.sh'], cmd: [] }, { handler })).toEqual([
      '/lambda-entrypoint.sh',
      'app.handler',
    ]);
    expect(args({ entrypoint: ['/lambda-entrypoint.sh'], cmd: ['old.handler'] }, { handler })).toEqual([
      '/lambda-entrypoint.sh',
      'old.handler',
    ]);
    expect(args({ entrypoint: ['/e'] }, { handler, args: ['x'] })).toEqual(['/e', 'x']);
    expect(env(build({ shape: { handler } }))).toMatchObject({ _HANDLER: 'app.handler' });
  });

  it('must be named by somebody, and the error says by what', () => {
    const none = (): unknown => args({ entrypoint: [], cmd: [] }, { handler: 'app.handler' });
    expect(none).toThrow(EsbError);
    expect(none).toThrow(/set spec\.command/);
    expect(none).toThrow(expect.objectContaining({ code: 'NoEntrypoint' }));
  });

  it('starts in the working directory of the image', () => {
    expect(build().process.cwd).toBe('/var/task');
    expect(build({ image: { workingDir: '' } }).process.cwd).toBe('/');
  });
});

describe('the environment of a worker', () => {
  it('is what Lambda promises', () => {
    expect(env(build())).toEqual({
      PATH: '/usr/bin',
      LANG: 'C.UTF-8',
      TZ: ':UTC',
      AWS_REGION: 'us-east-1',
      AWS_DEFAULT_REGION: 'us-east-1',
      LAMBDA_TASK_ROOT: '/var/task',
      LAMBDA_RUNTIME_DIR: '/var/runtime',
      AWS_LAMBDA_FUNCTION_NAME: 'hello',
      AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '128',
      AWS_LAMBDA_FUNCTION_TIMEOUT: '3',
      AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
      AWS_LAMBDA_LOG_GROUP_NAME: '/aws/lambda/hello',
      AWS_LAMBDA_LOG_STREAM_NAME: '$LATEST/hello-3f2a91bc',
    });
  });

  it("lets the user's values win over the image's, and neither over reserved ones", () => {
    const spec = build({
      image: { env: ['A=image', 'B=image', 'AWS_LAMBDA_MAX_CONCURRENCY=8', 'BROKEN', 'URL=x=y'] },
      shape: {
        env: [
          { name: 'A', value: 'user' },
          { name: 'AWS_REGION', value: 'eu-central-1' },
          { name: 'AWS_LAMBDA_FUNCTION_TIMEOUT', value: '900' },
          { name: 'AWS_ACCESS_KEY_ID', value: 'key' },
        ],
      },
    });
    expect(env(spec)).toMatchObject({
      A: 'user',
      B: 'image',
      URL: 'x=y',
      AWS_REGION: 'eu-central-1',
      AWS_LAMBDA_FUNCTION_TIMEOUT: '3',
      AWS_ACCESS_KEY_ID: 'key',
    });
    expect(env(spec)).not.toHaveProperty('AWS_LAMBDA_MAX_CONCURRENCY');
    expect(env(spec)).not.toHaveProperty('BROKEN');
  });
});

describe('the limits of a worker', () => {
  it('count the writable /tmp on top of the memory and leave no swap', () => {
    const { memory } = build().linux.resources;
    expect(memory).toEqual({ limit: 640 * 1024 * 1024, swap: 640 * 1024 * 1024 });
    expect(build().mounts.find((mount) => mount.destination === '/tmp')?.options).toEqual([
      'nosuid',
      'nodev',
      'mode=1777',
      'size=512m',
    ]);
  });

  it('hold the processor to a quota only where one is asked for', () => {
    expect(build().linux.resources.cpu).toBeUndefined();
    expect(build({ shape: { milliCpu: 500 } }).linux.resources.cpu).toEqual({
      quota: 50_000,
      period: 100_000,
    });
    expect(build({ shape: { milliCpu: 1 } }).linux.resources.cpu?.quota).toBe(1000);
  });

  it('hold the number of processes', () => {
    expect(build({ shape: { pids: 12 } }).linux.resources.pids).toEqual({ limit: 12 });
  });
});

describe('the confinement of a worker', () => {
  it('leaves no capabilities and no way to new privileges', () => {
    const { process, root, linux } = build();
    expect(Object.values(process.capabilities).flat()).toEqual([]);
    expect(process.noNewPrivileges).toBe(true);
    expect(root.readonly).toBe(true);
    expect(linux.maskedPaths).toContain('/proc/kcore');
    expect(linux.readonlyPaths).toContain('/proc/sys');
    expect(linux.seccomp).toEqual(workerSeccompProfile('amd64'));
  });

  it('joins the pinned network namespace, or stays in that of the node', () => {
    expect(build().linux.namespaces).toContainEqual({ type: 'network', path: '/run/netns/esb-x' });
    const { netnsPath: _, ...host }: RuntimeSpecOptions = {
      containerId: 'c',
      functionName: 'f',
      architecture: 'amd64',
      netnsPath: '',
      cgroupsPath: '/esb/c',
      shape,
      image,
    };
    const spec = buildRuntimeSpec(host);
    expect(spec.linux.namespaces.map((namespace) => namespace.type)).not.toContain('network');
    expect(spec.hostname).toBeUndefined();
    expect(spec.linux.sysctl).toBeUndefined();
  });

  it('mounts the given files read-only', () => {
    const { mounts } = build({ etcFiles: { resolvConf: '/state/resolv.conf' } });
    expect(mounts.filter((mount) => mount.type === 'bind')).toEqual([
      {
        destination: '/etc/resolv.conf',
        type: 'bind',
        source: '/state/resolv.conf',
        options: ['rbind', 'ro', 'nosuid', 'nodev', 'noexec'],
      },
    ]);
  });

  it.each(['amd64', 'x86_64', 'X64', 'x86-64', 'arm64', 'aarch64', 'riscv64', 'AMD64', '', 'nonsense'])(
    'filters system calls by the processor of the node, for an image that names %j',
    (architecture) => {
      const spec = build({ image: { platform: { os: 'linux', architecture } } });
      expect(spec.linux.seccomp).toEqual(workerSeccompProfile('amd64'));
    },
  );

  it('is not made on a node for whose processor there is no filter, unless told that there is to be none', () => {
    expect(() => build({ architecture: 'riscv64' })).toThrow(
      expect.objectContaining({ code: 'CreateFailed', message: expect.stringContaining('riscv64') }),
    );
    expect(build({ architecture: 'riscv64', seccomp: false }).linux.seccomp).toBeUndefined();
  });

  it('hides what it is told to hide beside what is always hidden', () => {
    const { maskedPaths } = build({ maskedPaths: ['/sys/devices/system/cpu/cpu0/thermal_throttle'] }).linux;
    expect(maskedPaths).toContain('/sys/devices/system/cpu/cpu0/thermal_throttle');
    expect(maskedPaths).toContain('/proc/kcore');
  });

  it('dumps no core, to no file and to no program of the node', () => {
    expect(build().process.rlimits).toContainEqual({ type: 'RLIMIT_CORE', hard: 1, soft: 1 });
  });

  it('gives a user namespace only to who is to have one', () => {
    const types = (spec: RuntimeSpec): readonly string[] => spec.linux.namespaces.map(({ type }) => type);
    expect(types(build())).not.toContain('user');
    expect(build().linux).not.toHaveProperty('uidMappings');
    const spec = build({ userIds: { first: 131_072, count: 65_536 } });
    expect(types(spec)).toContain('user');
    expect(spec.linux).toMatchObject({
      uidMappings: [{ containerID: 0, hostID: 131_072, size: 65_536 }],
      gidMappings: [{ containerID: 0, hostID: 131_072, size: 65_536 }],
    });
    expect(spec.linux).not.toHaveProperty('sysctl');
    expect(spec.mounts.map(({ type }) => type)).not.toContain('sysfs');
  });

  it('refuses a user who is not in the user namespace', () => {
    const userIds = { first: 131_072, count: 65_536 };
    expect(() => build({ image: { user: '65536' }, userIds })).toThrow(
      expect.objectContaining({ code: 'ImageInvalid' }),
    );
    expect(() => build({ image: { user: '1:70000' }, userIds })).toThrow(/70000/);
    expect(build({ image: { user: '65535' }, userIds }).process.user.uid).toBe(65_535);
  });

  it('has the oom_score_adj that it is given', () => {
    expect(build({ oomScoreAdj: 500 }).process.oomScoreAdj).toBe(500);
    expect(build().process).not.toHaveProperty('oomScoreAdj');
  });
});

describe('the user of a worker', () => {
  const passwd = 'root:x:0:0:root:/root:/bin/sh\n# comment\napp:x:1000:1001::/home/app:/bin/sh\n';
  const group = 'root:x:0:\napp:x:1001:\nextra:x:1002:app,other\n';
  const user = (name: string, overrides: Overrides = {}): unknown =>
    build({ passwd, group, ...overrides, image: { user: name } }).process.user;

  it('is the one of the image', () => {
    expect(user('1234')).toEqual({ uid: 1234, gid: 0 });
    expect(user('1234:5')).toEqual({ uid: 1234, gid: 5 });
    expect(user('app')).toEqual({ uid: 1000, gid: 1001, additionalGids: [1002] });
    expect(user('app:extra')).toEqual({ uid: 1000, gid: 1002 });
    expect(user('0')).toEqual({ uid: 0, gid: 0 });
  });

  it('is the one of Lambda where the image names none, root where the root is to be written', () => {
    expect(user('')).toEqual({ uid: 993, gid: 990 });
    expect(user('', { shape: { readOnlyRootFilesystem: false } })).toEqual({ uid: 0, gid: 0 });
  });

  it('must be found', () => {
    expect(() => user('nobody')).toThrow(/'nobody' is not in its \/etc\/passwd/);
    expect(() => user('app:nobody')).toThrow(/'nobody' is not in its \/etc\/group/);
  });

  it('needs the files of the image only where it is a name', () => {
    const needs = (name: string): boolean => needsUserFiles({ ...image, user: name });
    expect([needs(''), needs('5'), needs('5:6')]).toEqual([false, false, false]);
    expect([needs('app'), needs('5:app')]).toEqual([true, true]);
  });
});
