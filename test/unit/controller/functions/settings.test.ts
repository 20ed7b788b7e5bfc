import { describe, expect, it } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import { SETTINGS_ANNOTATION, workerOf } from '../../../../src/api/lambda-function.ts';
import { changedBySettings } from '../../../../src/controller/functions/settings.ts';
import { functionFixture, ownedFixture, sourceOf, versionFixture } from '../../../support/function-fixture.ts';

const asyncInvoke = { maximumRetryAttempts: 0, maximumEventAgeSeconds: 60 };
const plain = functionFixture();
const withTemplate = functionFixture({
  spec: {
    template: {
      spec: { ...plain.spec.template.spec, concurrency: { reserved: 9, queueDepth: 5, perWorker: 2 }, asyncInvoke },
    },
  },
});

/** Function with settings of its own. */
function set(owner: LambdaFunction, settings: Partial<LambdaFunction['spec']>): LambdaFunction {
  return { ...owner, spec: { ...owner.spec, ...settings } };
}

function changed(owner: LambdaFunction, worker = ownedFixture(owner, 0)) {
  return changedBySettings(owner, [{ source: sourceOf(owner) }], worker);
}

describe('the settings of a function', () => {
  it('are those of new workers, in place of those of the template', () => {
    const owner = set(withTemplate, {
      reservedConcurrency: 0,
      asyncInvoke: { ...asyncInvoke, maximumRetryAttempts: 1 },
    });
    const { metadata, spec } = workerOf(owner, 'hello-latest-0', sourceOf(owner));
    expect(spec.concurrency).toEqual({ reserved: 0, queueDepth: 5, perWorker: 2 });
    expect(spec.asyncInvoke).toEqual({ maximumRetryAttempts: 1, maximumEventAgeSeconds: 60 });
    expect(metadata.annotations?.[SETTINGS_ANNOTATION]).toBe('true');
    expect(changed(owner)).toBeUndefined();
  });

  it('go to workers that are there, and nothing else of the function does', () => {
    const worker = ownedFixture(withTemplate, 0);
    const byHand = { ...worker, spec: { ...worker.spec, env: [{ name: 'A', value: 'b' }] } };
    const next = changed(set(withTemplate, { reservedConcurrency: 3 }), byHand);
    expect(next?.spec).toEqual({
      ...byHand.spec,
      concurrency: { reserved: 3, queueDepth: 5, perWorker: 2 },
    });
    expect(next?.metadata.annotations).toEqual({ ...worker.metadata.annotations, [SETTINGS_ANNOTATION]: 'true' });
    expect(next === undefined ? next : changed(set(withTemplate, { reservedConcurrency: 3 }), next)).toBeUndefined();
  });

  it('leave workers those of the template once the function has none any more', () => {
    const made = ownedFixture(set(withTemplate, { reservedConcurrency: 3 }), 0);
    const next = changed(withTemplate, made);
    expect(next?.spec.concurrency).toEqual({ reserved: 9, queueDepth: 5, perWorker: 2 });
    expect(next?.metadata.annotations?.[SETTINGS_ANNOTATION]).toBeUndefined();
    const bare = changed(plain, ownedFixture(set(plain, { reservedConcurrency: 3, asyncInvoke }), 0));
    expect(bare?.spec.concurrency).toEqual({ queueDepth: 100 });
    expect(bare?.spec).not.toHaveProperty('asyncInvoke');
  });

  it('leave workers of a function without settings as they were changed by hand', () => {
    const worker = ownedFixture(plain, 0);
    expect(changed(plain, { ...worker, spec: { ...worker.spec, asyncInvoke } })).toBeUndefined();
  });

  it('hold for versions too, and for no worker of a version that is gone', () => {
    const version = versionFixture(plain, 1);
    const worker = ownedFixture(plain, 0, { version });
    const owner = set(plain, { reservedConcurrency: 3 });
    const groups = [{ source: sourceOf(owner) }, { source: sourceOf(owner, version) }];
    expect(changedBySettings(owner, groups, worker)?.spec).toMatchObject({ version: 1, concurrency: { reserved: 3 } });
    expect(changedBySettings(owner, groups.slice(0, 1), worker)).toBeUndefined();
  });
});
