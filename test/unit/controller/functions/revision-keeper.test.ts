import { describe, expect, it, onTestFinished } from 'vitest';
import { type LambdaFunction, templateHashOf } from '../../../../src/api/lambda-function.ts';
import { revisionName } from '../../../../src/api/template-revision.ts';
import { controllerRevisions } from '../../../../src/kube/api/resource-types.ts';
import { functionFixture } from '../../../support/function-fixture.ts';
import { apiError, FunctionLab, KEY } from '../../../support/function-lab.ts';
import { waitFor } from '../../../support/wait-for.ts';

describe('templates that are kept', () => {
  const of = (image: number, more: Partial<LambdaFunction['metadata']> = {}) =>
    functionFixture({
      image: `registry.example/hello:${image}`,
      minWorkers: 0,
      metadata: more,
      spec: { revisionHistoryLimit: 1 },
    });
  async function looks(lab: FunctionLab): Promise<readonly string[]> {
    for (let round = 0; round < 3; round += 1) {
      await lab.look();
    }
    return lab.revisions
      .map(({ data, metadata, revision }) => {
        const { image } = (data as LambdaFunction['spec'] & { spec: LambdaFunction['spec'] }).spec.template.spec;
        const cause = metadata.annotations?.['kubernetes.io/change-cause'];
        return [revision, image.slice(-1), ...(cause === undefined ? [] : [cause])].join(' ');
      })
      .toSorted();
  }

  it('are ControllerRevisions of the function, with its words for the change, as many as the limit says', async () => {
    const lab = new FunctionLab();
    lab.apply(of(1));
    expect(await looks(lab)).toEqual(['1 1']);
    expect(lab.revisions[0]?.metadata).toMatchObject({
      labels: { 'esb.dev/lambda-function': 'hello' },
      ownerReferences: [{ kind: 'LambdaFunction', uid: 'uid-of-hello', controller: true }],
    });
    lab.apply(of(2));
    expect(await looks(lab)).toEqual(['1 1', '2 2']);
    // Words come after the change, by kubectl annotate.
    lab.apply(of(2, { annotations: { 'kubernetes.io/change-cause': 'two' } }));
    expect(await looks(lab)).toEqual(['1 1', '2 2 two']);
    lab.apply(of(3));
    expect(await looks(lab)).toEqual(['2 2 two', '3 3 two']);
    lab.apply(of(2));
    expect(await looks(lab)).toEqual(['3 3 two', '4 2 two']);
    expect(lab.owner.status?.revisions?.map(({ revision }) => revision)).toEqual([3, 4]);
  });

  it('are made after their number is written, and again where a leader has ended in between or one is gone', async () => {
    const lab = new FunctionLab();
    lab.apply(of(1));
    const end = lab.refuse('patch lambdafunctions', apiError('Unreachable'));
    await expect(lab.look()).rejects.toThrow();
    expect(lab.revisions).toEqual([]);
    end();
    await lab.look();
    lab.changeLeader();
    expect(await looks(lab)).toEqual(['1 1']);
    lab.clear(controllerRevisions);
    lab.changeLeader();
    expect(await looks(lab)).toEqual(['1 1']);
  });

  it('are read once by a new leader, after the workers were looked at, and not written again', async () => {
    const lab = new FunctionLab();
    await lab.begin(functionFixture());
    lab.changeLeader();
    lab.requests();
    await lab.controller.reconcile(KEY, {});
    expect(lab.requests()).toEqual([]);
    await lab.controller.keepTemplate(KEY, {});
    await lab.look();
    expect(lab.requests()).toEqual(['get controllerrevisions']);
  });

  it('go with their function, and those of a function before it make room', async () => {
    const lab = new FunctionLab();
    lab.apply(of(1));
    await looks(lab);
    lab.controller.start();
    onTestFinished(() => lab.controller.stop());
    lab.remove('hello');
    await waitFor('the end of its revision', () => lab.revisions.length === 0, { everyMs: 5 });

    lab.apply(of(1, { uid: 'earlier' }));
    await waitFor('a revision', () => lab.revisions.length === 1, { everyMs: 5 });
    const [kept] = lab.revisions;
    lab.remove('hello');
    await waitFor('its end', () => lab.revisions.length === 0, { everyMs: 5 });
    await lab.controller.stop();
    // A leader that was away has not seen the end of the function.
    lab.cluster.put(controllerRevisions, kept ?? expect.fail('nothing was kept'));
    lab.changeLeader();
    lab.apply(of(1, { uid: 'later' }));
    await looks(lab);
    expect(lab.revisions.map(({ metadata }) => metadata.ownerReferences?.[0]?.uid)).toEqual(['later']);
  });

  it('are told by an Event where the API server takes none, which makes nothing less ready', async () => {
    const lab = new FunctionLab();
    const owner = functionFixture({ minWorkers: 1 });
    const end = lab.refuse(`create ${revisionName(owner, templateHashOf(owner.spec.template))}`);
    lab.apply(owner);
    await lab.look();
    lab.settle();
    expect(await lab.look()).toEqual({ requeueAfterMs: 30_000 });
    expect(lab.events).toContain('RevisionRefused: not so: Forbidden');
    expect(lab.owner.status?.conditions).toMatchObject([{ reason: 'UpToDate' }]);
    end();
    await lab.clock.advance(30_000);
    await lab.look();
    expect(lab.revisions).toHaveLength(1);
  });
});
