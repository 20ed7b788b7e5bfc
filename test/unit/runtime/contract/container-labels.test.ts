import { describe, expect, it } from 'vitest';
import type { NodeNetwork } from '../../../../src/cni/contract.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import type { TaskStatus } from '../../../../src/containerd/task-service.ts';
import type { ImageConfig } from '../../../../src/oci/image-config.ts';
import { isWorker, labelsOf, taskStateOf, workerInfoOf } from '../../../../src/runtime/contract/container-labels.ts';
import { fits } from '../../../../src/runtime/contract/matches.ts';
import type { FoundTask, WorkerShape } from '../../../../src/runtime/contract/runtime.ts';
import { createRuntime } from '../../../../src/runtime/factory.ts';
import { withHostPorts } from '../../../../src/runtime/start/host-port.ts';
import { ensureRequest } from '../../../support/lab.ts';

const request = {
  identity: { namespace: 'default', name: 'hello', uid: '1-2-3', functionName: 'greet' },
  epoch: 3,
  shapeHash: 'v1-abc',
};
const emulated = { ...request, shape: { runtimeInterface: 'Emulator', timeoutSeconds: 7 } } as const;

describe('the labels of a container', () => {
  it('tell all there is to know of a worker', () => {
    const labels = labelsOf(emulated, { ip: '10.234.0.7', port: 8080 }, 'r/hello@sha256:1');
    const record = {
      id: 'hello-1',
      labels,
      image: 'r/hello:1',
      snapshotKey: 'hello-1',
      createdAt: new Date(5),
    };
    expect(isWorker(record)).toBe(true);
    expect(workerInfoOf(record, { kind: 'Missing' })).toEqual({
      containerId: 'hello-1',
      ...request,
      image: 'r/hello@sha256:1',
      task: { kind: 'Missing' },
      runtimeInterface: 'Emulator',
      timeoutSeconds: 7,
      address: { ip: '10.234.0.7', port: 8080 },
      createdAt: new Date(5),
    });
  });

  it('name the address of a worker that our init serves, and no way of calls to it', () => {
    const shape = { runtimeInterface: 'Lambda', timeoutSeconds: 7 } as const;
    const labels = labelsOf({ ...request, shape }, { ip: '10.234.0.7', port: 8080 }, 'r/hello@sha256:1');
    const record = { id: 'hello-1', labels, image: '', snapshotKey: 'hello-1', createdAt: new Date(5) };
    const info = workerInfoOf(record, { kind: 'Running', pid: 1 });
    expect(info).toMatchObject({ runtimeInterface: 'Lambda', ip: '10.234.0.7' });
    expect(info).not.toHaveProperty('address');
    expect(fits(info, ensureRequest({ image: 'r/hello:1' }, 'hello', {}, request))).toBe(true);
  });

  it('tell the handler that the image goes by in place of another', () => {
    const address = { ip: '10.234.0.7', port: 8080 };
    const labels = labelsOf(emulated, address, 'r/hello@sha256:1', 'lambda_function.handler');
    const record = { id: 'hello-1', labels, image: '', snapshotKey: 'hello-1', createdAt: new Date(5) };
    expect(workerInfoOf(record, { kind: 'Missing' }).handlerInItsPlace).toBe('lambda_function.handler');
  });

  it('tell the class of destinations, and None for one of a later release', () => {
    const shape = { ...emulated.shape, egress: 'Internet' } as const;
    const labels = labelsOf({ ...request, shape }, { ip: '10.234.0.7', port: 8080 }, 'r/hello@sha256:1');
    const record = { id: 'hello-1', labels, createdAt: new Date(5) };
    expect(workerInfoOf(record, { kind: 'Missing' }).egress).toBe('Internet');
    const later = { ...record, labels: { ...labels, 'esb.dev/egress': 'Moon' } };
    expect(workerInfoOf(later, { kind: 'Missing' }).egress).toBe('None');
  });

  it('of somebody else make no worker', { tags: ['P33'] }, () => {
    const record = { id: 'x', labels: {}, image: '', snapshotKey: '', createdAt: new Date(0) };
    expect(isWorker(record)).toBe(false);
    expect(workerInfoOf(record, { kind: 'Missing' }).address).toBeUndefined();
  });
});

describe('the state of a task', () => {
  const task = (status: TaskStatus, exitCode = 0, told = status): FoundTask => ({
    containerId: 'w',
    pid: 9,
    status,
    told,
    exitCode,
  });
  it.each([
    [undefined, { kind: 'Missing' }],
    [task('CREATED'), { kind: 'Created' }],
    [task('RUNNING'), { kind: 'Running', pid: 9 }],
    [task('RUNNING', 0, 'PAUSED'), { kind: 'Running', pid: 9, unsettled: true }],
    [task('PAUSED', 0, 'RUNNING'), { kind: 'Paused', pid: 9 }],
    [task('PAUSED'), { kind: 'Paused', pid: 9 }],
    [task('PAUSING'), { kind: 'Paused', pid: 9 }],
    [task('STOPPED', 137), { kind: 'Stopped', exitCode: 137, oomKilled: true }],
    [task('STOPPED', 0), { kind: 'Stopped', exitCode: 0, oomKilled: false }],
    [task('UNKNOWN', 255), { kind: 'Stopped', exitCode: 255, oomKilled: true }],
  ] as const)('%j is %j', (given, expected) => {
    expect(taskStateOf(given, () => true)).toEqual(expected);
  });
});

describe('a worker in the network of its node', () => {
  const shape: WorkerShape = {
    image: { reference: 'r/x:1', pullPolicy: 'Never' },
    command: [],
    args: [],
    handler: 'app.handler',
    env: [],
    memoryMiB: 128,
    pids: 10,
    ephemeralStorageMiB: 16,
    readOnlyRootFilesystem: true,
    timeoutSeconds: 3,
    runtimeInterface: 'Emulator',
    startupTimeoutSeconds: 60,
    port: 8080,
    networkMode: 'Host',
    terminationGraceSeconds: 1,
  };
  const image: ImageConfig = {
    env: [],
    user: '',
    workingDir: '',
    entrypoint: ['/usr/local/bin/aws-lambda-rie'],
    cmd: [],
    diffIds: [],
    platform: { os: 'linux', architecture: 'amd64' },
  };

  const ports = { port: 4711, runtimePort: 4712 };
  const flags = [
    ...['--runtime-interface-emulator-address', '127.0.0.1:4711'],
    ...['--runtime-api-address', '127.0.0.1:4712'],
  ];

  it('has its emulator use the ports that are chosen for it', () => {
    const given = withHostPorts({ ...shape, args: ['python3', '-m', 'awslambdaric'] }, image, ports);
    expect(given).toMatchObject({
      command: ['/usr/local/bin/aws-lambda-rie'],
      args: [...flags, 'python3', '-m', 'awslambdaric'],
      port: 4711,
    });
  });

  it('keeps the handler as the last argument where it would have been one', () => {
    const given = withHostPorts({ ...shape, command: ['aws-lambda-rie', 'node'] }, image, ports);
    expect(given.args).toEqual([...flags, 'node', 'app.handler']);
  });

  it.each([
    ['neither spec.command nor spec.args', {}],
    ["begins with '/lambda-entrypoint.sh'", { command: ['/lambda-entrypoint.sh'] }],
    ['is for the agent to choose', { args: ['--runtime-interface-emulator-address=0.0.0.0:80'] }],
    ['is for the agent to choose', { args: ['--runtime-api-address', '127.0.0.1:9001'] }],
  ])('is refused when its command line %s', (why, change) => {
    expect(() => withHostPorts({ ...shape, ...change }, image, ports)).toThrow(why);
  });
});

describe('createRuntime', () => {
  const common = { logs: { folder: '/none' }, logger: silentLogger() };
  it('makes the runtime that is asked for', async () => {
    const network = { stop: () => Promise.resolve() } as NodeNetwork;
    const containerd = { socketPath: '/none/containerd.sock' };
    const docker = { socketPath: '/none/docker.sock' };
    const made = await Promise.all([
      createRuntime({
        type: 'containerd',
        options: { ...common, containerd, network, etc: { hostsFolder: '/none' } },
      }),
      createRuntime({ type: 'docker', options: { ...common, docker } }),
    ]);
    const health = await Promise.all(made.map((runtime) => runtime.health()));
    expect(health).toEqual([
      { ok: false, reason: 'RuntimeUnavailable', message: expect.stringContaining('containerd') },
      { ok: false, reason: 'RuntimeUnavailable', message: expect.stringContaining('docker') },
    ]);
    await Promise.all(made.map((runtime) => runtime.stop()));
  });
});
