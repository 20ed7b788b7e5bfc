import { describe, expect, it } from 'vitest';
import { changeOf, statusOf } from '../../../../src/controller/functions/function-status.ts';
import { type UrlPolicy, urlStatusOf } from '../../../../src/controller/functions/url-status.ts';
import { groupsOf } from '../../../../src/controller/functions/worker-groups.ts';
import { functionFixture } from '../../../support/function-fixture.ts';

const open = functionFixture({ spec: { url: { authType: 'NONE', invokeMode: 'BUFFERED' } } });
const signed = functionFixture({ spec: { url: { authType: 'AWS_IAM', invokeMode: 'BUFFERED' } } });
const none: UrlPolicy = { domain: 'fn.example.com', isPublic: () => false };
const some: UrlPolicy = { ...none, isPublic: (namespace: string) => namespace === 'default' };

describe('the URL of a function in its status', () => {
  it.each([
    ['of a function without one', functionFixture(), some, undefined, undefined],
    ['without a domain of the operator', signed, { ...some, domain: undefined }, undefined, 'NoDomain'],
    ['with signatures', signed, none, 'https://hello.default.fn.example.com/', 'Served'],
    ['for everybody, where no label lets that', open, none, undefined, 'PublicForbidden'],
    ['for everybody, where the label lets that', open, some, 'https://hello.default.fn.example.com/', 'Served'],
  ] as const)('%s', (_what, owner, policy, url, reason) => {
    const found = urlStatusOf(owner, policy, undefined);
    expect(found?.url).toBe(url);
    expect(found?.verdict.reason).toBe(reason);
    expect(found?.verdict.status).toBe(reason === undefined ? undefined : url === undefined ? 'False' : 'True');
  });

  it('says which label of the namespace lets everybody call', () => {
    expect(urlStatusOf(open, none, undefined)?.verdict.message).toContain(
      'kubectl label namespace default esb.dev/public-functions=true',
    );
  });

  it('is not served where an older function has the name', () => {
    for (const owner of [open, signed]) {
      const { url, verdict } = urlStatusOf(owner, some, 'first') ?? {};
      expect(url).toBeUndefined();
      expect(verdict).toMatchObject({ status: 'False', reason: 'NameTaken' });
      expect(verdict?.message).toContain('LambdaFunction first is older and has the name hello');
    }
  });

  it('stands beside readiness, and is written at once when it changes', () => {
    const groups = groupsOf({ owner: open, template: '', versions: [], isAwaited: false });
    const of = (policy: UrlPolicy) =>
      statusOf({ owner: open, groups, owned: [], refusal: undefined, isPublishing: false, urls: policy }, 0);
    expect(of(some)).toMatchObject({
      url: 'https://hello.default.fn.example.com/',
      conditions: [{ type: 'Ready' }, { type: 'Reconciling' }, { type: 'UrlServed', status: 'True' }],
    });
    expect(of(none)).not.toHaveProperty('url');
    expect(changeOf(of(some), of(none))).toBe('conditions');
  });
});
