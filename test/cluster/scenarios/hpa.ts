import { parse } from 'yaml';
import type { LambdaFunction } from '../../../src/api/lambda-function.ts';
import { textOf } from '../../support/documentation.ts';
import { waitFor } from '../../support/wait-for.ts';
import { type EsbCluster, sampleReference } from '../esb-cluster.ts';
import { type ExternalMetrics, startExternalMetrics } from '../external-metrics.ts';
import { conditionOf } from '../held.ts';
import { expectNoFailure } from '../load.ts';
import type { Report } from '../report.ts';

/** Names of both examples, and of what they are about. */
const NAME = 'orders';
const METRIC = 'queue_messages_ready';
/** The metric's value for each worker. */
const EACH = 10;
/** Looks of the autoscaler within which nothing may change that is to stay. */
const LOOKS = 4;

interface Autoscaler {
  readonly spec: object;
  readonly status?: {
    readonly currentReplicas?: number;
    readonly desiredReplicas: number;
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason: string }[];
  };
}

/** The autoscaler of the cluster moves the least number of a function's workers, by the examples of the how-to. */
export async function hpaScenario(esb: EsbCluster, report: Report): Promise<void> {
  const { lab } = esb;
  const read = async <T>(kind: string): Promise<T> => JSON.parse(await lab.kubectl(['get', kind, NAME, '-o', 'json']));
  const patch = (kind: string, change: object): Promise<string> =>
    lab.kubectl(['patch', kind, NAME, '--type=merge', '-p', JSON.stringify(change)]);
  /** Waits until the function is to have so many workers at least, and has some number of them, all ready. */
  const settled = (floor: number, fewest = floor, most = fewest): Promise<LambdaFunction> =>
    waitFor(
      `${fewest} to ${most} workers of at least ${floor}`,
      async () => {
        const found = await read<LambdaFunction>('lf');
        const { readyWorkers, workers = 0 } = found.status ?? {};
        const told = `least ${found.spec.scaling.minWorkers}, ${readyWorkers} of ${workers} ready`;
        const isRight = workers >= fewest && workers <= most && readyWorkers === workers;
        if (found.spec.scaling.minWorkers !== floor || !isRight) {
          throw new Error(`${told}: ${JSON.stringify(await read('hpa').catch(String))}`);
        }
        return found;
      },
      { timeoutMs: 120_000, everyMs: 500 },
    );
  /** Calls until each of so many workers has answered one. */
  const eachAnswers = async (count: number): Promise<void> => {
    const seen = new Set<unknown>();
    const more = async (): Promise<boolean> => {
      for (const answer of await esb.callAtOnce('node-b', NAME, { sleep: 1 }, count)) {
        seen.add((answer as { readonly bootId: unknown }).bootId);
      }
      return seen.size >= count;
    };
    await waitFor(`answers of ${count} workers`, more, { timeoutMs: 60_000 });
  };
  /** Runs calls meanwhile. */
  const underLoad = async (clients: number, work: () => Promise<string>): Promise<string> => {
    const load = await esb.load('node-b', [NAME], clients, { event: { sleep: 1 } });
    const told = await work().catch(async (error: unknown) => {
      await load.result();
      throw error;
    });
    return `${told}; ${expectNoFailure(await load.result(), clients)}`;
  };
  const looks = async (metrics: ExternalMetrics): Promise<void> => {
    const goal = metrics.asked() + LOOKS;
    await waitFor(`${LOOKS} looks of the autoscaler`, () => metrics.asked() >= goal, { timeoutMs: 60_000 });
  };
  const reasonOf = async (type: string): Promise<string | undefined> =>
    (await read<Autoscaler>('hpa')).status?.conditions?.find((condition) => condition.type === type)?.reason;

  const metrics = await startExternalMetrics(lab, METRIC);
  try {
    await report.check('kubectl scale sets how many workers a function has', async () => {
      const { spec, ...rest } = example<{ readonly spec: LambdaFunction['spec'] }>('function.yaml');
      const { spec: worker } = spec.template;
      const template = { spec: { ...worker, image: sampleReference, ephemeralStorage: '16Mi' } };
      await lab.kubectl(
        ['apply', '-f', '-'],
        JSON.stringify({ ...rest, spec: { scaling: { mode: 'Fixed', minWorkers: 1 }, template } }),
      );
      await settled(1);
      await lab.kubectl(['scale', 'lf', NAME, '--replicas=2', '--current-replicas=1']);
      await settled(2);
      await eachAnswers(2);
      await lab.kubectl(['scale', 'lf', NAME, '--replicas=1']);
      await settled(1);
      return '1, 2, 1';
    });

    await report.check(
      'a HorizontalPodAutoscaler follows an external metric from 1 worker on, up and down',
      async () => {
        metrics.set(EACH / 2);
        const autoscaler = example<Autoscaler>('autoscaler.yaml');
        const behavior = { scaleDown: { stabilizationWindowSeconds: 4 } };
        const spec = { ...autoscaler.spec, behavior };
        await lab.kubectl(['apply', '-f', '-'], JSON.stringify({ ...autoscaler, spec }));
        await conditionOf(esb, `hpa/${NAME}`, 'ScalingActive', 'True');
        return await underLoad(2, async () => {
          await looks(metrics);
          await settled(1);
          metrics.set(4 * EACH);
          await settled(4);
          await eachAnswers(4);
          metrics.set(2 * EACH);
          await settled(2);
          metrics.set(0);
          await settled(1);
          return '1, 4, 2, 1';
        });
      },
    );

    await report.check(
      'in the mode Auto calls bring up more than the least, which the autoscaler alone moves',
      async () => {
        metrics.set(2 * EACH);
        await patch('lf', { spec: { scaling: { mode: 'Auto', maxWorkers: 6, scaleDownDelaySeconds: 5 } } });
        await settled(2);
        const told = await underLoad(4, async () => {
          // Four for the calls, and a spare one. Where gateways tell of calls late, a fifth may seem to be there.
          const { generation } = (await settled(2, 5, 6)).metadata;
          await looks(metrics);
          const { metadata } = await settled(2, 5, 6);
          const { status } = await read<Autoscaler>('hpa');
          if (metadata.generation !== generation || status?.currentReplicas !== 2 || status.desiredReplicas !== 2) {
            throw new Error(`generation ${generation} to ${metadata.generation}: ${JSON.stringify(status)}`);
          }
          metrics.set(3 * EACH);
          await settled(3, 5, 6);
          metrics.set(6 * EACH);
          await settled(6);
          metrics.set(3 * EACH);
          await settled(3, 5, 6);
          return 'with four callers 5 or 6 workers of at least 2, 3, 6 and 3';
        });
        await settled(3);
        metrics.set(0);
        await settled(1);
        return `${told}; without callers 3, and 1`;
      },
    );

    await report.check('an autoscaler that cannot do its part says so, and no worker comes or goes', async () => {
      await patch('lf', { spec: { scaling: { maxWorkers: 2 } } });
      metrics.set(3 * EACH);
      await conditionOf(esb, `hpa/${NAME}`, 'AbleToScale', 'False');
      const tooMany = await reasonOf('AbleToScale');
      await settled(1);
      metrics.set(2 * EACH);
      await settled(2);
      const target = { type: 'Value', value: String(EACH) };
      const { metrics: given } = example<{ readonly spec: { readonly metrics: readonly External[] } }>(
        'autoscaler.yaml',
      ).spec;
      metrics.set(6 * EACH);
      await patch('hpa', {
        spec: { metrics: given.map((one) => ({ ...one, external: { ...one.external, target } })) },
      });
      await conditionOf(esb, `hpa/${NAME}`, 'ScalingActive', 'False');
      const noPods = await reasonOf('ScalingActive');
      await looks(metrics);
      await settled(2);
      return `${tooMany} beyond maxWorkers, ${noPods} with a target that counts Pods`;
    });
  } finally {
    await lab.kubectl(['delete', 'hpa', NAME, '--ignore-not-found']);
    await lab.kubectl(['delete', 'lf', NAME, '--ignore-not-found', '--timeout=120s']);
    await metrics.stop();
  }
}

interface External {
  readonly external: object;
}

function example<T>(name: string): T {
  return parse(textOf(`examples/autoscaling/${name}`)) as T;
}
