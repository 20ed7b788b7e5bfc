import { isReadinessTaken } from '../../src/api/condition.ts';
import { type LambdaNode, type LambdaNodeStatus, lambdaNodes } from '../../src/api/lambda-node.ts';
import { type LambdaWorker, type LambdaWorkerStatus, lambdaWorkers } from '../../src/api/lambda-worker.ts';
import { leases } from '../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../src/kube/api/types.ts';

type Phase = NonNullable<LambdaWorkerStatus['phase']>;

/**
 * An agent in the controller's view, without an agent: a LambdaNode, its Lease, and the status of workers.
 */
export interface FakeNode {
  readonly name: string;
  /** Changes the status of the LambdaNode. */
  tell(status: Partial<LambdaNodeStatus>): Promise<void>;
  /** Begins to renew the Lease, every second. */
  live(): void;
  /** Stops renewing it. */
  die(): Promise<void>;
  /** Writes a worker's phase and Ready condition, as its agent does. */
  report(
    worker: LambdaWorker,
    phase: Phase,
    ready: { readonly status: 'True' | 'False'; readonly reason: string },
  ): Promise<void>;
  /** Tells that nothing is left of a worker that is being deleted. */
  cleanUp(worker: LambdaWorker): Promise<void>;
}

const stamp = (): string => `${new Date().toISOString().slice(0, 19)}Z`;

/** Registers a ready node with room for 1 GiB and 10 workers, whose Lease is being renewed. */
export async function startFakeNode(
  client: KubeClient,
  name: string,
  status: Partial<LambdaNodeStatus> = {},
  labels: Readonly<Record<string, string>> = {},
): Promise<FakeNode> {
  let beating: Promise<void> | undefined;
  let stop = Promise.withResolvers<void>();

  const tell = async (change: Partial<LambdaNodeStatus>): Promise<void> => {
    await client.patch<LambdaNode>(
      lambdaNodes,
      { name },
      { kind: 'merge', body: { status: change } },
      { subresource: 'status' },
    );
  };
  /** Takes the word on readiness back that the controller had while this agent was silent. */
  const reportReady = async (): Promise<void> => {
    const conditions = (await client.get(lambdaNodes, { name }, { deadlineMs: 5000 }))?.status?.conditions;
    if (isReadinessTaken(conditions)) {
      const ready = { type: 'Ready', status: 'True', lastTransitionTime: stamp(), reason: 'Ready', message: '' };
      await client.patch(
        lambdaNodes,
        { name },
        { kind: 'apply', fieldManager: 'esb-agent', body: { status: { conditions: [ready] } } },
        { subresource: 'status', deadlineMs: 5000 },
      );
    }
  };
  const beat = async (): Promise<void> => {
    while (true) {
      const renewTime = new Date().toISOString().replace('Z', '000Z');
      await client
        .patch(
          leases,
          { namespace: 'esb-system', name },
          { kind: 'apply', fieldManager: 'fake-agent', body: { spec: { holderIdentity: name, renewTime } } },
          { deadlineMs: 5000 },
        )
        .catch(() => undefined);
      await reportReady().catch(() => undefined);
      const pause = Promise.withResolvers<'again'>();
      const timer = setTimeout(() => pause.resolve('again'), 1000);
      const next = await Promise.race([pause.promise, stop.promise]);
      clearTimeout(timer);
      if (next !== 'again') {
        return;
      }
    }
  };
  const apply = async (worker: LambdaWorker, change: object): Promise<void> => {
    const { namespace = 'default', name: workerName } = worker.metadata;
    await client.patch(
      lambdaWorkers,
      { namespace, name: workerName },
      { kind: 'apply', fieldManager: 'esb-agent', body: { status: change } },
      { subresource: 'status' },
    );
  };

  await client.patch<LambdaNode>(
    lambdaNodes,
    { name },
    { kind: 'apply', fieldManager: 'esb-agent', body: { metadata: { labels } } },
  );
  await tell({
    capacity: { memoryMiB: 1536, milliCPU: 2_800, workers: 10 },
    conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: stamp(), reason: 'Ready', message: '' }],
    ...status,
  });
  const node: FakeNode = {
    name,
    tell,
    live() {
      if (beating === undefined) {
        stop = Promise.withResolvers<void>();
        beating = beat();
      }
    },
    async die() {
      stop.resolve();
      await beating;
      beating = undefined;
    },
    report: (worker, phase, ready) =>
      apply(worker, {
        phase,
        observedGeneration: worker.metadata.generation,
        conditions: [{ type: 'Ready', ...ready, message: '', lastTransitionTime: stamp() }],
      }),
    cleanUp: (worker) =>
      apply(worker, {
        phase: 'Terminating',
        // An agent goes on telling Ready, too.
        conditions: [
          ['Ready', 'False', 'Terminating'],
          ['CleanedUp', 'True', 'CleanedUp'],
        ].map(([type, status, reason]) => ({ type, status, reason, message: '', lastTransitionTime: stamp() })),
      }),
  };
  node.live();
  return node;
}
