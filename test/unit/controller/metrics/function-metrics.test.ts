import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { registerFunctionMetrics } from '../../../../src/controller/metrics/function-metrics.ts';
import { functionFixture, ownedFixture } from '../../../support/function-fixture.ts';
import { nodeFixture, workerFixture } from '../../../support/worker-fixture.ts';

const condition = (type: string, status: 'True' | 'False', reason = type) => ({
  type,
  status,
  reason,
  message: '',
  lastTransitionTime: '2026-11-01T00:00:00Z',
});
/** Callers know it by another name. */
const hello = functionFixture({ spec: { functionName: 'greeting' } });
const worker = (ordinal: number, ...conditions: readonly ReturnType<typeof condition>[]): LambdaWorker => ({
  ...ownedFixture(hello, ordinal),
  status: { conditions },
});

async function linesOf(isLeader: boolean): Promise<readonly string[]> {
  const registry = new Registry();
  const status: NonNullable<LambdaFunction['status']> = {
    rollout: { template: 'one', state: 'Stopped', readyWorkers: 0, lastProgressTime: '2026-11-01T00:00:00Z' },
    conditions: [condition('Degraded', 'True'), condition('ScalingActive', 'False', 'NoGatewayHeard')],
  };
  registerFunctionMetrics(registry, {
    functions: () => [{ ...hello, status }],
    workers: () => [
      worker(1, condition('Ready', 'True')),
      worker(2, condition('Stalled', 'True')),
      worker(3, condition('Scheduled', 'False', 'NoneFits')),
      workerFixture({ name: 'alone', spec: { functionName: 'hello' } }),
    ],
    nodes: () => [nodeFixture({ status: { conditions: [condition('Unheld', 'True')] } }), nodeFixture()],
    isLeader: () => isLeader,
  });
  return (await registry.metrics()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

describe('the metrics of functions', () => {
  it('tell how many workers a function has and how these are, its troubles, who waits and what is closed', async () => {
    expect((await linesOf(true)).toSorted()).toEqual([
      'esb_function_troubles{namespace="default",function="hello",trouble="Degraded"} 1',
      'esb_function_troubles{namespace="default",function="hello",trouble="DemandUnheard"} 1',
      'esb_function_troubles{namespace="default",function="hello",trouble="RolloutStopped"} 1',
      'esb_function_workers{namespace="default",function="hello",state="ready"} 1',
      'esb_function_workers{namespace="default",function="hello",state="stalled"} 1',
      'esb_function_workers{namespace="default",function="hello",state="wanted"} 3',
      'esb_nodes_closed{reason="unheld"} 1',
      'esb_workers_waiting{reason="NoneFits"} 1',
    ]);
  });

  it('are told by the leader alone', async () => {
    expect(await linesOf(false)).toEqual([]);
  });
});
