import { describe, expect, it, onTestFinished } from 'vitest';
import { TaskGroup } from '../../../src/common/task-group.ts';
import { AccessReviewer } from '../../../src/gateway/access/access-review.ts';
import type { Principal } from '../../../src/gateway/access/principal.ts';
import { TokenReviewer } from '../../../src/gateway/access/token-review.ts';
import { CallerRates } from '../../../src/gateway/lambda/caller-rate.ts';
import type { LocalSubjectAccessReview, TokenReview } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { type ManualClock, manualClock } from '../../support/manual-clock.ts';

const unlimited = new CallerRates({ perSecond: 0, burst: 1 }, 10);

/** A client whose creations are answered with this status. */
function client<T extends object>(
  answer: (asked: T) => object | undefined,
): { readonly asked: T[]; readonly client: Pick<KubeClient, 'create'> } {
  const asked: T[] = [];
  return {
    asked,
    client: {
      create: async (_type, object) => {
        asked.push(object as unknown as T);
        return { ...object, status: answer(object as unknown as T) };
      },
    },
  };
}

function group(): TaskGroup {
  const tasks = new TaskGroup((_task, error) => {
    throw error;
  });
  onTestFinished(() => tasks.stop());
  return tasks;
}

function token(claims: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'ES256' })}.${part(claims)}.c2ln`;
}

describe('token reviewer', () => {
  function reviewer(
    status: Exclude<TokenReview['status'], undefined> | undefined,
    clock: ManualClock = manualClock(),
  ): { readonly reviewer: TokenReviewer; readonly asked: TokenReview[] } {
    const { client: api, asked } = client<TokenReview>(() => status);
    return {
      asked,
      reviewer: new TokenReviewer({
        client: api,
        audiences: ['esb-gateway'],
        acceptedMs: 60_000,
        refusedMs: 10_000,
        graceMs: 3_600_000,
        isAway: () => false,
        strangers: unlimited,
        clock,
        tasks: group(),
      }),
    };
  }

  const accepted = {
    authenticated: true,
    audiences: ['esb-gateway'],
    user: { username: 'bob', uid: 'u1', groups: ['g'], extra: { scopes: ['s'] } },
  };

  it('takes whom the API server names, and then knows him at once', async () => {
    const { reviewer: one, asked } = reviewer(accepted);
    const principal = { kind: 'Token', user: 'bob', uid: 'u1', groups: ['g'], extra: { scopes: ['s'] } };
    expect(await one.identify('opaque', '192.0.2.1')).toEqual(principal);
    expect(one.identify('opaque', '192.0.2.1')).toEqual(principal);
    expect(asked.map(({ spec }) => spec)).toEqual([{ token: 'opaque', audiences: ['esb-gateway'] }]);
  });

  it.each<[string, TokenReview['status'], string]>([
    ['that is not known', { authenticated: false, error: 'invalid bearer token' }, 'UnrecognizedClientException'],
    ['that has expired', { authenticated: false, error: 'token has expired' }, 'ExpiredTokenException'],
    ['for the API server alone', { ...accepted, audiences: [] }, 'UnrecognizedClientException'],
    ['for another audience', { ...accepted, audiences: ['other'] }, 'UnrecognizedClientException'],
    ['of nobody', { ...accepted, user: {} }, 'UnrecognizedClientException'],
    ['without an answer', undefined, 'UnrecognizedClientException'],
  ])('refuses one %s', async (_what, status, errorName) => {
    const { reviewer: one } = reviewer(status);
    await expect(one.identify('opaque', '192.0.2.1')).rejects.toMatchObject({ errorName });
    // Known by now, and refused at once.
    expect(() => one.identify('opaque', '192.0.2.1')).toThrow(expect.objectContaining({ errorName }));
  });

  it('asks nobody about a token that says itself that it is over, or that is none', async () => {
    const clock = manualClock();
    const { reviewer: one, asked } = reviewer(accepted, clock);
    const exp = clock.now() / 1000;
    expect(() => one.identify(token({ exp: exp - 120 }), '192.0.2.1')).toThrow('expired');
    expect(() => one.identify('', '192.0.2.1')).toThrow('invalid');
    expect(() => one.identify('x'.repeat(20_000), '192.0.2.1')).toThrow('invalid');
    expect(asked).toEqual([]);
  });

  it('refuses a token that has run out in the meantime, although it was good when the API server was asked', async () => {
    const clock = manualClock();
    const { reviewer: one } = reviewer(accepted, clock);
    const short = token({ exp: clock.now() / 1000 - 50 });
    await one.identify(short, '192.0.2.1');
    expect(one.identify(short, '192.0.2.1')).toMatchObject({ user: 'bob' });
    await clock.advance(10_000);
    expect(() => one.identify(short, '192.0.2.1')).toThrow(
      expect.objectContaining({ errorName: 'ExpiredTokenException' }),
    );
  });
});

describe('access reviewer', () => {
  function reviewer(allowed: (spec: LocalSubjectAccessReview['spec']) => boolean) {
    const { client: api, asked } = client<LocalSubjectAccessReview>(({ spec }) => ({
      allowed: allowed(spec),
    }));
    return {
      asked,
      reviewer: new AccessReviewer({
        client: api,
        namespace: 'default',
        allowedMs: 60_000,
        deniedMs: 10_000,
        graceMs: 0,
        isAway: () => false,
        strangers: unlimited,
        clock: manualClock(),
        tasks: group(),
      }),
    };
  }

  const alice: Principal = { kind: 'AccessKey', accessKeyId: 'A', user: 'alice', groups: ['team'] };
  const bob: Principal = { kind: 'Token', user: 'bob', uid: 'u1', groups: ['g'], extra: { scopes: ['s'] } };

  it.each([
    ['create', 'lambdafunctions', 'create'],
    ['change', 'lambdafunctions', 'patch'],
    ['delete', 'lambdafunctions', 'delete'],
    ['delete-version', 'lambdaversions', 'delete'],
  ] as const)('asks, to %s, for the right that kubectl needs for the same', async (action, resource, verb) => {
    const { reviewer: one, asked } = reviewer(() => false);
    await expect(one.authorize(bob, action, 'hello')).rejects.toMatchObject({
      errorName: 'AccessDeniedException',
      message: expect.stringContaining(`allows ${verb} on ${resource}.esb.dev`),
    });
    expect(asked.map(({ spec }) => spec)).toMatchObject([
      {
        user: 'bob',
        uid: 'u1',
        groups: ['g'],
        extra: { scopes: ['s'] },
        resourceAttributes: { namespace: 'default', verb, group: 'esb.dev', resource, name: 'hello' },
      },
    ]);
  });

  it('asks for each function and action alone, and knows the answer then at once', async () => {
    const { reviewer: one, asked } = reviewer(() => true);
    await one.authorize(alice, 'invoke', 'hello');
    await one.authorize(bob, 'get', 'hello');
    await one.authorize({ kind: 'Certificate', user: 'carol', groups: [] }, 'list', undefined);
    expect(one.authorize({ ...alice }, 'invoke', 'hello')).toBeUndefined();
    const common = { namespace: 'default', group: 'esb.dev', version: 'v1alpha1', resource: 'lambdaworkers' };
    expect(asked.map(({ spec }) => spec)).toEqual([
      {
        user: 'alice',
        groups: ['team'],
        resourceAttributes: { ...common, verb: 'create', subresource: 'invoke', name: 'hello' },
      },
      {
        user: 'bob',
        uid: 'u1',
        groups: ['g'],
        extra: { scopes: ['s'] },
        resourceAttributes: { ...common, verb: 'get', name: 'hello' },
      },
      { user: 'carol', groups: [], resourceAttributes: { ...common, verb: 'list' } },
    ]);
  });

  it('takes nobody for somebody else who has one of his names', async () => {
    const { reviewer: one, asked } = reviewer(({ groups }) => groups?.includes('team') === true);
    await one.authorize(alice, 'invoke', 'hello');
    const namesake: Principal = { kind: 'Certificate', user: 'alice', groups: ['other'] };
    await expect(one.authorize(namesake, 'invoke', 'hello')).rejects.toMatchObject({
      errorName: 'AccessDeniedException',
    });
    expect(asked).toHaveLength(2);
  });

  it('says who may not do what, and what he would need', async () => {
    const { reviewer: one } = reviewer(() => false);
    const message =
      'User: alice is not authorized to perform: lambda:InvokeFunction on resource: arn:aws:lambda:us-east-1:012345678912:function:hello ' +
      'because no role in namespace default allows create on lambdaworkers.esb.dev/invoke';
    await expect(one.authorize(alice, 'invoke', 'hello')).rejects.toMatchObject({
      errorName: 'AccessDeniedException',
      status: 403,
      message,
    });
    expect(() => one.authorize(alice, 'invoke', 'hello')).toThrow(message);
  });
});
