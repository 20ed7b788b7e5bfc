import { describe, expect, it } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import { functionNameFrom, functionObject, unsetSettings } from '../../../../src/cli/deploy/function-object.ts';
import { DEPLOY_MANAGER } from '../../../../src/cli/deploy/own-fields.ts';

const code = { namespace: 'team', name: 'hello', image: 'registry.example/hello@sha256:0', handler: 'app.handler' };

/** A function with settings, of which some belong to a deploy before. */
function present(owned: object, manager = DEPLOY_MANAGER): LambdaFunction {
  return {
    metadata: {
      name: 'hello',
      managedFields: [
        { manager: 'kubectl-edit', operation: 'Update', fieldsV1: {} },
        { manager, operation: 'Apply', fieldsV1: owned },
      ],
    },
    spec: {
      template: {
        spec: { image: 'old', timeoutSeconds: 9, desiredState: 'Running', resources: { limits: { memory: '256Mi' } } },
      },
      scaling: { minWorkers: 4 },
    },
  } as unknown as LambdaFunction;
}

describe('the object of a function', () => {
  it('has no more than a new function needs, and rests paused', () => {
    expect(functionObject(code, {}, undefined)).toEqual({
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaFunction',
      metadata: { name: 'hello', namespace: 'team' },
      spec: { template: { spec: { image: code.image, handler: 'app.handler', desiredState: 'Paused' } } },
    });
  });

  it('has the settings that are named', () => {
    const settings = {
      memory: '1Gi',
      timeoutSeconds: 30,
      minWorkers: 0,
      desiredState: 'Absent',
      pullSecrets: ['own'],
    } as const;
    expect(functionObject({ ...code, handler: undefined }, settings, undefined)).toMatchObject({
      spec: {
        template: {
          spec: {
            image: code.image,
            timeoutSeconds: 30,
            desiredState: 'Absent',
            resources: { limits: { memory: '1Gi' } },
            imagePullSecrets: [{ name: 'own' }],
          },
        },
        scaling: { minWorkers: 0 },
      },
    });
  });

  it('keeps what an earlier deploy has set', () => {
    const owned = {
      'f:spec': {
        'f:template': {
          'f:spec': { 'f:timeoutSeconds': {}, 'f:resources': { 'f:limits': { 'f:memory': {} } }, 'f:image': {} },
        },
        'f:scaling': { 'f:minWorkers': {} },
      },
    };
    expect(functionObject(code, { timeoutSeconds: 30 }, present(owned))).toMatchObject({
      spec: {
        template: { spec: { timeoutSeconds: 30, resources: { limits: { memory: '256Mi' } } } },
        scaling: { minWorkers: 4 },
      },
    });
  });

  it('leaves out a setting of an earlier deploy, or of a new function, that is no longer wanted', () => {
    const owned = {
      'f:spec': {
        'f:template': { 'f:spec': { 'f:timeoutSeconds': {}, 'f:resources': { 'f:limits': { 'f:memory': {} } } } },
        'f:scaling': { 'f:minWorkers': {} },
      },
    };
    const found = present(owned);
    const text = JSON.stringify(functionObject(code, {}, found, unsetSettings(['timeout', 'workers'], {})));
    expect(text).not.toMatch(/timeoutSeconds|scaling/);
    expect(text).toContain('"memory":"256Mi"');
    const fresh = functionObject(code, {}, undefined, unsetSettings(['desired-state'], {}));
    expect(JSON.stringify(fresh)).not.toContain('desiredState');
  });

  it('takes no setting away that is not known, or is named as well', () => {
    expect(() => unsetSettings(['env'], {})).toThrow(/--unset env: name memory, timeout, workers/);
    expect(() => unsetSettings(['memory'], { memory: '1Gi' })).toThrow(/--memory and --unset memory/);
  });

  it.each([
    ['the fields of an earlier deploy that somebody has taken over', present({ 'f:spec': {} })],
    ['a function that something else has made', present({ 'f:spec': { 'f:scaling': {} } }, 'kubectl')],
  ])('leaves %s as they are', (_, found) => {
    expect(functionObject(code, {}, found)).toMatchObject({
      spec: { template: { spec: { image: code.image, handler: 'app.handler' } } },
    });
    expect(JSON.stringify(functionObject(code, {}, found))).not.toMatch(/timeout|desired|memory|scaling/);
  });
});

describe('the name of a function', () => {
  it.each([
    [undefined, 'Hello World', 'hello-world'],
    [undefined, '_src_', 'src'],
    ['other', 'src', 'other'],
  ])('%s of the folder %s is %s', (given, folder, name) => {
    expect(functionNameFrom(given, folder)).toBe(name);
  });

  it.each([
    [undefined, '…', /makes no name of a function: name it with --name/],
    ['Hello', 'src', /--name Hello is not a name/],
    ['a'.repeat(64), 'src', /is not a name/],
  ])('cannot be %s of %s', (given, folder, message) => {
    expect(() => functionNameFrom(given, folder)).toThrow(message);
  });
});
