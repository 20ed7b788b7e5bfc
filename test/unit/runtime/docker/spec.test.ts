import { describe, expect, it } from 'vitest';
import type { DockerContainer } from '../../../../src/docker/container-service.ts';
import type { ImageConfig } from '../../../../src/oci/image-config.ts';
import { isWorker } from '../../../../src/runtime/contract/container-labels.ts';
import type { WorkerShape } from '../../../../src/runtime/contract/runtime.ts';
import { dockerVersionFault } from '../../../../src/runtime/docker/backend.ts';
import { runtimeEventOf } from '../../../../src/runtime/docker/events.ts';
import { dockerLabelsOf, dockerWorkerInfo } from '../../../../src/runtime/docker/labels.ts';
import { type DockerSpecOptions, dockerSpecOf } from '../../../../src/runtime/docker/spec.ts';

const image: ImageConfig = {
  env: ['PATH=/bin', 'AWS_LAMBDA_MAX_CONCURRENCY=5'],
  user: '',
  workingDir: '/var/task',
  entrypoint: ['/entry'],
  cmd: ['app.handler'],
  diffIds: [],
  platform: { os: 'linux', architecture: 'amd64' },
};
const shape: WorkerShape = {
  image: { reference: 'r/x:1', pullPolicy: 'Never' },
  command: [],
  args: [],
  env: [{ name: 'KEY', value: 'a=b' }],
  memoryMiB: 128,
  milliCpu: 500,
  pids: 64,
  ephemeralStorageMiB: 16,
  readOnlyRootFilesystem: true,
  timeoutSeconds: 3,
  runtimeInterface: 'Emulator',
  startupTimeoutSeconds: 60,
  port: 8080,
  networkMode: 'Bridge',
  terminationGraceSeconds: 10,
};
const specOf = (
  change: Partial<WorkerShape> = {},
  config: Partial<ImageConfig> = {},
  rest: Pick<DockerSpecOptions, 'init'> = {},
) =>
  dockerSpecOf({
    containerId: 'hello-1',
    functionName: 'hello',
    labels: { a: 'b' },
    shape: { ...shape, ...change },
    image: { ...image, ...config },
    architecture: 'amd64',
    imageId: 'sha256:1',
    oomScoreAdj: 950,
    ...rest,
  });

describe('what is asked of the engine for a worker', () => {
  it('is nothing where its class of destinations would not be held', () => {
    expect(() => specOf({ egress: 'Internet' })).toThrow(expect.objectContaining({ code: 'CreateFailed' }));
    expect(specOf({ egress: 'All' })).toEqual(specOf());
  });

  it('is confined as with containerd', () => {
    const { HostConfig: host, ...rest } = specOf();
    expect(rest).toMatchObject({
      name: 'hello-1',
      Image: 'sha256:1',
      Labels: { a: 'b' },
      Hostname: 'hello-1',
      Entrypoint: ['/entry'],
      Cmd: ['app.handler'],
      User: '993:990',
      WorkingDir: '/var/task',
      StopSignal: 'SIGTERM',
    });
    expect(host).toMatchObject({
      NetworkMode: 'esb',
      RestartPolicy: { Name: 'no' },
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      Memory: 144 * 2 ** 20,
      MemorySwap: 144 * 2 ** 20,
      CpuPeriod: 100_000,
      CpuQuota: 50_000,
      PidsLimit: 64,
      OomScoreAdj: 950,
      Ulimits: [
        { Name: 'nofile', Soft: 1024, Hard: 1024 },
        { Name: 'core', Soft: 1, Hard: 1 },
      ],
    });
    const [privileges, seccomp = ''] = host.SecurityOpt ?? [];
    expect(privileges).toBe('no-new-privileges');
    expect(JSON.parse(seccomp.replace(/^seccomp=/, ''))).toMatchObject({
      defaultAction: expect.stringMatching(/^SCMP_ACT_/),
    });
    expect(host).not.toHaveProperty('Privileged');
    expect(host).not.toHaveProperty('Binds');
  });

  it('takes from the image what the worker may not have', () => {
    // For a name alone the engine leaves the image's variable out.
    expect(specOf().Env).toContain('AWS_LAMBDA_MAX_CONCURRENCY');
    expect(specOf().Env).toContain('KEY=a=b');
    expect(specOf().Env?.filter((line) => line.startsWith('PATH'))).toEqual(['PATH=/bin']);
  });

  it.each([
    ['', 'uid=993,gid=990'],
    ['1000', 'uid=1000,gid=0'],
    ['1000:2000', 'uid=1000,gid=2000'],
    ['app', undefined],
  ])('gives user %j a /tmp of its own', (user, owner) => {
    const { HostConfig: host, User: asked } = specOf({}, { user });
    const options = host.Tmpfs?.['/tmp'] ?? '';
    expect(options).toContain('rw,exec,nosuid,nodev,mode=1777,size=16m');
    expect(options.includes('uid=')).toBe(owner !== undefined);
    expect(options).toContain(owner ?? '');
    expect(asked).toBe(user === '' ? '993:990' : user);
  });

  it('leaves the network of the node as it is', () => {
    const { HostConfig: host, ...rest } = specOf({ networkMode: 'Host' });
    expect(host.NetworkMode).toBe('host');
    expect(host).not.toHaveProperty('Sysctls');
    expect(rest).not.toHaveProperty('Hostname');
  });
});

describe('the request for a worker of interface Lambda', () => {
  it('has our init as its program, and its files read-only', () => {
    const init = { program: '/state/esb-init', folder: '/run/inits/w', timeoutMs: 1, graceMs: 1, madeAt: new Date(0) };
    const { Cmd, Entrypoint, HostConfig } = specOf({ runtimeInterface: 'Lambda' }, {}, { init });
    expect(Entrypoint).toEqual(['/run/esb/init']);
    expect(Cmd?.slice(-3)).toEqual(['--', '/entry', 'app.handler']);
    expect(HostConfig.Mounts).toEqual([
      { Type: 'bind', Source: '/state/esb-init', Target: '/run/esb/init', ReadOnly: true },
      { Type: 'bind', Source: '/run/inits/w', Target: '/run/esb/agent', ReadOnly: true },
    ]);
    expect(specOf().HostConfig).not.toHaveProperty('Mounts');
    expect(Cmd).not.toContain('--concurrency');
  });

  it('tells init and runtime how many calls come at once', () => {
    const files = { program: '/state/esb-init', folder: '/run/inits/w' };
    const init = { ...files, timeoutMs: 1, graceMs: 1, madeAt: new Date(0), perWorker: 8 };
    const { Cmd, Env } = specOf({ runtimeInterface: 'Lambda', perWorker: 8 }, {}, { init });
    expect(Cmd?.join(' ')).toContain('--concurrency 8');
    expect(Env).toContain('AWS_LAMBDA_MAX_CONCURRENCY=8');
  });
});

describe('what the engine tells of a worker', () => {
  const request = {
    identity: { namespace: 'ns', name: 'hello', uid: 'uid-1', functionName: 'hello' },
    epoch: 3,
    shapeHash: 'h1',
    shape,
  };
  const container = (change: Partial<DockerContainer> = {}): DockerContainer => ({
    id: 'abc',
    name: 'hello-1',
    labels: dockerLabelsOf(request, 8080, 'r/x@sha256:1'),
    createdAt: new Date(5),
    status: 'running',
    pid: 7,
    exitCode: 0,
    oomKilled: false,
    addresses: { esb: '172.18.0.2', other: '10.0.0.1' },
    ...change,
  });

  it('is read from its labels and its address', () => {
    expect(dockerWorkerInfo(container(), undefined)).toEqual({
      containerId: 'hello-1',
      identity: request.identity,
      epoch: 3,
      shapeHash: 'h1',
      image: 'r/x@sha256:1',
      task: { kind: 'Running', pid: 7 },
      runtimeInterface: 'Emulator',
      timeoutSeconds: 3,
      address: { ip: '172.18.0.2', port: 8080 },
      createdAt: new Date(5),
    });
    expect(dockerWorkerInfo(container(), 4).epoch).toBe(4);
    expect(dockerWorkerInfo(container({ addresses: {} }), 4)).not.toHaveProperty('address');
  });

  it('has an address without a way of calls where our init serves it', () => {
    const labels = dockerLabelsOf({ ...request, shape: { ...shape, runtimeInterface: 'Lambda' } }, 8080, '');
    const info = dockerWorkerInfo(container({ labels }), undefined);
    expect(info).toMatchObject({ runtimeInterface: 'Lambda', ip: '172.18.0.2' });
    expect(info).not.toHaveProperty('address');
  });

  it('has the address of the node in Host mode', () => {
    const labels = dockerLabelsOf({ ...request, shape: { ...shape, networkMode: 'Host' } }, 25_000, '');
    expect(dockerWorkerInfo(container({ labels, addresses: {} }), undefined).address).toEqual({
      ip: '127.0.0.1',
      port: 25_000,
    });
  });

  it.each([
    ['created', {}, { kind: 'Created' }],
    ['paused', {}, { kind: 'Paused', pid: 7 }],
    ['exited', { exitCode: 3 }, { kind: 'Stopped', exitCode: 3, oomKilled: false }],
    ['exited', { exitCode: 137, oomKilled: true }, { kind: 'Stopped', exitCode: 137, oomKilled: true }],
    ['exited', { exitCode: 0, oomKilled: true }, { kind: 'Stopped', exitCode: 0, oomKilled: false }],
    ['dead', { exitCode: 1 }, { kind: 'Stopped', exitCode: 1, oomKilled: false }],
  ] as const)('is in the state %s', (status, change, task) => {
    expect(dockerWorkerInfo(container({ status, ...change }), undefined).task).toEqual(task);
  });

  it('is a worker only with our label', () => {
    expect(isWorker(container())).toBe(true);
    expect(isWorker(container({ labels: { 'com.docker.compose.project': 'x' } }))).toBe(false);
  });
});

describe('an event of the engine', () => {
  it.each([
    ['create', 'Created'],
    ['die', 'Exited'],
    ['oom', 'OutOfMemory'],
    ['pause', 'Paused'],
    ['unpause', 'Resumed'],
    ['destroy', 'Deleted'],
  ])('%s means %s', (action, kind) => {
    expect(runtimeEventOf({ action, containerName: 'x-1' })).toEqual({ kind, containerId: 'x-1' });
  });

  it('of other kinds means nothing', () => {
    expect(runtimeEventOf({ action: 'exec_start: sh', containerName: 'x-1' })).toBeUndefined();
  });
});

describe('the version of an engine', () => {
  it.each([
    ['1.41', 'linux', undefined],
    ['1.52', 'linux', undefined],
    ['2.0', 'linux', undefined],
    ['1.40', 'linux', 'too old'],
    ['1.45', 'windows', 'containers of windows'],
  ])('%s on %s is told as %s', (apiVersion, os, fault) => {
    const told = dockerVersionFault({ apiVersion, os, version: '1' });
    expect(told === undefined).toBe(fault === undefined);
    expect(told ?? '').toContain(fault ?? '');
  });
});
