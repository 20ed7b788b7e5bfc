import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type LambdaFunction, lambdaFunctions } from '../../../src/api/lambda-function.ts';
import { type LambdaWorker, lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { revisionOf } from '../../../src/api/template-revision.ts';
import { runHistory } from '../../../src/cli/rollout/history.ts';
import { runStatus } from '../../../src/cli/rollout/status.ts';
import { runUndo } from '../../../src/cli/rollout/undo.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { runController } from '../../../src/controller/main.ts';
import { controllerRevisions } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { ListWatchInformer } from '../../../src/kube/cache/informer.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { controllerFlags } from '../../../src/options/controller.ts';
import type { ApiServer } from '../../support/api-server.ts';
import { startCalledFunction } from '../../support/called-function.ts';
import { clearObjects } from '../../support/clear-objects.ts';
import type { FakeNode } from '../../support/fake-node.ts';
import { fastClock } from '../../support/fast-clock.ts';
import { functionManifest } from '../../support/function-manifest.ts';
import { type FunctionServer, startFunctionServer } from '../../support/function-server.ts';
import { optionsOf } from '../../support/options.ts';
import { type Running, running } from '../../support/running.ts';
import { waitFor } from '../../support/wait-for.ts';

const clock = fastClock(4);

describe('a change of a LambdaFunction, with the roles and policies of the manifests', () => {
  let lab: FunctionServer;
  let server: ApiServer;
  let admin: KubeClient;
  let controllerConfig: string;
  let node: FakeNode;
  let controller: Running;

  const startController = (identity: string): Running =>
    running((signal) => {
      const flags = ['--kubeconfig', controllerConfig, '--health', '127.0.0.1:0', '--identity', identity];
      return runController(optionsOf(controllerFlags, flags), { signal, logger: silentLogger() }, clock);
    });

  beforeAll(async () => {
    lab = await startFunctionServer();
    ({ admin, controllerConfig, node, server } = lab);
    controller = startController('first');
  });

  afterEach(async () => {
    await clearObjects(admin, lambdaFunctions);
    await clearObjects(admin, lambdaWorkers);
    // A cluster removes those of which no controller has heard.
    await clearObjects(admin, controllerRevisions);
  });

  afterAll(async () => {
    await controller?.stop();
    await lab?.close();
  });

  const apply = (name: string, image: string, minWorkers: number, spec: object = {}) =>
    server.kubectl(
      ['apply', '-f', '-'],
      functionManifest(name, { scaling: { mode: 'Fixed', minWorkers }, template: { spec: { image } }, ...spec }),
    );
  const workers = async (): Promise<readonly LambdaWorker[]> =>
    (await admin.list(lambdaWorkers, { namespace: 'default' })).items;
  const when = (name: string, what: string, test: (owner: LambdaFunction) => boolean) =>
    waitFor(`${name}: ${what}`, async () => {
      const owner = await admin.get(lambdaFunctions, { namespace: 'default', name });
      return owner !== undefined && owner.status?.observedGeneration === owner.metadata.generation && test(owner)
        ? owner
        : undefined;
    });
  const is = (name: string, reason: string): Promise<LambdaFunction> =>
    when(name, reason, ({ status }) => status?.conditions?.[0]?.reason === reason);
  /** Has the agents of these workers tell that they run as they are to. */
  const run = (chosen: readonly LambdaWorker[]): Promise<unknown> =>
    Promise.all(chosen.map((worker) => node.report(worker, 'Running', { status: 'True', reason: 'Running' })));
  const assigned = (count: number) =>
    waitFor(`${count} workers to have a node`, async () => {
      const found = (await workers()).filter(({ status }) => status?.assignment !== undefined);
      return found.length === count ? found : undefined;
    });
  const ofImage = async (image: string): Promise<readonly LambdaWorker[]> =>
    (await workers()).filter(({ spec }) => spec.image === image);
  const have = (image: string, count: number): Promise<readonly LambdaWorker[]> =>
    waitFor(`${count} workers of ${image}`, async () => {
      const found = await ofImage(image);
      return found.length === count ? found : undefined;
    });
  /** Has the agent of a worker tell that its new container does not come, and that the one before serves. */
  const hang = async ({ metadata }: LambdaWorker, isCallable: boolean): Promise<void> => {
    const time = { lastTransitionTime: '2026-11-01T00:00:00Z', message: 'no room' };
    const conditions = [
      { type: 'Ready', status: 'False', reason: 'NodeFull', ...time },
      { type: 'Callable', status: isCallable ? 'True' : 'False', reason: 'NodeFull', ...time },
    ];
    const body = { status: { phase: 'Running', observedGeneration: metadata.generation, conditions } };
    await admin.patch(
      lambdaWorkers,
      { namespace: 'default', name: metadata.name },
      { kind: 'apply', fieldManager: 'esb-agent', body },
      { subresource: 'status' },
    );
  };
  const revisions = async (): Promise<readonly string[]> =>
    (await admin.list(controllerRevisions, { namespace: 'default' })).items
      .filter(({ metadata }) => metadata.ownerReferences?.some(({ kind }) => kind === 'LambdaFunction') === true)
      .map(({ data, revision }) => {
        const { spec } = data as Pick<LambdaFunction, 'spec'>;
        return `${revision} ${spec.template.spec.image}`;
      })
      .toSorted();
  /** The output of a command. */
  const shown = async (
    command: typeof runHistory | typeof runStatus | typeof runUndo,
    name: string,
    more: object = {},
  ): Promise<string> => {
    let text = '';
    const write = (part: string): void => {
      text += part;
    };
    const usual = { namespace: 'default', kubeconfig: server.adminKubeconfig, watch: true, timeout: 60 };
    await command({ ...usual, name, ...more }, { signal: AbortSignal.timeout(60_000), write });
    return text;
  };
  const hash = async (name: string): Promise<string | undefined> => {
    const owner = await admin.get(lambdaFunctions, { namespace: 'default', name });
    return owner?.status?.revisions?.at(-1)?.template;
  };

  it('goes to as many workers at a time as maxSurge says, also where controllers end in the middle of it', async () => {
    await apply('wide', 'hello:1', 8);
    await run(await assigned(8));
    await is('wide', 'UpToDate');
    await apply('wide', 'hello:2', 8);
    const seen = new Set<string>();
    for (let begun = 2; begun <= 8; begun += 1) {
      const next = await have('hello:2', begun);
      // Nothing may happen meanwhile.
      await delay(300);
      expect(await ofImage('hello:2')).toHaveLength(begun);
      const fresh = next.filter(({ metadata }) => !seen.has(metadata.name));
      const [one] = fresh;
      if (one === undefined) {
        throw new Error('no worker is changing');
      }
      if (begun % 3 === 0) {
        await controller.stop();
        controller = startController(`wide-${begun}`);
      }
      seen.add(one.metadata.name);
      await run([one]);
    }
    await run(await workers());
    await is('wide', 'UpToDate');
    expect(await shown(runStatus, 'lf/wide')).toBe('lambdafunction "wide" successfully rolled out\n');
  }, 120_000);

  it('keeps to its budget and comes to its end, however often controllers end in the middle of it', async () => {
    const rollout = { maxSurge: 2, maxUnavailable: 0 };
    await apply('storm', 'hello:0', 8, { rollout });
    await run(await assigned(8));
    await is('storm', 'UpToDate');
    const scope = { namespace: 'default' };
    const informer = new ListWatchInformer<LambdaWorker>(admin, lambdaWorkers, scope, { logger: silentLogger() });
    /** Workers whose agents have not seen their last change. */
    const changing = (): readonly LambdaWorker[] =>
      informer.cache.list().filter(({ metadata, status }) => metadata.generation !== status?.observedGeneration);
    let most = 0;
    informer.start();
    await informer.synced();
    informer.subscribe(() => {
      most = Math.max(most, changing().length);
    });
    let isOver = false;
    const agent = (async () => {
      while (!isOver) {
        const chosen = changing().toSorted(() => Math.random() - 0.5);
        // The part that the test plays takes as long.
        await delay(Math.random() * 150);
        await run(chosen.slice(0, 1 + Math.round(Math.random())));
      }
    })();
    try {
      for (let change = 1; change <= 8; change += 1) {
        await apply('storm', `hello:${change}`, 8, { rollout });
        for (const end of ['one', 'other']) {
          // Faults and calls come at any moment.
          await delay(Math.random() * 500);
          await controller.stop();
          controller = startController(`storm-${change}-${end}`);
        }
        // Every other change comes in the middle of the one before.
        if (change % 2 === 0) {
          await have(`hello:${change}`, 8);
        }
      }
      await is('storm', 'UpToDate');
    } finally {
      isOver = true;
      await agent;
      await informer.stop();
    }
    expect(most).toBe(2);
  }, 180_000);

  it('goes past a worker that no node has room for where maxUnavailable lets it, and not without', async () => {
    const lenient = { rollout: { maxSurge: 1, maxUnavailable: 1 } };
    await apply('full', 'hello:1', 4, lenient);
    await run(await assigned(4));
    await is('full', 'UpToDate');
    await apply('full', 'hello:2', 4, lenient);
    const [one, other] = await have('hello:2', 2);
    await hang(one as LambdaWorker, false);
    await run([other as LambdaWorker]);
    const third = await have('hello:2', 3);
    await apply('full', 'hello:2', 4, { rollout: { maxSurge: 1, maxUnavailable: 0 } });
    await run(third.filter(({ metadata }) => metadata.name !== one?.metadata.name));
    await when('full', 'the second budget', ({ status }) => status?.conditions?.[0]?.reason === 'Progressing');
    // Nothing may happen meanwhile.
    await delay(1_000);
    expect(await ofImage('hello:2')).toHaveLength(3);
    await run(third);
    await run(await have('hello:2', 4));
    await is('full', 'UpToDate');
  });

  it('stops at the deadline, also by the next leader, is undone, and goes on where a late worker comes after all', async () => {
    const short = { rollout: { progressDeadlineSeconds: 4 } };
    await apply('late', 'hello:1', 3, short);
    await run(await assigned(3));
    await is('late', 'UpToDate');
    await server.kubectl(['annotate', 'lf', 'late', 'kubernetes.io/change-cause=the first']);
    await waitFor('the words of the first change', async () => (await shown(runHistory, 'late')).includes('the first'));
    await apply('late', 'hello:2', 3, short);
    await server.kubectl(['annotate', '--overwrite', 'lf', 'late', 'kubernetes.io/change-cause=more room']);
    const [hung] = await have('hello:2', 1);
    await hang(hung as LambdaWorker, true);
    await controller.stop();
    controller = startController('late');
    const stopped = await is('late', 'ProgressDeadlineExceeded');
    expect(stopped.status?.conditions).toMatchObject([
      { type: 'Ready', status: 'False' },
      { type: 'Stalled', status: 'True', reason: 'ProgressDeadlineExceeded' },
    ]);
    expect(stopped.status?.conditions?.[1]?.message).toContain(`${hung?.metadata.name}: NodeFull: no room`);
    await expect(shown(runStatus, 'late')).rejects.toMatchObject({
      code: 'NotDeployed',
      message: expect.stringContaining('ProgressDeadlineExceeded') as string,
    });
    const lines = (await shown(runHistory, 'late')).trim().split('\n');
    expect(lines[0]).toMatch(/^REVISION +IMAGE +AGE +CHANGE-CAUSE$/);
    expect(lines[1]).toMatch(/^1 +hello:1 +\d+ s ago +the first$/);
    expect(lines[2]).toMatch(/^2 +hello:2 +\d+ s ago +more room$/);
    expect(lines).toHaveLength(3);
    expect(await shown(runHistory, 'late', { revision: 2 })).toContain('image: hello:2');
    await expect(shown(runUndo, 'late', { toRevision: 7 })).rejects.toThrow('revision 7 in history: there is 1, 2');

    expect(await shown(runUndo, 'late')).toBe('lambdafunction.esb.dev/late rolled back to revision 1\n');
    await run(await have('hello:1', 3));
    await is('late', 'UpToDate');
    await waitFor('the numbers', async () => (await revisions()).join() === '2 hello:2,3 hello:1');
    expect((await shown(runHistory, 'late')).trim().split('\n').at(-1)).toMatch(/^3 +hello:1 .* the first$/);
    expect(await shown(runUndo, 'late', { toRevision: 3 })).toContain('already matches revision 3');
    // Another way back, in the middle of the change.
    await shown(runUndo, 'late', { toRevision: 2 });
    await have('hello:2', 1);
    await shown(runUndo, 'late');
    await run(await have('hello:1', 3));
    await is('late', 'UpToDate');

    await apply('late', 'hello:3', 3, short);
    const [pulling] = await have('hello:3', 1);
    await hang(pulling as LambdaWorker, true);
    await is('late', 'ProgressDeadlineExceeded');
    for (let count = 1; count <= 3; count += 1) {
      await run(await have('hello:3', count));
    }
    await is('late', 'UpToDate');
  }, 120_000);

  it('leaves growth to the template of before where it fails, and 40 calls at once to it, also by the next leader', async () => {
    const rollout = { progressDeadlineSeconds: 4 };
    await apply('grown', 'hello:1', 4, { rollout });
    await run(await assigned(4));
    await is('grown', 'UpToDate');
    const called = await startCalledFunction(lab, 'grown', 40);
    onTestFinished(() => called.stop());
    await called.more();
    await apply('grown', 'hello:bad', 4, { rollout });
    const [bad] = await have('hello:bad', 1);
    await hang(bad as LambdaWorker, true);
    await called.more();
    await is('grown', 'ProgressDeadlineExceeded');
    await controller.stop();
    await called.more();
    controller = startController('grown');
    await server.kubectl(['scale', 'lf', 'grown', '--replicas=12']);
    await run((await assigned(12)).filter(({ spec }) => spec.image === 'hello:1'));
    await is('grown', 'ProgressDeadlineExceeded');
    expect(await ofImage('hello:1')).toHaveLength(11);
    expect(await ofImage('hello:bad')).toHaveLength(1);
    await called.more();
    expect(called.answered).toEqual({ 'hello:1': expect.any(Number) });
    await apply('grown', 'hello:2', 12, { rollout: { maxSurge: '100%' } });
    await run(await have('hello:2', 12));
    await is('grown', 'UpToDate');
    await called.more();
    await called.stop();
    expect(called.failed).toEqual([]);
    expect(Object.keys(called.answered).toSorted()).toEqual(['hello:1', 'hello:2']);
  }, 120_000);

  it('is not undone to a template that differs by a default alone, and says so', async () => {
    await apply('same', 'hello:1', 0);
    const owner = await when('same', 'its revision', ({ status }) => status?.revisions?.length === 1);
    await controller.stop();
    try {
      const template = 'feedfeedfeedfeed';
      const older = revisionOf(owner, template, 1);
      // A template of a time before the field had a default.
      const spec: Record<string, unknown> = { ...owner.spec.template.spec };
      expect(spec.timeoutSeconds).toBeDefined();
      delete spec.timeoutSeconds;
      await admin.create(controllerRevisions, { ...older, data: { spec: { template: { spec } } } });
      const [present] = owner.status?.revisions ?? [];
      const kept = [
        { ...present, revision: 1, template },
        { ...present, revision: 2 },
      ];
      const patch = { kind: 'merge', body: { status: { revisions: kept } } } as const;
      await admin.patch(lambdaFunctions, { namespace: 'default', name: 'same' }, patch, { subresource: 'status' });
      expect(await shown(runUndo, 'same')).toBe(
        'lambdafunction.esb.dev/same skipped rollback (current template already matches revision 1)\n',
      );
    } finally {
      controller = startController('same');
    }
  });

  it('gives workers the settings of the function, and takes them away again', async () => {
    const reserved = (count: number | undefined) =>
      waitFor(`reserved: ${count}`, async () => {
        const found = await workers();
        return found.length === 1 && found[0]?.spec.concurrency?.reserved === count;
      });
    await apply('set', 'hello:1', 1, { reservedConcurrency: 3 });
    await reserved(3);
    await apply('set', 'hello:1', 1, { reservedConcurrency: 4 });
    await reserved(4);
    await apply('set', 'hello:1', 1);
    await reserved(undefined);
  });

  it('keeps as many earlier templates as revisionHistoryLimit says, until the function is gone', async () => {
    for (let number = 1; number <= 4; number += 1) {
      await apply('kept', `hello:${number}`, 0, { revisionHistoryLimit: 2 });
      await waitFor(`revision ${number}`, async () => (await revisions()).at(-1) === `${number} hello:${number}`);
    }
    await waitFor('three revisions', async () => (await revisions()).join() === '2 hello:2,3 hello:3,4 hello:4');
    const [name = ''] = (await admin.list(controllerRevisions, { namespace: 'default' })).items.map(
      ({ metadata }) => metadata.name,
    );
    expect(name).toMatch(/^kept-[0-9a-f]{16}$/);
    await admin.delete(controllerRevisions, { namespace: 'default', name: `kept-${await hash('kept')}` });
    await controller.stop();
    controller = startController('kept');
    await waitFor('it to be there again', async () => (await revisions()).at(-1) === '4 hello:4');
    await server.kubectl(['delete', 'lf', 'kept']);
    await waitFor('their end', async () => (await revisions()).length === 0);
  });

  it('gives the controller no right to ControllerRevisions of others', async () => {
    const controller = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: controllerConfig }) });
    const key = { namespace: 'default', name: 'of-a-set' };
    const owner = { apiVersion: 'apps/v1', kind: 'StatefulSet', name: 'set', uid: 'some', controller: true };
    const made = { metadata: { ...key, ownerReferences: [owner] }, revision: 1, data: {} };
    try {
      await admin.create(controllerRevisions, made);
      const told = { code: 'Forbidden', message: expect.stringContaining('of a LambdaFunction alone') as string };
      await expect(controller.delete(controllerRevisions, key)).rejects.toMatchObject(told);
      const body = { revision: 2 };
      await expect(controller.patch(controllerRevisions, key, { kind: 'merge', body })).rejects.toMatchObject(told);
      const other = { ...made, metadata: { namespace: 'default', name: 'other' } };
      await expect(controller.create(controllerRevisions, other)).rejects.toMatchObject(told);
      await expect(controller.list(controllerRevisions, { namespace: 'default' })).rejects.toMatchObject({
        code: 'Forbidden',
      });
    } finally {
      await admin.delete(controllerRevisions, key);
      await controller.close();
    }
  });
});
