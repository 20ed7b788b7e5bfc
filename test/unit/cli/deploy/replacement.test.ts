import { describe, expect, it } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import { DEPLOY_MANAGER } from '../../../../src/cli/deploy/own-fields.ts';
import { checkReplacement, replacedText } from '../../../../src/cli/deploy/replacement.ts';

const digest = 'sha256:0123456789ab'.padEnd(71, '0');
const folder = {
  namespace: 'team',
  name: 'src',
  handler: 'app.handler',
  target: { registry: 'registry.example', repository: 'team/src' },
};

/** A function that an earlier deploy has made, unless another manager did. */
function deployed(spec: object = {}, manager = DEPLOY_MANAGER, fields: object = { 'f:handler': {} }): LambdaFunction {
  const fieldsV1 = { 'f:spec': { 'f:template': { 'f:spec': { 'f:image': {}, ...fields } } } };
  return {
    metadata: {
      name: 'src',
      namespace: 'team',
      managedFields: [{ manager, operation: 'Apply', time: '2026-11-01T10:00:00Z', fieldsV1 }],
    },
    spec: { template: { spec: { image: `registry.example/team/src@${digest}`, handler: 'app.handler', ...spec } } },
  } as unknown as LambdaFunction;
}

describe('a deploy by the name of its folder alone', () => {
  it.each([
    [
      'another handler',
      { handler: 'lambda_function.lambda_handler' },
      /has the handler lambda_function.lambda_handler/,
    ],
    ['no handler', { handler: undefined }, /has no handler/],
    ['an image elsewhere', { image: `registry.example/other@${digest}` }, /in registry.example\/other/],
  ])('does not replace a function with %s, and says what to write', (_what, spec, message) => {
    expect(() => checkReplacement(deployed(spec), folder, false)).toThrow(message);
    expect(() => checkReplacement(deployed(spec), folder, false)).toThrow(/write --name src/);
    expect(() => checkReplacement(deployed(spec), folder, true)).not.toThrow();
  });

  it('replaces one of the same handler and place', () => {
    expect(() => checkReplacement(deployed(), folder, false)).not.toThrow();
    expect(() => checkReplacement(undefined, folder, false)).not.toThrow();
  });

  it.each([
    ['that has failed at once', true, {}],
    ['that has run', false, { rollout: { state: 'Complete' } }],
    ['whose change has failed', false, { revisions: [{ revision: 1 }, { revision: 2 }] }],
    ['that is on its way', false, { conditions: [] }],
  ])('replaces one of another handler %s: %s', (_what, isReplaced, more) => {
    const stalled = { type: 'Stalled', status: 'True', reason: 'InitFailed', message: '', observedGeneration: 1 };
    const rollout = { state: 'Progressing' };
    const found = deployed({ handler: 'app.handlr' });
    const status = { observedGeneration: 1, conditions: [stalled], revisions: [{ revision: 1 }], rollout, ...more };
    const present = { ...found, metadata: { ...found.metadata, generation: 1 }, status } as unknown as LambdaFunction;
    const check = () => checkReplacement(present, folder, false);
    if (isReplaced) {
      expect(check).not.toThrow();
    } else {
      expect(check).toThrow(/has the handler app.handlr, and this deploy has the handler app.handler/);
    }
  });

  it('leaves it to the API server to refuse what something else has made', () => {
    expect(() => checkReplacement(deployed({ handler: 'x.y' }, 'kubectl'), folder, false)).not.toThrow();
    expect(() => checkReplacement(deployed({ handler: 'x.y' }, DEPLOY_MANAGER, {}), folder, false)).not.toThrow();
  });
});

describe('the code that a deploy replaces', () => {
  const next = `registry.example/team/src@sha256:${'1'.repeat(64)}`;

  it('is told by its digest, and by the time of its deploy', () => {
    expect(replacedText(deployed(), next)).toBe(', in place of 0123456789ab of 2026-11-01T10:00:00Z');
    expect(replacedText(deployed({}, 'kubectl'), next)).toBe(', in place of 0123456789ab');
    expect(replacedText(deployed({ image: 'hello:1' }), next)).toBe(', in place of hello:1 of 2026-11-01T10:00:00Z');
  });

  it('is none of a new function, and of the same code', () => {
    expect(replacedText(undefined, next)).toBe('');
    expect(replacedText(deployed(), `registry.example/team/src@${digest}`)).toBe('');
  });
});
