import { describe, expect, it } from 'vitest';
import type { ImageConfig } from '../../../src/oci/image-config.ts';
import { buildRuntimeSpec, type RuntimeSpec } from '../../../src/oci/runtime-spec.ts';
import { logStreamName, runtimeArguments } from '../../../src/oci/spec-init.ts';
import type { SpecShape } from '../../../src/oci/spec-shape.ts';

const id = `hello-${'3f2a91bc'.repeat(4)}`;
const init = {
  program: '/state/init/1/esb-init',
  folder: '/run/inits/hello',
  timeoutMs: 60_000,
  graceMs: 10_000,
  madeAt: new Date('2026-11-28T23:59:59Z'),
};
const image: ImageConfig = {
  env: ['PATH=/usr/bin', 'AWS_LAMBDA_RUNTIME_API=other:1', 'AWS_LAMBDA_FUNCTION_TIMEOUT=5'],
  user: '',
  workingDir: '/var/task',
  entrypoint: ['/usr/local/bin/aws-lambda-rie', 'python3', '-m', 'awslambdaric'],
  cmd: ['app.handler'],
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

function build(by: Partial<SpecShape> = {}, of: Partial<ImageConfig> = {}, graceMs = init.graceMs): RuntimeSpec {
  return buildRuntimeSpec({
    containerId: id,
    functionName: 'hello',
    architecture: 'amd64',
    netnsPath: '/run/netns/esb-x',
    cgroupsPath: `/esb/${id}`,
    shape: { ...shape, ...by },
    image: { ...image, ...of },
    init: { ...init, graceMs },
  });
}

function env(spec: RuntimeSpec): Record<string, string> {
  return Object.fromEntries(spec.process.env.map((entry) => entry.split(/=(.*)/s).slice(0, 2)));
}

describe('the first process of a worker of interface Lambda', () => {
  it('is our init, which starts what the emulator would have started', () => {
    expect(build().process.args).toEqual([
      '/run/esb/init',
      ...['--socket', '/run/esb/agent/agent.sock'],
      ...['--init-timeout-ms', '60000'],
      ...['--grace-ms', '10000'],
      '--',
      ...['python3', '-m', 'awslambdaric', 'app.handler'],
    ]);
    expect(build({ handler: 'a.b' }, { cmd: [] }).process.args.at(-1)).toBe('a.b');
  });

  it('takes a grace of none as the shortest', () => {
    expect(build({}, {}, 0).process.args).toContain('1');
  });

  it('finds the init and its socket in the container, read-only', () => {
    const { mounts } = build();
    expect(mounts.filter(({ destination }) => destination.startsWith('/run/esb'))).toEqual([
      {
        destination: '/run/esb/agent',
        type: 'bind',
        source: '/run/inits/hello',
        options: ['rbind', 'ro', 'nosuid', 'nodev', 'noexec'],
      },
      {
        destination: '/run/esb/init',
        type: 'bind',
        source: '/state/init/1/esb-init',
        options: ['rbind', 'ro', 'nosuid', 'nodev'],
      },
    ]);
  });

  it('is not made in the network of the node, where others would reach the Runtime API', () => {
    const host = { containerId: id, functionName: 'hello', architecture: 'amd64', cgroupsPath: '/esb/x', shape, image };
    expect(() => buildRuntimeSpec({ ...host, init })).toThrow(expect.objectContaining({ code: 'CreateFailed' }));
  });
});

describe('the command without the emulator', () => {
  const rie = '/usr/local/bin/aws-lambda-rie';

  it.each([
    [
      ['/lambda-entrypoint.sh', 'app.handler'],
      ['/lambda-entrypoint.sh', 'app.handler'],
    ],
    [[rie, '/main'], ['/main']],
    [
      ['aws-lambda-rie', '--log-level', 'debug', '/main', '--log-level', 'x'],
      ['/main', '--log-level', 'x'],
    ],
    [[rie, '--log-level=debug', '--enable-init-caching', '/main'], ['/main']],
    [[rie, '--runtime-api-address', '127.0.0.1:1', '--runtime-interface-emulator-address=:1', '/main'], ['/main']],
    [
      ['/aws-lambda-rie-x', '/main'],
      ['/aws-lambda-rie-x', '/main'],
    ],
  ])('%j is %j', (program, expected) => {
    expect(runtimeArguments(program)).toEqual(expected);
  });

  it.each([[[rie]], [[rie, '--log-level', 'debug']], [[rie, '--log-level']]])('%j names no runtime', (program) => {
    expect(() => runtimeArguments(program)).toThrow(expect.objectContaining({ code: 'NoEntrypoint' }));
  });
});

describe('the environment of a worker of interface Lambda', () => {
  it('is that of a container image on Lambda', () => {
    expect(env(build())).toEqual({
      PATH: '/usr/bin',
      TZ: ':UTC',
      AWS_REGION: 'us-east-1',
      AWS_DEFAULT_REGION: 'us-east-1',
      AWS_EXECUTION_ENV: 'AWS_Lambda_Image',
      AWS_LAMBDA_LOG_FORMAT: 'Text',
      AWS_XRAY_CONTEXT_MISSING: 'LOG_ERROR',
      LAMBDA_TASK_ROOT: '/var/task',
      LAMBDA_RUNTIME_DIR: '/var/runtime',
      AWS_LAMBDA_RUNTIME_API: '127.0.0.1:9001',
      AWS_LAMBDA_FUNCTION_NAME: 'hello',
      AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '128',
      AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
      AWS_LAMBDA_LOG_GROUP_NAME: '/aws/lambda/hello',
      AWS_LAMBDA_LOG_STREAM_NAME: '2026/11/28/[$LATEST]3f2a91bc3f2a91bc3f2a91bc3f2a91bc',
      _HANDLER: 'app.handler',
    });
  });

  it.each([
    ['spec.handler', { handler: 'a.b' }, {}, 'a.b'],
    ['the variable of the image', {}, { env: ['_HANDLER=c.d'] }, 'c.d'],
    ['the last argument', { args: ['x', 'e.f'] }, {}, 'e.f'],
    ['nothing, for a program alone', {}, { entrypoint: ['/aws-lambda-rie', '/main'], cmd: [] }, undefined],
  ] as const)('has the handler of %s', (_, by, of, expected) => {
    expect(env(build(by, of))._HANDLER).toBe(expected);
  });

  it('has the format and the level of the log that the resource names, whatever the image says', () => {
    const logging = { format: 'JSON', applicationLevel: 'DEBUG', systemLevel: 'WARN' } as const;
    const spec = build({ logging }, { env: ['AWS_LAMBDA_LOG_FORMAT=Text'] });
    expect(env(spec)).toMatchObject({ AWS_LAMBDA_LOG_FORMAT: 'JSON', AWS_LAMBDA_LOG_LEVEL: 'DEBUG' });
    expect(spec.process.args.join(' ')).toContain(' --system-log-level WARN -- ');
    const plain = build({ logging: { ...logging, format: 'Text' } }, { env: ['AWS_LAMBDA_LOG_FORMAT=JSON'] });
    expect(env(plain)).toMatchObject({ AWS_LAMBDA_LOG_FORMAT: 'Text' });
    expect(env(plain)).not.toHaveProperty('AWS_LAMBDA_LOG_LEVEL');
    expect(plain.process.args.join(' ')).not.toContain('log-level');
  });

  it('lets image and user choose what Lambda lets them choose', () => {
    const spec = build(
      { env: [{ name: 'AWS_XRAY_CONTEXT_MISSING', value: 'IGNORE_ERROR' }] },
      { env: ['AWS_EXECUTION_ENV=AWS_Lambda_python3.8'] },
    );
    expect(env(spec)).toMatchObject({
      AWS_EXECUTION_ENV: 'AWS_Lambda_python3.8',
      AWS_XRAY_CONTEXT_MISSING: 'IGNORE_ERROR',
    });
  });
});

it('names a log stream in the form of AWS for any container', () => {
  expect(logStreamName('hello-3f2a91bc', '$LATEST', init.madeAt)).toMatch(/^2026\/11\/28\/\[\$LATEST\][0-9a-f]{32}$/);
  expect(logStreamName('hello-3f2a91bc', '12', init.madeAt)).toMatch(/^2026\/11\/28\/\[12\][0-9a-f]{32}$/);
  expect(logStreamName(`${id}-2`, '12', init.madeAt)).toBe(logStreamName(id, '12', init.madeAt));
});
