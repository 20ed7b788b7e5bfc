import { describe, expect, it } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import type { LambdaVersion } from '../../../../src/api/lambda-version.ts';
import { planPublication } from '../../../../src/controller/functions/publication.ts';
import {
  condition,
  digestImage,
  functionFixture,
  ownedFixture,
  sourceOf,
  versionFixture,
} from '../../../support/function-fixture.ts';

const image = digestImage(7);
const running = { status: { image } };

interface Known {
  readonly versions?: readonly LambdaVersion[];
  readonly highest?: number;
  readonly digit?: number;
}

/** The next step where both workers run one image, and the rollout of the template is complete. */
function step(owner: LambdaFunction, { digit = 7, highest = 0, versions = [] }: Known = {}) {
  const latest = [0, 1].map((ordinal) => ownedFixture(owner, ordinal, { status: { image: digestImage(digit) } }));
  const template = sourceOf(owner).hash;
  const rollout = { template, state: 'Complete', readyWorkers: 2, lastProgressTime: '2026-11-01T00:00:00Z' } as const;
  const settled = { ...owner, status: { ...owner.status, rollout } };
  return planPublication({ owner: settled, template, latest, versions, highest });
}

const asked = (token: string, status: LambdaFunction['status'] = {}) =>
  functionFixture({ spec: { publishToken: token }, status });
const hash = sourceOf(functionFixture()).hash;

describe('planPublication', () => {
  it('publishes nothing unasked, and nothing of a function that is being deleted', () => {
    expect(step(functionFixture())).toEqual({ kind: 'none' });
    const going = asked('a');
    const metadata = { ...going.metadata, deletionTimestamp: '2026-11-01T01:00:00Z' };
    expect(step({ ...going, metadata })).toEqual({ kind: 'none' });
  });

  it('gives the first number away for a new token, with the digest that a ready worker runs', () => {
    expect(step(asked('a'))).toEqual({
      kind: 'reserve',
      content: { version: 1, template: hash, image },
      token: 'a',
    });
  });

  it('waits for a worker of the present template that is ready and whose digest is known', () => {
    const owner = asked('a');
    const plan = (latest: Parameters<typeof planPublication>[0]['latest']) =>
      planPublication({ owner, template: hash, latest, versions: [], highest: 0 }).kind;
    expect(plan([])).toBe('wait');
    expect(plan([ownedFixture(owner, 0)])).toBe('wait');
    expect(plan([ownedFixture(functionFixture({ image: 'other:1' }), 0, running)])).toBe('wait');
    const unready = { status: { image, conditions: [condition('Ready', 'False', 'Creating')] } };
    expect(plan([ownedFixture(owner, 0, unready)])).toBe('wait');
    expect(plan([ownedFixture(owner, 0, unready), ownedFixture(owner, 1, running)])).toBe('reserve');
  });

  it('takes the digest that the template names where no worker has run, as of workers that rest Absent', () => {
    const plan = (name: string, ...conditions: readonly ReturnType<typeof condition>[]) => {
      const owner = functionFixture({ image: name, spec: { publishToken: 'a' } });
      const latest = [ownedFixture(owner, 0, { status: { phase: 'Absent', conditions: [...conditions] } })];
      return planPublication({ owner, template: sourceOf(owner).hash, latest, versions: [], highest: 0 });
    };
    expect(plan(image, condition('Ready', 'True', 'Absent'))).toMatchObject({ kind: 'reserve', content: { image } });
    expect(plan(image, condition('Ready', 'False', 'ImageNotFound'))).toEqual({ kind: 'wait' });
    expect(plan('registry.example/hello:1', condition('Ready', 'True', 'Absent'))).toEqual({ kind: 'wait' });
  });

  it('makes what was given a number, and nothing else under it', () => {
    const creating = asked('a', {
      latestVersion: 4,
      publication: { template: hash, image, token: 'a', state: 'Creating' },
    });
    expect(step(creating, { digit: 8 })).toEqual({ kind: 'create', content: { version: 4, template: hash, image } });
    const changed = {
      ...creating,
      spec: { ...creating.spec, template: functionFixture({ image: 'b:2' }).spec.template },
    };
    expect(step(changed)).toEqual({ kind: 'drop' });
    expect(step(changed, { versions: [versionFixture(changed, 4)] })).toEqual({ kind: 'complete' });
  });

  describe('after the fourth version', () => {
    const status = { latestVersion: 4, publication: { template: hash, image, token: 'a', state: 'Created' } } as const;
    const versions = [versionFixture(functionFixture(), 4)];

    it('publishes once for each token', () => {
      expect(step(asked('a', status), { versions })).toEqual({ kind: 'none' });
    });

    it('publishes nothing where neither the template nor the digest has changed', () => {
      expect(step(asked('b', status), { versions })).toEqual({ kind: 'settle', template: hash, token: 'b' });
      expect(step(asked('b', status), { versions, digit: 8 })).toMatchObject({
        kind: 'reserve',
        content: { version: 5 },
      });
    });

    it('publishes nothing where a new default, or another name of the image, alone makes the template another', () => {
      // The API server gives a default of a later schema to functions and versions alike.
      const spec = { publish: 'OnChange' } as const;
      const named = functionFixture({ image: 'registry.example/hello:2', spec, status });
      const template = { spec: { ...named.spec.template.spec, description: 'by default' } } as never;
      const owner = { ...named, spec: { ...named.spec, template } };
      const defaulted = [versionFixture(owner, 4)];
      const settled = { kind: 'settle', template: sourceOf(owner).hash, token: undefined };
      expect(step(owner, { versions: defaulted })).toEqual(settled);
      expect(step(owner, { versions, digit: 7 })).toEqual(settled);
      expect(step(owner, { versions: defaulted, digit: 8 })).toMatchObject({ kind: 'reserve' });
    });

    it('gives no number twice, even where the version of the last one, or of another owner, is gone or there', () => {
      expect(step(asked('b', status))).toMatchObject({ kind: 'reserve', content: { version: 5 } });
      expect(step(asked('b', status), { highest: 8 })).toMatchObject({ content: { version: 9 } });
    });

    it('publishes each change where that is wished, once its rollout is complete, be further workers ready or not', () => {
      const spec = { publish: 'OnChange' } as const;
      expect(step(functionFixture({ spec, status }), { versions })).toEqual({ kind: 'none' });
      const next = functionFixture({ image: 'registry.example/hello:2', spec });
      const template = sourceOf(next).hash;
      const plan = (state: 'Complete' | 'Progressing' | 'Stopped', of = template) => {
        const rollout = { template: of, state, readyWorkers: 1, lastProgressTime: '2026-11-01T00:00:00Z' };
        const unready = { status: { conditions: [condition('Ready', 'False', 'NoneFits')] } };
        const latest = [ownedFixture(next, 0, { status: { image: digestImage(8) } }), ownedFixture(next, 1, unready)];
        const owner = { ...next, status: { ...status, rollout } };
        return planPublication({ owner, template, latest, versions, highest: 4 });
      };
      expect(plan('Complete')).toMatchObject({ kind: 'reserve', content: { version: 5 }, token: undefined });
      expect(plan('Progressing')).toEqual({ kind: 'wait' });
      expect(plan('Stopped')).toEqual({ kind: 'wait' });
      expect(plan('Complete', 'of the template before')).toEqual({ kind: 'wait' });
    });
  });
});
