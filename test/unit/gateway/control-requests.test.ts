import {
  CreateAliasCommand,
  CreateFunctionCommand,
  DeleteFunctionCommand,
  GetFunctionConfigurationCommand,
  ListTagsCommand,
  PublishVersionCommand,
  PutFunctionConcurrencyCommand,
  TagResourceCommand,
  UntagResourceCommand,
  UpdateFunctionCodeCommand,
  UpdateFunctionConfigurationCommand,
} from '@aws-sdk/client-lambda';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type LambdaFunction, templateHashOf } from '../../../src/api/lambda-function.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { TaskGroup } from '../../../src/common/task-group.ts';
import { type Access, provedIdentity } from '../../../src/gateway/access/access.ts';
import { AccessReviewer } from '../../../src/gateway/access/access-review.ts';
import { ANONYMOUS } from '../../../src/gateway/access/principal.ts';
import { CallerRates } from '../../../src/gateway/lambda/caller-rate.ts';
import { functionFixture, versionFixture } from '../../support/function-fixture.ts';
import { ALICE, keyedAccess } from '../../support/keyed-access.ts';
import { presignedRequest } from '../../support/signed-request.ts';
import { waitFor } from '../../support/wait-for.ts';
import { minimal, settle, type WritingLab, writingLab } from '../../support/writing-lab.ts';

const arn = 'arn:aws:lambda:us-east-1:012345678912:function:hello';
const FunctionName = 'hello';

/** A request as no SDK sends it. */
async function send(
  lab: WritingLab,
  method: string,
  path: string,
  body: string,
): Promise<{ status: number; text: string }> {
  const response = await fetch(`${lab.url}/2015-03-31/functions${path}`, { method, body });
  return { status: response.status, text: await response.text() };
}

/** Access that knows each caller, of whom Kubernetes allows nothing. */
function createRefusing(): Access {
  const tasks = new TaskGroup((_task, error) => {
    throw error;
  });
  onTestFinished(() => tasks.stop());
  const reviewer = new AccessReviewer({
    client: { create: async (_type, object) => ({ ...object, status: { allowed: false } }) },
    namespace: 'default',
    allowedMs: 1_000,
    deniedMs: 1_000,
    graceMs: 0,
    isAway: () => false,
    strangers: new CallerRates({ perSecond: 0, burst: 1 }, 10),
    clock: systemClock,
    tasks,
  });
  return {
    identify: () => provedIdentity(ANONYMOUS),
    authorize: ({ principal }, action, name, _address, called) =>
      reviewer.authorize(principal, action, name, undefined, called),
  };
}

/** The function as somebody else has changed it. */
function changed(lab: WritingLab, spec: Partial<LambdaFunction['spec']>): void {
  const owner = lab.object();
  const { generation = 1, resourceVersion } = owner.metadata;
  const metadata = {
    ...owner.metadata,
    generation: generation + 1,
    resourceVersion: String(Number(resourceVersion) + 1),
  };
  lab.functions.put({ ...owner, metadata, spec: { ...owner.spec, ...spec } });
}

describe('of two creations at one moment', () => {
  it('the first one holds, and the second one is told', async () => {
    const lab = await writingLab();
    lab.store.beforeWrite = () => lab.functions.put(functionFixture({ metadata: { resourceVersion: '50' } }));
    await expect(lab.client.send(new CreateFunctionCommand(minimal))).rejects.toMatchObject({
      name: 'ResourceConflictException',
      message: 'Function already exist: hello',
    });
    expect(lab.object()).toEqual(functionFixture({ metadata: { resourceVersion: '50' } }));
  });
});

it('a refusal is the same whether the function is there or not, and has the name that was sent', async () => {
  const authorize = createRefusing();
  const lab = await writingLab({ gateway: { access: authorize } });
  lab.functions.put(functionFixture({ name: 'payments-v2', spec: { functionName: 'pay' } }));
  const told = async (method: string, path: string, body?: string): Promise<string> => {
    const answer = await fetch(`${lab.url}/2015-03-31/functions${path}`, {
      method,
      ...(body === undefined ? {} : { body }),
    });
    return `${answer.status} ${await answer.text()}`.replaceAll(/\b(?:pay|buy)\b/g, 'NAME');
  };
  const requests = [
    ['PUT', '/NAME/configuration', '{}'],
    ['DELETE', '/NAME', undefined],
    ['DELETE', '/NAME?Qualifier=3', undefined],
    ['POST', '', JSON.stringify({ ...minimal, FunctionName: 'NAME' })],
  ] as const;
  for (const [method, path, body] of requests) {
    const [there, not] = await Promise.all(
      ['pay', 'buy'].map((name) => told(method, path.replace('NAME', name), body?.replace('NAME', name))),
    );
    expect(there).toContain('403');
    expect(there).toContain(method === 'POST' ? 'lambda:CreateFunction on resource: *' : 'function:NAME ');
    expect(there).toBe(not);
  }
});

it.each([
  ['PUT', '/hello/configuration', { [`x${'y'.repeat(50_000)}`]: 1 }],
  ['PUT', '/hello/configuration', { [`x${'y'.repeat(50_000)}`]: 'z' }],
  ['POST', '/hello/aliases', { Name: 'live', FunctionVersion: 'y'.repeat(50_000) }],
  ['POST', '/hello/versions', { CodeSha256: 'y'.repeat(50_000) }],
])('an error repeats no more than the beginning of what was sent: %s %s', async (method, path, members) => {
  const lab = await writingLab();
  lab.functions.put(functionFixture());
  const { status, text } = await send(lab, method, path, JSON.stringify(members));
  expect(status).toBe(400);
  expect(text.length).toBeLessThan(1_000);
});

describe('UpdateFunctionCode', () => {
  const update = (lab: WritingLab, ImageUri: string, more: object = {}) =>
    lab.client.send(new UpdateFunctionCodeCommand({ FunctionName, ImageUri, ...more }));
  const lookupOf = (lab: WritingLab) => lab.object().spec.template.spec.imageLookup;

  it('with the tag that the function has deploys what the tag means now, each time', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    settle(lab);
    const seen = [templateHashOf(lab.object().spec.template)];
    for (let times = 1; times <= 2; times += 1) {
      expect(await update(lab, 'registry.example/hello:1')).toMatchObject({ LastUpdateStatus: 'InProgress' });
      seen.push(templateHashOf(lab.object().spec.template));
    }
    expect(new Set(seen).size).toBe(3);
    await update(lab, 'registry.example/hello:1', { DryRun: true });
    expect(templateHashOf(lab.object().spec.template)).toBe(seen[2]);
  });

  it('with another tag, or a digest, needs nothing but the name', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    await update(lab, 'registry.example/hello:1');
    expect(lookupOf(lab)).toEqual(expect.any(String));
    const digest = `registry.example/hello@sha256:${'a'.repeat(64)}`;
    for (const image of ['registry.example/hello:2', digest, digest]) {
      await update(lab, image);
      expect([lab.object().spec.template.spec.image, lookupOf(lab)]).toEqual([image, undefined]);
    }
  });
});

describe('a presigned URL', () => {
  it.each([
    ['DELETE', '/2015-03-31/functions/hello', ''],
    ['POST', '/2015-03-31/functions', JSON.stringify({ ...minimal, FunctionName: 'other' })],
    ['PUT', '/2017-10-31/functions/hello/concurrency', ''],
  ])('writes nothing: %s %s', async (method, path, body) => {
    const lab = await writingLab({ gateway: { access: keyedAccess() } });
    lab.functions.put(functionFixture());
    const headers = { host: new URL(lab.url).host };
    const presigned = await presignedRequest(ALICE, { method, path, headers, body });
    const answer = await fetch(`${lab.url}${presigned.url}`, { method, ...(body === '' ? {} : { body }) });
    expect([answer.status, await answer.text()]).toEqual([
      403,
      expect.stringContaining('Presigned URLs write nothing'),
    ]);
    expect(lab.functions.cache.list()).toEqual([functionFixture()]);
  });
});

describe('a revision', () => {
  const revision = async (lab: WritingLab) =>
    (await lab.client.send(new GetFunctionConfigurationCommand({ FunctionName }))).RevisionId;

  it('stays with the configuration, however an autoscaler and other settings change the object', async () => {
    const lab = await writingLab();
    const { RevisionId } = await lab.client.send(new CreateFunctionCommand(minimal));
    changed(lab, { scaling: { ...lab.object().spec.scaling, minWorkers: 5 } });
    await lab.client.send(new PutFunctionConcurrencyCommand({ FunctionName, ReservedConcurrentExecutions: 5 }));
    lab.versions.put(versionFixture(lab.object(), 1));
    await lab.client.send(new CreateAliasCommand({ FunctionName, Name: 'live', FunctionVersion: '1' }));
    expect(await revision(lab)).toBe(RevisionId);
    await lab.client.send(new UpdateFunctionConfigurationCommand({ FunctionName, Timeout: 9, RevisionId }));
    expect(await revision(lab)).not.toBe(RevisionId);
  });

  it('never comes back, though the configuration does', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    const seen: (string | undefined)[] = [];
    for (const Timeout of [5, 6, 5, 6, 5]) {
      const changed = await lab.client.send(new UpdateFunctionConfigurationCommand({ FunctionName, Timeout }));
      seen.push(changed.RevisionId);
      expect(await revision(lab)).toBe(changed.RevisionId);
    }
    expect(new Set(seen).size).toBe(5);
    const [first] = seen;
    const late = new UpdateFunctionConfigurationCommand({ FunctionName, Timeout: 7, RevisionId: first });
    await expect(lab.client.send(late)).rejects.toMatchObject({ name: 'PreconditionFailedException' });
  });

  it.each([
    { Role: 'arn:aws:iam::123456789012:role/other' },
    { Description: 'another' },
    { Timeout: 9 },
    { Environment: { Variables: { A: '1' } } },
  ])('is another after a change of %o', async (change) => {
    const lab = await writingLab();
    const { RevisionId } = await lab.client.send(new CreateFunctionCommand(minimal));
    await lab.client.send(new UpdateFunctionConfigurationCommand({ FunctionName, ...change }));
    expect(await revision(lab)).not.toBe(RevisionId);
  });
});

describe('a dry run', () => {
  it('is checked by the API server, writes nothing, and is one of a revision', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    const input = { FunctionName, ImageUri: 'registry.example/hello:2', DryRun: true, Publish: true };
    const before = lab.object();
    const told = await lab.client.send(new UpdateFunctionCodeCommand(input));
    expect(told.Version).toBe('$LATEST');
    expect(lab.store.asked.filter(({ verb }) => verb === 'patch')).toHaveLength(2);
    expect(lab.object()).toBe(before);
    await expect(
      lab.client.send(new UpdateFunctionCodeCommand({ ...input, RevisionId: 'of-another' })),
    ).rejects.toMatchObject({ name: 'PreconditionFailedException' });
  });
});

describe('a member that there is not', () => {
  it.each(['constructor', '__proto__', '__defineGetter__', 'hasOwnProperty', 'toString'])(
    'is refused by its name: %s',
    async (name) => {
      const lab = await writingLab();
      await lab.client.send(new CreateFunctionCommand(minimal));
      for (const value of ['"TracingConfig"', '{"a":1}']) {
        const answer = await send(lab, 'PUT', '/hello/configuration', `{"${name}":${value}}`);
        expect(answer).toMatchObject({
          status: 400,
          text: expect.stringContaining(`${name} is not supported. Leave it out`),
        });
      }
    },
  );

  it.each([
    ['Environment', '{"variables":{"A":"1"}}', 'Environment.variables'],
    ['ImageConfig', '{"WorkingDirectory":"/app"}', 'ImageConfig.WorkingDirectory'],
    ['EphemeralStorage', '{"size":512}', 'EphemeralStorage.size'],
    ['LoggingConfig', '{"Format":"JSON"}', 'LoggingConfig.Format'],
  ])('is refused in %s as well', async (member, value, name) => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand({ ...minimal, Environment: { Variables: { KEPT: '1' } } }));
    const answer = await send(lab, 'PUT', '/hello/configuration', `{"${member}":${value}}`);
    expect(answer).toMatchObject({ status: 400, text: expect.stringContaining(`${name} is not supported`) });
    expect(lab.object().spec.template.spec.env).toEqual([{ name: 'KEPT', value: '1' }]);
  });

  it.each([
    ['[', ']', 30_000],
    ['{"a":', '}', 10_000],
  ])('is refused however deep it is: %s', async (begin, end, levels) => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    const deep = `${begin.repeat(levels)}${begin === '[' ? '' : '1'}${end.repeat(levels)}`;
    const answer = await send(lab, 'PUT', '/hello/configuration', `{"Deep":${deep}}`);
    expect(answer).toMatchObject({ status: 400, text: expect.stringContaining('Deep is not supported') });
  });
});

describe('names that every object has', () => {
  it('are those of tags and aliases like any other', async () => {
    const lab = await writingLab();
    await lab.client.send(
      new CreateFunctionCommand({ ...minimal, Tags: { constructor: 'a', toString: 'of two words' } }),
    );
    const Resource = arn;
    await lab.client.send(new TagResourceCommand({ Resource, Tags: { valueOf: 'b' } }));
    await lab.client.send(new UntagResourceCommand({ Resource, TagKeys: ['constructor', 'toString'] }));
    expect((await lab.client.send(new ListTagsCommand({ Resource }))).Tags).toEqual({ valueOf: 'b' });
    lab.versions.put(versionFixture(lab.object(), 1));
    const alias = { FunctionName, Name: 'constructor', FunctionVersion: '1' };
    expect(await lab.client.send(new CreateAliasCommand(alias))).toMatchObject({ Description: '' });
  });
});

describe('a version', () => {
  it('of an earlier function of the name is neither deleted nor named by an alias', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    const left = versionFixture(functionFixture({ metadata: { uid: 'earlier' } }), 1);
    lab.versions.put(left);
    await lab.client.send(new DeleteFunctionCommand({ FunctionName, Qualifier: '1' }));
    expect(lab.versions.cache.list()).toEqual([left]);
    const alias = new CreateAliasCommand({ FunctionName, Name: 'live', FunctionVersion: '1' });
    await expect(lab.client.send(alias)).rejects.toMatchObject({ name: 'ResourceNotFoundException' });
  });

  it('is not deleted while calls of an alias still go to it', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    lab.versions.put(versionFixture(lab.object(), 1));
    changed(lab, { aliases: [{ name: 'live', version: 2 }] });
    const owner = lab.object();
    lab.functions.put({ ...owner, status: { ...owner.status, aliases: [{ name: 'live', version: 1 }] } });
    await expect(lab.client.send(new DeleteFunctionCommand({ FunctionName, Qualifier: '1' }))).rejects.toMatchObject({
      name: 'ResourceConflictException',
      message: 'The alias live names version 1: change or delete the alias first.',
    });
    expect(lab.store.asked.some(({ verb }) => verb === 'delete')).toBe(false);
  });

  /** The controller deals with the token that the function has. */
  const publish = (lab: WritingLab, version: number): void => {
    const owner = lab.object();
    const publication = { token: owner.spec.publishToken ?? '', state: 'Created' as const };
    const noted = { ...owner, status: { ...owner.status, latestVersion: version, publication } };
    lab.versions.put(versionFixture(noted, version));
    lab.functions.put(noted);
  };
  const tokenOf = async (lab: WritingLab, earlier?: string): Promise<string> =>
    await waitFor('the token of a request', () => {
      const { publishToken } = lab.object().spec;
      return publishToken === earlier ? undefined : publishToken;
    });

  it('that two requests ask for at one moment is one for both', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    settle(lab);
    const first = lab.client.send(new PublishVersionCommand({ FunctionName }));
    const token = await tokenOf(lab);
    const second = lab.client.send(new PublishVersionCommand({ FunctionName }));
    await tokenOf(lab, token);
    publish(lab, 1);
    expect(await Promise.all([first, second])).toMatchObject([{ Version: '1' }, { Version: '1' }]);
  });

  it('has a description of its own where its request names one', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand({ ...minimal, Description: 'of the function' }));
    settle(lab);
    for (const [number, Description] of ['of a release', undefined].entries()) {
      const earlier = lab.object().spec.publishToken;
      const told = lab.client.send(new PublishVersionCommand({ FunctionName, Description }));
      await tokenOf(lab, earlier);
      publish(lab, number + 1);
      expect(await told).toMatchObject({ Description: Description ?? 'of the function' });
    }
    expect(await lab.client.send(new GetFunctionConfigurationCommand({ FunctionName }))).toMatchObject({
      Description: 'of the function',
    });
    const long = new PublishVersionCommand({ FunctionName, Description: 'x'.repeat(257) });
    await expect(lab.client.send(long)).rejects.toMatchObject({ name: 'InvalidParameterValueException' });
  });

  it('is none of a request whose code another one has replaced before', async () => {
    const lab = await writingLab();
    await lab.client.send(new CreateFunctionCommand(minimal));
    settle(lab);
    const first = lab.client.send(new PublishVersionCommand({ FunctionName }));
    const token = await tokenOf(lab);
    const code = { FunctionName, ImageUri: 'registry.example/hello:2', Publish: true };
    const second = lab.client.send(new UpdateFunctionCodeCommand(code));
    await expect(first).rejects.toMatchObject({ name: 'ResourceConflictException' });
    await tokenOf(lab, token);
    publish(lab, 1);
    expect(await second).toMatchObject({ Version: '1' });
  });
});
