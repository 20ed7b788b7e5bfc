import { describe, expect, it } from 'vitest';
import { type LambdaFunction, templateHashOf } from '../../../../src/api/lambda-function.ts';
import { CHANGE_CAUSE, revisionOf } from '../../../../src/api/template-revision.ts';
import type { KeptTemplate } from '../../../../src/cli/rollout/target.ts';
import { templateToGoBackTo, undoPatch } from '../../../../src/cli/rollout/undo.ts';
import { hasCode } from '../../../../src/common/errors.ts';
import { functionFixture } from '../../../support/function-fixture.ts';

function of(number: number, cause?: string): LambdaFunction {
  const metadata = cause === undefined ? {} : { metadata: { annotations: { [CHANGE_CAUSE]: cause, other: 'x' } } };
  return functionFixture({ image: `registry.example/hello:${number}`, ...metadata });
}

function kept(revision: number, owner: LambdaFunction): KeptTemplate {
  const hash = templateHashOf(owner.spec.template);
  return { revision, hash, kept: revisionOf(owner, hash, revision) };
}

describe('the template that an undo goes back to', () => {
  const all = [kept(1, of(1)), kept(3, of(2)), kept(4, of(3))];

  it('is the latest one that differs from the present template', () => {
    expect(templateToGoBackTo(of(3), all, undefined).revision).toBe(3);
    // The controller has not taken in the change yet.
    expect(templateToGoBackTo(of(4), all, undefined).revision).toBe(4);
    expect(templateToGoBackTo(of(3), all, 1).revision).toBe(1);
  });

  it('is none where none is kept, and where the number is another', () => {
    expect(() => templateToGoBackTo(of(1), [kept(1, of(1))], undefined)).toThrow('no rollout history found');
    expect(() => templateToGoBackTo(of(3), all, 2)).toThrow('revision 2 in history: there is 1, 3, 4');
    expect(() => templateToGoBackTo(of(3), [], 2)).toThrow(
      expect.toSatisfy((error) => hasCode(error, 'NotFound')) as Error,
    );
  });
});

describe('the patch of an undo', () => {
  const path = '/metadata/annotations/kubernetes.io~1change-cause';
  const guards = [
    { op: 'test', path: '/metadata/uid', value: 'uid-of-hello' },
    { op: 'test', path: '/metadata/generation', value: 1 },
  ];
  const template = { op: 'replace', path: '/spec/template', value: of(1).spec.template };

  it('is the template alone where no change has a cause', () => {
    expect(undoPatch(of(2), kept(1, of(1)))).toEqual([...guards, template]);
  });

  it('brings the cause of the template back, and takes that of another away', () => {
    expect(undoPatch(of(2, 'two'), kept(1, of(1, 'one')))).toEqual([
      ...guards,
      template,
      { op: 'add', path, value: 'one' },
    ]);
    expect(undoPatch(of(2, 'two'), kept(1, of(1)))).toEqual([...guards, template, { op: 'remove', path }]);
    expect(undoPatch(of(2), kept(1, of(1, 'one')))).toEqual([
      ...guards,
      template,
      { op: 'add', path: '/metadata/annotations', value: {} },
      { op: 'add', path, value: 'one' },
    ]);
  });
});
