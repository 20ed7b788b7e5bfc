import { describe, expect, it } from 'vitest';
import { speakerOf } from '../../../../src/api/function-settings.ts';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { describeFunction, lambdaTime } from '../../../../src/gateway/http/function-description.ts';
import { type WorkerFixture, workerFixture } from '../../../support/worker-fixture.ts';

function described(...fixtures: readonly WorkerFixture[]) {
  const workers = fixtures.map((fixture) => ({
    resource: workerFixture(fixture),
    architecture: undefined,
  }));
  const speaker = speakerOf(workers);
  if (speaker === undefined) {
    throw new Error('no worker');
  }
  return describeFunction({ speaker, workers, description: '', published: undefined }, { name: 'hello' });
}

function phase(value: NonNullable<LambdaWorker['status']>['phase']): WorkerFixture {
  return { status: { phase: value } as LambdaWorker['status'] & object };
}

const digest = 'a'.repeat(64);

describe('speakerOf', () => {
  it('is the oldest worker, and the first by name among those of one second', () => {
    const at = (name: string, creationTimestamp: string) => ({
      resource: workerFixture({ name, metadata: { creationTimestamp } }),
      architecture: undefined,
    });
    const speaker = speakerOf([
      at('a', '2026-11-02T00:00:00Z'),
      at('c', '2026-11-01T00:00:00Z'),
      at('b', '2026-11-01T00:00:00Z'),
    ]);
    expect(speaker?.resource.metadata.name).toBe('b');
    const ofVersion = { resource: workerFixture({ spec: { version: 1 } }), architecture: undefined };
    expect(speakerOf([ofVersion, at('b', '2026-11-01T00:00:00Z')])?.resource.metadata.name).toBe('b');
    expect(speakerOf([])).toBeUndefined();
  });
});

describe('describeFunction', () => {
  it('tells the levels of a log that is JSON', () => {
    const config = (spec: WorkerFixture['spec'] & object) => described({ spec }).LoggingConfig;
    const LogGroup = '/aws/lambda/hello';
    expect(config({ logging: { format: 'Text' } })).toEqual({ LogFormat: 'Text', LogGroup });
    expect(config({ logging: { format: 'JSON', systemLevel: 'DEBUG' } })).toEqual({
      LogFormat: 'JSON',
      ApplicationLogLevel: 'INFO',
      SystemLogLevel: 'DEBUG',
      LogGroup,
    });
  });

  it('tells of the resource what the service model has room for', () => {
    expect(
      described({
        spec: {
          functionName: 'hello',
          handler: 'main.handler',
          command: ['/run'],
          args: ['a', 'b'],
          timeoutSeconds: 30,
          resources: { limits: { memory: '256Mi' }, pids: 256 },
          ephemeralStorage: '1Gi',
          env: [{ name: 'COLOUR', value: 'blue' }, { name: 'EMPTY' }],
        },
        status: { phase: 'Running', image: `registry.example/hello@sha256:${digest}` },
      }),
    ).toEqual({
      FunctionName: 'hello',
      FunctionArn: 'arn:aws:lambda:us-east-1:012345678912:function:hello',
      Role: '',
      Handler: 'main.handler',
      CodeSize: 0,
      Description: '',
      Timeout: 30,
      MemorySize: 256,
      LastModified: '2026-11-01T00:00:00.000+0000',
      CodeSha256: digest,
      Version: '$LATEST',
      Environment: { Variables: { COLOUR: 'blue', EMPTY: '' } },
      TracingConfig: { Mode: 'PassThrough' },
      RevisionId: 'uid-of-hello-1',
      State: 'Active',
      LastUpdateStatus: 'Successful',
      PackageType: 'Image',
      ImageConfigResponse: { ImageConfig: { EntryPoint: ['/run'], Command: ['a', 'b'] } },
      Architectures: ['x86_64'],
      EphemeralStorage: { Size: 1024 },
      SnapStart: { ApplyOn: 'None', OptimizationStatus: 'Off' },
      LoggingConfig: { LogFormat: 'Text', LogGroup: '/aws/lambda/hello' },
    });
  });

  it('never tells what comes out of a Secret', () => {
    const { Environment } = described({
      spec: {
        env: [
          { name: 'PLAIN', value: '1' },
          { name: 'PASSWORD', valueFrom: { secretKeyRef: { name: 's', key: 'k', optional: false } } },
        ],
      },
    });
    expect(Environment).toEqual({ Variables: { PLAIN: '1' } });
  });

  it.each([
    ['Pending', 'Pending'],
    ['Pulling', 'Pending'],
    ['Creating', 'Pending'],
    ['Running', 'Active'],
    ['Paused', 'Active'],
    ['Absent', 'Active'],
    ['Failed', 'Failed'],
  ] as const)('calls a function whose only worker is %s %s', (workerPhase, state) => {
    expect(described(phase(workerPhase)).State).toBe(state);
  });

  it('calls one active that has a single worker that can be called', () => {
    expect(described({ name: 'a', ...phase('Failed') }, { name: 'b', ...phase('Paused') }).State).toBe('Active');
  });

  it('calls one inactive that its owner keeps at rest', () => {
    expect(described({ ...phase('Paused'), spec: { wakePolicy: 'Never' } })).toMatchObject({
      State: 'Inactive',
      StateReasonCode: 'Idle',
    });
  });

  /** A worker whose condition says that, all of it seen in generation 2. */
  const saying = (type: string, status: 'True' | 'False', reason: string, message: string): WorkerFixture => ({
    name: `${type}-${reason}`.toLowerCase(),
    metadata: { generation: 2 },
    status: {
      phase: 'Running',
      observedGeneration: 2,
      conditions: [{ type, status, reason, message, lastTransitionTime: '2026-11-01T00:00:00Z' }],
    },
  });
  const updated = saying('UpToDate', 'True', 'UpToDate', 'this generation serves');

  /** A worker that cannot be started, as its agent describes it. */
  const failing = (reason: string, message: string): WorkerFixture => ({
    status: {
      phase: 'Failed',
      conditions: ['Ready', 'UpToDate'].map((type) => ({
        ...{ type, status: 'False', reason, message },
        lastTransitionTime: '2026-11-01T00:00:00Z',
      })),
    },
  });

  it('says why none can be started', () => {
    const failed = described(failing('StartFailed', 'no such file'));
    expect(failed).toMatchObject({
      State: 'Failed',
      StateReason: 'StartFailed: no such file',
      StateReasonCode: 'InternalError',
      LastUpdateStatus: 'Failed',
    });
  });

  it.each([
    ['Runtime.ImportModuleError: Unable to import module', 'FunctionError.RuntimeInitError'],
    ['Runtime.ExitError: Runtime exited with error: exit status 3', 'FunctionError.RuntimeInitError'],
    [
      'Runtime.ExitError: Runtime exited with error: signal: killed; the worker used more memory than its limit',
      'FunctionError.InitResourceExhausted',
    ],
    ['Runtime.InvalidEntrypoint: fork/exec /no/such: no such file', 'FunctionError.InvalidEntryPoint'],
    ['Sandbox.Timedout: Task timed out after 60.00 seconds', 'FunctionError.InitTimeout'],
    ['Extension.Crash: exit status 4', 'FunctionError.ExtensionInitError'],
    ['ValueError: out of cheese', 'FunctionError.RuntimeInitError'],
  ])('says in the words of Lambda why one cannot be initialized: %s', (message, code) => {
    expect(described(failing('InitFailed', message))).toMatchObject({
      State: 'Failed',
      StateReason: `InitFailed: ${message}`,
      StateReasonCode: code,
      LastUpdateStatusReasonCode: code,
    });
    const one = described(updated, saying('UpToDate', 'False', 'ReplacementFailed', `InitFailed: ${message}`));
    expect(one).toMatchObject({ State: 'Active', LastUpdateStatusReasonCode: code });
  });

  it.each([
    ['Replacing', 'the earlier container serves', 'InProgress', undefined],
    ['NodeFull', 'no room', 'InProgress', undefined],
    ['ReplacementFailed', 'ImageNotFound: no such image; tried again', 'Failed', 'InvalidImage'],
    ['ReplacementFailed', 'SecretForbidden: no right', 'Failed', 'InsufficientRolePermissions'],
    ['ReplacementFailed', 'CrashLoopBackOff: ended', 'Failed', 'FunctionError'],
    ['ReplacementFailed', 'something else', 'Failed', 'InternalError'],
    ['CrashLoopBackOff', 'starts again in 10 s', 'Failed', 'FunctionError'],
  ] as const)('tells of a change whose UpToDate is %s: %s', (reason, message, status, code) => {
    const one = described(updated, saying('UpToDate', 'False', reason, message));
    expect(one).toMatchObject({ LastUpdateStatus: status, LastUpdateStatusReason: `${reason}: ${message}` });
    expect(one.LastUpdateStatusReasonCode).toBe(code);
    expect(one.State).toBe('Active');
  });

  it('is done when all workers serve what was asked for', () => {
    expect(described(updated).LastUpdateStatus).toBe('Successful');
  });

  it('is in progress while an agent has not come to the newest spec', () => {
    const behind = described({
      metadata: { generation: 4 },
      status: { phase: 'Running', observedGeneration: 3 },
    });
    expect(behind.LastUpdateStatus).toBe('InProgress');
  });
});

describe('lambdaTime', () => {
  it('is written as Lambda writes it', () => {
    expect(lambdaTime('2026-11-01T01:02:03Z')).toBe('2026-11-01T01:02:03.000+0000');
  });
});
