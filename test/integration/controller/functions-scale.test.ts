import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { runController } from '../../../src/controller/main.ts';
import { controllerFlags } from '../../../src/options/controller.ts';
import { functionManifest } from '../../support/function-manifest.ts';
import { type FunctionServer, startFunctionServer } from '../../support/function-server.ts';
import { optionsOf } from '../../support/options.ts';
import { type Running, running } from '../../support/running.ts';
import { waitFor } from '../../support/wait-for.ts';

const WORKERS = 1_000;
const waiting = { timeoutMs: 120_000, everyMs: 2_000 };

describe(`a LambdaFunction of ${WORKERS} workers on a real API server`, () => {
  let lab: FunctionServer;
  let controller: Running;

  beforeAll(async () => {
    lab = await startFunctionServer({ audit: true });
    const flags = ['--kubeconfig', lab.controllerConfig, '--health', '127.0.0.1:0', '--identity', 'only'];
    controller = running((signal) =>
      runController(optionsOf(controllerFlags, flags), { signal, logger: silentLogger() }),
    );
  });

  afterAll(async () => {
    await controller?.stop();
    await lab?.close();
  });

  /** Requests of the controller about workers themselves, and not about their status, by verb. */
  const requests = (): ReadonlyMap<string, number> => {
    const events = lab.server
      .auditEvents()
      .filter(
        ({ objectRef, stage, user, verb }) =>
          user.username === 'esb:controller' &&
          stage === 'ResponseComplete' &&
          objectRef?.resource === lambdaWorkers.plural &&
          objectRef.subresource === undefined &&
          verb !== 'watch',
      );
    return new Map([...Map.groupBy(events, ({ verb }) => verb)].map(([verb, { length }]) => [verb, length]));
  };
  const scale = async (count: number): Promise<readonly (readonly [string, number])[]> => {
    const before = requests();
    await lab.server.kubectl(['scale', 'lf/wide', `--replicas=${count}`]);
    await waitFor(
      `${count} workers`,
      async () => (await lab.admin.list(lambdaWorkers, { namespace: 'default' })).items.length === count,
      waiting,
    );
    return [...requests()].map(([verb, all]) => [verb, all - (before.get(verb) ?? 0)] as const);
  };

  it('asks for at most two requests for each worker that comes or goes, and lists none', async () => {
    // No node has the label: a worker without a node goes at once.
    const template = { spec: { image: 'hello:1', nodeSelector: { has: 'no-node' } } };
    const spec = { scaling: { mode: 'Fixed', minWorkers: 1 }, template };
    const lists: number[] = [];
    await lab.server.kubectl(['apply', '-f', '-'], functionManifest('wide', spec));
    for (const [from, to] of [
      [1, WORKERS],
      [WORKERS, WORKERS / 2],
      [WORKERS / 2, WORKERS],
    ] as const) {
      const asked = await scale(to);
      const changed = Math.abs(to - from);
      const single = asked.filter(([verb]) => verb !== 'list').reduce((total, [, count]) => total + count, 0);
      lists.push(new Map(asked).get('list') ?? 0);
      // One that leaves is deleted, and then let go of its finalizer.
      expect([to, asked, single <= 2 * changed, single >= changed]).toEqual([to, asked, true, true]);
    }
    expect(lists.slice(1)).toEqual([0, 0]);
  }, 480_000);
});
