import { describe, expect, it } from 'vitest';
import { type LambdaWorker, lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { startFakeApiServer } from '../../support/fake-api-server.ts';
import { WorkerFollower } from '../../support/scale/worker-follower.ts';

const message = 'no node will do: all not ready';

function worker(name: string, status: LambdaWorker['status']): LambdaWorker {
  return { metadata: { name, namespace: 'default' }, spec: { image: 'registry.example/f:1' }, status } as LambdaWorker;
}

function waiting(type: string): LambdaWorker['status'] {
  const lastTransitionTime = '2026-01-01T00:00:00Z';
  return { conditions: [{ type, status: 'False', reason: 'NoneReady', message, lastTransitionTime }] };
}

const assigned: LambdaWorker['status'] = { assignment: { nodeName: 'node-1', epoch: 1 } };

describe('the wait for workers of a scale test', () => {
  it('goes on while they come', async () => {
    await followed(async (follower, put) => {
      put(worker('one', waiting('Scheduled')));
      const all = follower.untilAssigned(3, { stalledMs: 1_000 });
      for (const name of ['one', 'two', 'three']) {
        // The time is what is tested.
        await new Promise((resolve) => setTimeout(resolve, 500));
        put(worker(name, assigned));
      }
      await all;
      expect(follower.assigned).toBe(3);
    });
  });

  it('ends with their words where no more come', async () => {
    await followed(async (follower, put) => {
      put(worker('one', assigned));
      put(worker('two', waiting('Scheduled')));
      put(worker('three', waiting('Scheduled')));
      await expect(follower.untilAssigned(3, { stalledMs: 300 })).rejects.toThrow(
        `1 of 3 workers are assigned, and no more for 300 ms: 2 say Scheduled NoneReady (${message})`,
      );
      put(worker('one', { ...assigned, ...waiting('Ready'), phase: 'Pending' }));
      await expect(follower.untilRested(3, { stalledMs: 300 })).rejects.toThrow(
        `0 of 3 workers are rested, and no more for 300 ms: 2 say Scheduled NoneReady (${message}); 1 say Ready`,
      );
    });
  });

  it('ends at once where none will come any more', async () => {
    await followed(async (follower) => {
      const check = (): void => {
        throw new Error('the controller ended');
      };
      await expect(follower.untilAssigned(1, { check })).rejects.toThrow('the controller ended');
    });
  });
});

async function followed(
  use: (follower: WorkerFollower, put: (worker: LambdaWorker) => void) => Promise<void>,
): Promise<void> {
  const server = await startFakeApiServer();
  const client = createKubeClient({ source: server.source });
  const follower = await WorkerFollower.start(client);
  try {
    await use(follower, (one) => server.put(lambdaWorkers, one));
  } finally {
    await follower.stop();
    await client.close();
    await server.stop();
  }
}
