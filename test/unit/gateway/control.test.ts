import {
  CreateAliasCommand,
  CreateFunctionCommand,
  CreateFunctionUrlConfigCommand,
  DeleteFunctionCommand,
  GetFunctionCommand,
  GetFunctionConfigurationCommand,
  PublishVersionCommand,
  PutFunctionConcurrencyCommand,
  PutFunctionEventInvokeConfigCommand,
  PutProvisionedConcurrencyConfigCommand,
  UpdateAliasCommand,
  UpdateFunctionCodeCommand,
  UpdateFunctionConfigurationCommand,
} from '@aws-sdk/client-lambda';
import { describe, expect, it } from 'vitest';
import { KEPT_ANNOTATION } from '../../../src/api/kept-properties.ts';
import type { LambdaFunction } from '../../../src/api/lambda-function.ts';
import { foreignCode } from '../../../src/common/error-codes.ts';
import type { Access } from '../../../src/gateway/access/access.ts';
import { createOpenAccess } from '../../../src/gateway/access/access.ts';
import { objectNameFor } from '../../../src/gateway/control/created-function.ts';
import { LambdaError } from '../../../src/gateway/lambda/lambda-error.ts';
import { ApiError } from '../../../src/kube/api/api-error.ts';
import { condition, functionFixture, versionFixture } from '../../support/function-fixture.ts';
import { gatewayLab } from '../../support/gateway-lab.ts';
import { minimal, settle, type WritingLab, writingLab } from '../../support/writing-lab.ts';

const arn = 'arn:aws:lambda:us-east-1:012345678912:function:hello';

describe('a function that is created', () => {
  it('names what the caller named, rests frozen, and tells who has made it', async () => {
    const lab = await writingLab();
    const made = await lab.client.send(new CreateFunctionCommand({ ...minimal, MemorySize: 300, Tags: { a: 'x y' } }));
    expect(made).toMatchObject({ State: 'Pending', LastUpdateStatus: 'InProgress', MemorySize: 300, Timeout: 3 });
    const [patch] = lab.store.asked.flatMap((each) => each.patch ?? []);
    expect(patch).toMatchObject({ kind: 'apply', fieldManager: 'esb-control', force: false });
    expect(JSON.parse(JSON.stringify(patch?.body)).spec).toEqual({
      scaling: { mode: 'Auto', minWorkers: 0 },
      template: {
        spec: { image: 'registry.example/hello:1', desiredState: 'Paused', resources: { limits: { memory: '300Mi' } } },
      },
    });
    const { annotations, labels } = lab.object().metadata;
    expect(labels).toEqual({});
    expect(annotations?.['esb.dev/changed-by']).toBe('system:anonymous');
    expect(JSON.parse(annotations?.[KEPT_ANNOTATION] ?? '')).toMatchObject({ role: minimal.Role, tags: { a: 'x y' } });
  });

  it('has a name that Kubernetes takes, and no other function gets', () => {
    expect(objectNameFor('hello')).toBe('hello');
    const names = ['My_Function', 'my_function', 'my-Function', '___', '-', 'a'.repeat(64), `${'a'.repeat(63)}A`];
    const objects = names.map(objectNameFor);
    expect(objects.filter((name) => !/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name))).toEqual([]);
    expect(new Set(objects).size).toBe(names.length);
    expect(objects[0]).toMatch(/^my-function-[0-9a-f]{8}$/);
  });

  it('is found by the name that callers write', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand({ ...minimal, FunctionName: 'My_Function' }));
    const found = await lab.client.send(new GetFunctionCommand({ FunctionName: 'My_Function' }));
    expect(found.Configuration?.FunctionName).toBe('My_Function');
    expect(lab.object(objectNameFor('My_Function')).spec.functionName).toBe('My_Function');
  });

  it('is refused where the name is taken, by workers that were made by hand too', async () => {
    const lab = await writingLab();
    await lab.addWorker('hand', { functionName: 'hand' });
    await lab.client.send(new CreateFunctionCommand(minimal));
    for (const FunctionName of ['hello', 'hand']) {
      await expect(lab.client.send(new CreateFunctionCommand({ ...minimal, FunctionName }))).rejects.toMatchObject({
        name: 'ResourceConflictException',
        message: `Function already exist: ${FunctionName}`,
      });
    }
  });
});

describe('the state of a function', () => {
  const stateOf = async (lab: WritingLab) =>
    await lab.client.send(new GetFunctionConfigurationCommand({ FunctionName: 'hello' }));

  it('follows its conditions and its workers', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    expect(await stateOf(lab)).toMatchObject({ State: 'Pending', StateReasonCode: 'Creating' });
    settle(lab);
    expect(await stateOf(lab)).toMatchObject({
      State: 'Active',
      LastUpdateStatus: 'Successful',
      CodeSha256: 'a'.repeat(64),
    });
    const changed = await lab.client.send(
      new UpdateFunctionConfigurationCommand({ FunctionName: 'hello', Timeout: 9 }),
    );
    expect(changed).toMatchObject({ State: 'Active', LastUpdateStatus: 'InProgress', Timeout: 9 });
    const owner = lab.object();
    const observedGeneration = owner.metadata.generation ?? 1;
    const failing = ['Ready', 'Stalled'].map((type) => ({
      ...condition(type, type === 'Ready' ? 'False' : 'True', 'ImageNotFound', 'hello-latest-0: no such image'),
    }));
    lab.functions.put({ ...owner, status: { ...owner.status, observedGeneration, conditions: failing } });
    expect(await stateOf(lab)).toMatchObject({
      State: 'Active',
      LastUpdateStatus: 'Failed',
      LastUpdateStatusReason: 'ImageNotFound: hello-latest-0: no such image',
      LastUpdateStatusReasonCode: 'InvalidImage',
    });
    lab.workers.remove({ namespace: 'default', name: 'hello-latest-0' });
    expect(await stateOf(lab)).toMatchObject({ State: 'Failed', StateReasonCode: 'InvalidImage' });
  });

  it('is that of $LATEST where an alias keeps the function from being ready', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    settle(lab);
    const owner = lab.object();
    const missing = ['Ready', 'Stalled'].map((type) =>
      condition(type, type === 'Ready' ? 'False' : 'True', 'VersionMissing', 'no version 7'),
    );
    lab.functions.put({ ...owner, status: { ...owner.status, conditions: missing } });
    expect(await stateOf(lab)).toMatchObject({ State: 'Active', LastUpdateStatus: 'Successful' });
  });

  it('is idle where no worker is wanted', async () => {
    const lab = await writingLab();
    lab.functions.put(functionFixture({ minWorkers: 0, status: { observedGeneration: 1 } }));
    expect(await stateOf(lab)).toMatchObject({ State: 'Inactive', StateReasonCode: 'Idle' });
  });

  it('is that of no function once it is deleted, while its workers still leave', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    settle(lab);
    await lab.client.send(new DeleteFunctionCommand({ FunctionName: 'hello' }));
    await expect(stateOf(lab)).rejects.toMatchObject({ name: 'ResourceNotFoundException' });
    await lab.client.send(new CreateFunctionCommand(minimal));
    expect(await stateOf(lab)).toMatchObject({ State: 'Active' });
  });
});

describe('a change', () => {
  it('is one of the revision that its caller has seen', async () => {
    const lab = await writingLab();
    const { RevisionId } = await lab.client.send(new CreateFunctionCommand(minimal));
    settle(lab);
    const input = { FunctionName: 'hello', Timeout: 9, RevisionId };
    const changed = await lab.client.send(new UpdateFunctionConfigurationCommand(input));
    await expect(lab.client.send(new UpdateFunctionConfigurationCommand(input))).rejects.toMatchObject({
      name: 'PreconditionFailedException',
    });
    const again = { FunctionName: 'hello', ImageUri: 'registry.example/hello:2', RevisionId: changed.RevisionId };
    expect(await lab.client.send(new UpdateFunctionCodeCommand(again))).toMatchObject({ Timeout: 9 });
  });

  it('names nothing but what changes, and removes what another manager has set', async () => {
    const lab = await writingLab();
    lab.functions.put(
      functionFixture({
        spec: {
          template: {
            spec: {
              ...functionFixture().spec.template.spec,
              command: ['/run'],
              env: [
                { name: 'SECRET', valueFrom: { secretKeyRef: { name: 's', key: 'k', optional: false } } },
                { name: 'OLD', value: '1' },
              ],
            },
          },
        },
        metadata: { resourceVersion: '7' },
      }),
    );
    await lab.client.send(
      new UpdateFunctionConfigurationCommand({
        FunctionName: 'hello',
        Environment: { Variables: { NEW: '2' } },
        ImageConfig: {},
      }),
    );
    const { patch } = lab.store.asked.find(({ verb }) => verb === 'patch') ?? {};
    expect(patch).toMatchObject({ kind: 'merge', fieldManager: 'esb-control' });
    expect(patch?.body).toMatchObject({ metadata: { resourceVersion: '7', uid: 'uid-of-hello' } });
    const { spec } = (patch?.body ?? {}) as { readonly spec?: object };
    expect(spec).toEqual({
      template: {
        spec: {
          command: null,
          env: [
            { name: 'SECRET', valueFrom: { secretKeyRef: { name: 's', key: 'k', optional: false } } },
            { name: 'NEW', value: '2' },
          ],
        },
      },
    });
  });

  it('that changes nothing writes nothing', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    await lab.client.send(new UpdateFunctionConfigurationCommand({ FunctionName: 'hello', Timeout: 3 }));
    expect(lab.store.asked.filter(({ verb }) => verb === 'patch')).toHaveLength(1);
  });

  it('is made again from what another writer has left meanwhile', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    lab.store.beforeWrite = () => {
      const owner = lab.object();
      const scaling = { ...owner.spec.scaling, minWorkers: 5 };
      const metadata = { ...owner.metadata, resourceVersion: '900', generation: 2 };
      lab.functions.put({ ...owner, metadata, spec: { ...owner.spec, scaling } });
    };
    await lab.client.send(new UpdateFunctionConfigurationCommand({ FunctionName: 'hello', Timeout: 9 }));
    expect(lab.object().spec).toMatchObject({ scaling: { minWorkers: 5 }, template: { spec: { timeoutSeconds: 9 } } });
  });

  it.each([
    ['Invalid', 422, 'InvalidParameterValueException'],
    ['Forbidden', 403, 'AccessDeniedException'],
    ['RequestEntityTooLarge', 413, 'RequestTooLargeException'],
    ['NoTeapot', 418, 'InvalidParameterValueException'],
    ['Unauthorized', 401, 'ServiceException'],
    ['TooManyRequests', 429, 'TooManyRequestsException'],
    ['Unreachable', undefined, 'ServiceException'],
  ] as const)('that the API server answers with %s is a %s', async (code, status, name) => {
    const lab = await writingLab();
    lab.store.failure = new ApiError('said the API server', {
      code: foreignCode(code),
      ...(status === undefined ? {} : { status }),
    });
    await expect(lab.client.send(new CreateFunctionCommand(minimal))).rejects.toMatchObject({ name });
  });
});

it.each([
  [
    'lambdafunctions.esb.dev "hello" is forbidden: User "system:serviceaccount:esb-system:esb-gateway" cannot patch resource "lambdafunctions"',
    'ServiceException',
    /^The service encountered an internal error\.$/,
  ],
  [
    `lambdafunctions.esb.dev "hello" is forbidden: ValidatingAdmissionPolicy 'images' with binding 'images' denied request: no`,
    'AccessDeniedException',
    /denied request: no$/,
  ],
])('callers read what a policy says, and nothing about the account of the gateway: %s', async (text, name, message) => {
  const lab = await writingLab();
  lab.store.failure = new ApiError(text, { code: 'Forbidden', status: 403 });
  await expect(lab.client.send(new CreateFunctionCommand(minimal))).rejects.toMatchObject({
    name,
    message: expect.stringMatching(message),
  });
});

describe('rights', () => {
  it('are asked for by the name of the object, and to create by none, before anything is written', async () => {
    const asked: string[] = [];
    const access: Access = {
      ...createOpenAccess(() => false),
      authorize(_identity, action, name) {
        asked.push(`${action} ${name}`);
        if (action === 'delete-version' || action === 'delete') {
          throw new LambdaError('AccessDeniedException', 'no');
        }
      },
    };
    const lab = await writingLab({ gateway: { access } });
    await lab.client.send(new CreateFunctionCommand({ ...minimal, FunctionName: 'My_Function' }));
    const FunctionName = 'My_Function';
    await lab.client.send(new UpdateFunctionConfigurationCommand({ FunctionName, Timeout: 9 }));
    for (const Qualifier of [undefined, '3']) {
      await expect(
        lab.client.send(
          new DeleteFunctionCommand(Qualifier === undefined ? { FunctionName } : { FunctionName, Qualifier }),
        ),
      ).rejects.toMatchObject({ name: 'AccessDeniedException' });
    }
    const object = objectNameFor(FunctionName);
    expect([...new Set(asked)]).toEqual([
      'create undefined',
      `change ${object}`,
      `delete ${object}`,
      `delete-version ${object}-3`,
    ]);
    expect(lab.store.asked.some(({ verb }) => verb === 'delete')).toBe(false);
  });

  it('to call a destination are asked for before the destination is written', async () => {
    const asked: string[] = [];
    const access: Access = {
      ...createOpenAccess(() => false),
      authorize(_identity, action, name) {
        asked.push(`${action} ${name}`);
        if (action === 'invoke' && name === 'secret') {
          throw new LambdaError('AccessDeniedException', 'no');
        }
      },
    };
    const lab = await writingLab({ gateway: { access } });
    lab.functions.put(functionFixture());
    await lab.addWorker('hello-0', { functionName: 'hello' });
    const to = (name: string) => ({ Destination: `arn:aws:lambda:us-east-1:012345678912:function:${name}` });
    const put = (OnSuccess: object, OnFailure: object) =>
      lab.client.send(
        new PutFunctionEventInvokeConfigCommand({
          FunctionName: 'hello',
          DestinationConfig: { OnSuccess, OnFailure },
        }),
      );
    await expect(put(to('secret'), to('public'))).rejects.toMatchObject({ name: 'AccessDeniedException' });
    await expect(put({}, to('secret'))).rejects.toMatchObject({ name: 'AccessDeniedException' });
    expect(lab.store.asked.some(({ verb }) => verb === 'patch')).toBe(false);
    asked.length = 0;
    await put(to('public'), to('public'));
    expect(asked.filter((each) => each.startsWith('invoke'))).toEqual(['invoke public']);
    expect(lab.object().spec.asyncInvoke?.onSuccess).toEqual({ functionName: 'public' });
  });

  it('are for the very object that is written, also where the name comes to mean another meanwhile', async () => {
    const asked: string[] = [];
    const access: Access = {
      ...createOpenAccess(() => false),
      authorize(_identity, action, name) {
        asked.push(`${action} ${name}`);
        const metadata = { creationTimestamp: '2025-01-01T00:00:00Z', resourceVersion: '1' };
        lab.functions.put(functionFixture({ name: 'older', metadata, spec: { functionName: 'hello' } }));
      },
    };
    const lab: WritingLab = await writingLab({ gateway: { access } });
    const metadata = { creationTimestamp: '2026-01-01T00:00:00Z', resourceVersion: '1' };
    lab.functions.put(functionFixture({ metadata }));
    await lab.client.send(new UpdateFunctionConfigurationCommand({ FunctionName: 'hello', Timeout: 9 }));
    const written = lab.store.asked.filter(({ verb }) => verb === 'patch').map(({ name }) => `change ${name}`);
    expect(written).toEqual(['change older']);
    expect(asked).toEqual(['change hello', 'change older']);
  });
});

describe('versions and aliases', () => {
  /** Has the controller publish what the next change asks for. */
  const publishNext = (lab: WritingLab, version: number): void => {
    const stop = lab.functions.subscribe(({ object }) => {
      const token = object.spec.publishToken;
      if (token !== undefined && object.status?.publication?.token !== token) {
        queueMicrotask(() => {
          stop();
          lab.versions.put(versionFixture(object, version));
          const publication = { token, state: 'Created' as const };
          lab.functions.put({ ...object, status: { ...object.status, latestVersion: version, publication } });
        });
      }
    });
  };

  /** Has the controller find that what the next change asks for cannot be. */
  const stallNext = (
    lab: WritingLab,
    reason: string,
    changed: (owner: LambdaFunction) => LambdaFunction = (owner) => owner,
  ): void => {
    const stop = lab.functions.subscribe(({ object }) => {
      const token = object.spec.publishToken;
      const isSeen = object.status?.observedGeneration === object.metadata.generation;
      if (token !== undefined && object.status?.publication?.token !== token && !isSeen) {
        queueMicrotask(() => {
          stop();
          const owner = changed(object);
          const observedGeneration = owner.metadata.generation ?? 1;
          const conditions = [condition('Stalled', 'True', reason, `because of ${reason}`)];
          lab.functions.put({ ...owner, status: { ...owner.status, observedGeneration, conditions } });
        });
      }
    });
  };

  it('are published once the controller has done it', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    publishNext(lab, 1);
    expect(await lab.client.send(new PublishVersionCommand({ FunctionName: 'hello' }))).toMatchObject({
      Version: '1',
      FunctionArn: `${arn}:1`,
      State: 'Active',
    });
    stallNext(lab, 'ImageNotFound');
    await expect(lab.client.send(new PublishVersionCommand({ FunctionName: 'hello' }))).rejects.toMatchObject({
      name: 'ResourceConflictException',
      message: 'No version was published: because of ImageNotFound',
    });
  });

  it.each([
    [
      'ImageNotFound',
      400,
      'InvalidParameterValueException',
      /^Source image registry\.example\/hello:1 does not exist\. Provide/,
    ],
    [
      'ImageWrongPlatform',
      400,
      'InvalidParameterValueException',
      /^Source image registry\.example\/hello:1 is not valid\. Provide/,
    ],
    ['PullSecretForbidden', 403, 'AccessDeniedException', /^Lambda does not have permission to access the image/],
  ] as const)(
    'are no reason to leave a function that cannot have its image (%s)',
    async (reason, status, name, message) => {
      const lab = await writingLab();
      stallNext(lab, reason);
      const error = { name, message: expect.stringMatching(message), $metadata: { httpStatusCode: status } };
      await expect(lab.client.send(new CreateFunctionCommand({ ...minimal, Publish: true }))).rejects.toMatchObject(
        error,
      );
      expect(lab.functions.cache.list()).toEqual([]);
      // A tool that has mended the image creates the function again.
      await lab.client.send(new CreateFunctionCommand(minimal));
      stallNext(lab, reason);
      const change = { FunctionName: 'hello', ImageUri: 'registry.example/hello:1', Publish: true };
      await expect(lab.client.send(new UpdateFunctionCodeCommand(change))).rejects.toMatchObject(error);
      expect(lab.functions.cache.list()).toHaveLength(1);
    },
  );

  it('that fail for another reason than the image, or of a function that was changed since, leave it', async () => {
    const lab = await writingLab();
    const create = (FunctionName: string) =>
      lab.client.send(new CreateFunctionCommand({ ...minimal, FunctionName, Publish: true }));
    stallNext(lab, 'InitFailed');
    await expect(create('hello')).rejects.toMatchObject({ name: 'ResourceConflictException' });
    stallNext(lab, 'ImageNotFound', (owner) => ({
      ...owner,
      metadata: { ...owner.metadata, generation: 2 },
      spec: { ...owner.spec, description: 'changed' },
    }));
    await expect(create('other')).rejects.toMatchObject({ name: 'InvalidParameterValueException' });
    expect(lab.functions.cache.list().map(({ metadata }) => metadata.name)).toEqual(['hello', 'other']);
  });

  it.each([true, false])(
    'leave a function that somebody has labelled since: before the last look %s',
    async (before) => {
      const lab = await writingLab();
      const labelled = (owner: LambdaFunction): LambdaFunction => {
        const labels = { ...owner.metadata.labels, kept: 'yes' };
        return { ...owner, metadata: { ...owner.metadata, labels, resourceVersion: '900' } };
      };
      stallNext(lab, 'ImageNotFound', (owner) => {
        if (before) {
          return labelled(owner);
        }
        lab.store.beforeWrite = () => lab.functions.put(labelled(lab.object()));
        return owner;
      });
      await expect(lab.client.send(new CreateFunctionCommand({ ...minimal, Publish: true }))).rejects.toMatchObject({
        name: 'InvalidParameterValueException',
      });
      expect(lab.object().metadata.labels).toMatchObject({ kept: 'yes' });
    },
  );

  it('have weights in thousandths', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    for (const version of [1, 2]) {
      lab.versions.put(versionFixture(lab.object(), version));
    }
    const alias = { FunctionName: 'hello', Name: 'live', FunctionVersion: '1' };
    const weights = (weight: number) => ({ RoutingConfig: { AdditionalVersionWeights: { 2: weight } } });
    await expect(lab.client.send(new CreateAliasCommand({ ...alias, ...weights(0.0005) }))).rejects.toMatchObject({
      name: 'InvalidParameterValueException',
    });
    await lab.client.send(new CreateAliasCommand({ ...alias, ...weights(0.07) }));
    expect(lab.object().spec.aliases).toEqual([{ name: 'live', version: 1, routing: [{ version: 2, permille: 70 }] }]);
    await lab.client.send(
      new PutProvisionedConcurrencyConfigCommand({
        FunctionName: 'hello',
        Qualifier: 'live',
        ProvisionedConcurrentExecutions: 3,
      }),
    );
    await lab.client.send(new UpdateAliasCommand({ FunctionName: 'hello', Name: 'live', Description: 'all' }));
    expect(lab.object().spec.aliases).toMatchObject([{ name: 'live', version: 1, provisionedWorkers: 3 }]);
  });
});

describe('what there is not', () => {
  it('is refused where no URLs are served, and with a qualifier that settings do not have', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    const url = { FunctionName: 'hello', AuthType: 'NONE' } as const;
    await expect(lab.client.send(new CreateFunctionUrlConfigCommand(url))).rejects.toMatchObject({
      name: 'UnsupportedOperationException',
      message: expect.stringContaining('--function-url-domain'),
    });
    await expect(
      lab.client.send(
        new PutFunctionConcurrencyCommand({ FunctionName: 'hello:live', ReservedConcurrentExecutions: 1 }),
      ),
    ).rejects.toMatchObject({ name: 'InvalidParameterValueException' });
  });

  it('are writes through a gateway that is not told to let them', async () => {
    const lab = await gatewayLab();
    await expect(lab.client.send(new CreateFunctionCommand(minimal))).rejects.toMatchObject({
      name: 'UnsupportedOperationException',
      message: expect.stringContaining('--control-api'),
    });
  });
});
