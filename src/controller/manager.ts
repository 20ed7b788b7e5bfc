import { isRetired, type LambdaNode, lambdaNodes as lambdaNodeType } from '../api/lambda-node.ts';
import type { LambdaWorker } from '../api/lambda-worker.ts';
import type { Clock, Timer } from '../common/clock.ts';
import { aborted, sleep } from '../common/deadline.ts';
import { messageOf } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import { TaskGroup } from '../common/task-group.ts';
import { keyText, objectKey } from '../kube/api/object-key.ts';
import type { CertificateSigningRequest, Node } from '../kube/api/resource-types.ts';
import type { CacheEvent, Informer, KubeClient } from '../kube/api/types.ts';
import { createReconciler, type Reconciler, type ReconcilerMetrics } from '../kube/controller/reconciler.ts';
import { type EventSink, referenceTo } from '../kube/events/event-recorder.ts';
import { CaController } from './certificates/ca-controller.ts';
import { type RequestStanding, signRequest } from './certificates/csr-signer.ts';
import type { ControllerMetrics } from './metrics/controller-metrics.ts';
import { HoldController, type HoldSource } from './reservation/hold-controller.ts';
import { removeHoldPods } from './reservation/removal.ts';
import { AssignmentCache } from './scheduling/assignment-cache.ts';
import { readLeases } from './scheduling/lease-reader.ts';
import { NodeLiveness } from './scheduling/liveness.ts';
import { NodeGarbageCollector } from './scheduling/node-gc.ts';
import { NodeSnapshot } from './scheduling/node-snapshot.ts';
import { nodeFingerprint, placementFingerprint } from './scheduling/node-view.ts';
import { publishRanges } from './scheduling/range-publisher.ts';
import { LeftNodes } from './workers/left-nodes.ts';
import { WorkerReconciler } from './workers/reconciler.ts';

/** Index of the workers' cache: by the node that they are assigned to. */
export const NODE_INDEX = 'node';

export interface LeaderOptions {
  /** Fenced: refuses to write once another controller leads. */
  readonly client: KubeClient;
  /** Reads the agents' Leases, without waiting for other requests. */
  readonly leaseClient: Pick<KubeClient, 'list'>;
  readonly systemNamespace: string;
  /** Synced already; {@link NODE_INDEX} and FUNCTION_INDEX are among its indexes. */
  readonly workers: Informer<LambdaWorker>;
  /** Synced; LEAVING_INDEX is among its indexes. */
  readonly lambdaNodes: Informer<LambdaNode>;
  readonly nodes: Informer<Node>;
  readonly requests: Informer<CertificateSigningRequest>;
  /** Absent where no hold Pods are to be made. */
  readonly holds?: HoldSource | undefined;
  readonly events: EventSink;
  readonly metrics: ControllerMetrics;
  readonly reconcilerMetrics: ReconcilerMetrics;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told of this term's liveness of nodes, for metrics. */
  readonly onLiveness: (liveness: NodeLiveness) => void;
}

/** Workers at a time; as many requests as the client has under way. */
const CONCURRENCY = 32;
/** Changes of the nodes within this time lead to one new look at the workers that wait for one. */
const WAKE_AFTER_MS = 200;
/** The same for each worker that waits: a look takes some 0.05 ms, so that many of them never take more than a quarter of the time. */
const WAKE_EACH_MS = 0.2;
/** Milliseconds between two looks at the client authority, and after a look that failed. */
const AUTHORITY_EVERY_MS = 60_000;
const AUTHORITY_RETRY_MS = 2_000;
/** When a request is looked at again that waits for the authority, or for somebody who approves it or lets its sender serve. */
const REQUEST_REQUEUE_MS: Readonly<Record<Exclude<RequestStanding, 'settled'>, number>> = {
  waits: 1_000,
  unapproved: 15_000,
};

export function nodeIndex(worker: LambdaWorker): readonly string[] {
  const name = worker.status?.assignment?.nodeName;
  return name === undefined ? [] : [name];
}

function namesOf(change: CacheEvent<LambdaNode> | CacheEvent<Node>): string {
  return change.object.metadata.name;
}

/** Whether a change of the Node may change what is known of its workers: its coming, its end, its taints, its cordon. */
function concernsWorkers(change: CacheEvent<Node>): boolean {
  return change.kind !== 'updated' || nodeFingerprint(change.object) !== nodeFingerprint(change.old);
}

/**
 * One term as leader: everything that writes. Nothing of it outlives the term, so that the next one begins with what
 * the API server says.
 *
 * @returns when `signal` has fired and all work has ended
 */
export async function runLeader(options: LeaderOptions, signal: AbortSignal): Promise<void> {
  const { client, systemNamespace, workers, lambdaNodes, nodes, requests, clock, logger } = options;
  const tasks = new TaskGroup((task, error) => logger.error({ err: error, task }, 'task failed'));
  const ledger = new AssignmentCache();
  const liveness = new NodeLiveness();
  options.onLiveness(liveness);
  let holds: HoldController | undefined;
  const directory = new NodeSnapshot({
    client,
    lambdaNodes: lambdaNodes.cache,
    nodes: nodes.cache,
    liveness,
    ledger,
    closures: { closureOf: (node) => holds?.closureOf(node) },
    clock,
  });
  const left = new LeftNodes({ lambdaNodes: lambdaNodes.cache, directory, clock });
  const reconciler = new WorkerReconciler({ ...options, workers: workers.cache, directory, ledger, left });
  const sweeper = new NodeGarbageCollector({ ...options, lambdaNodes: lambdaNodes.cache, directory, ledger });
  const authority = new CaController({ client, systemNamespace, clock, logger });

  const queue: Reconciler = createReconciler({
    name: 'workers',
    workers: CONCURRENCY,
    reconcile: (key, context) => reconciler.reconcile(key, { signal: context.signal }),
    logger,
    clock,
    metrics: options.reconcilerMetrics,
  });
  const nodeQueue: Reconciler = createReconciler({
    name: 'nodes',
    workers: 1,
    async reconcile(name, context) {
      await sweeper.sweep(name, { signal: context.signal });
      return {};
    },
    logger,
    clock,
    metrics: options.reconcilerMetrics,
  });
  const requestQueue: Reconciler = createReconciler({
    name: 'certificate-requests',
    workers: 1,
    async reconcile(name, context) {
      const request = requests.cache.get({ name });
      if (request === undefined) {
        return {};
      }
      const standing = await signRequest(
        request,
        {
          client,
          authority: () => authority.current,
          clock,
          logger,
          onSigned: () => options.metrics.signed(),
        },
        { signal: context.signal },
      );
      return standing === 'settled' ? {} : { requeueAfterMs: REQUEST_REQUEUE_MS[standing] };
    },
    logger,
    clock,
    metrics: options.reconcilerMetrics,
  });

  let waking: Timer | undefined;
  const wakeWaiting = (): void => {
    waking ??= clock.setTimer(
      () => {
        waking = undefined;
        for (const key of reconciler.waiting()) {
          queue.add(key);
        }
      },
      Math.max(WAKE_AFTER_MS, WAKE_EACH_MS * reconciler.waiting().length),
    );
  };
  const lookAtAwaiting = (): void => {
    for (const key of reconciler.awaiting()) {
      queue.add(key);
    }
  };
  const lookAtWorkersOf = (node: string): void => {
    for (const worker of workers.cache.byIndex(NODE_INDEX, node)) {
      queue.add(keyText(objectKey(worker)));
    }
    lookAtAwaiting();
  };

  if (options.holds !== undefined) {
    holds = new HoldController({
      ...options,
      source: options.holds,
      metrics: options.reconcilerMetrics,
      lambdaNodes: lambdaNodes.cache,
      directory,
      ledger,
      onClosure(node) {
        lookAtWorkersOf(node);
        wakeWaiting();
      },
    });
  }

  const unsubscribe = [
    workers.subscribe((change) => {
      const key = keyText(objectKey(change.object));
      const uid = change.object.metadata.uid ?? '';
      let freed: string | undefined;
      left.noteWorker(change);
      if (change.kind === 'deleted') {
        freed = ledger.forget(uid);
        reconciler.forget(key, uid);
      } else {
        freed = ledger.observe(change.object);
        queue.add(key);
      }
      holds?.noteWorker(change);
      const before = (change.kind === 'updated' ? change.old : change.object).status?.assignment?.nodeName;
      if (before !== undefined && ledger.load(before).assigned === 0) {
        nodeQueue.add(before);
      }
      if (freed !== undefined) {
        wakeWaiting();
      }
    }),
    lambdaNodes.subscribe((change) => {
      const isSame =
        change.kind === 'updated' && placementFingerprint(change.object) === placementFingerprint(change.old);
      const name = namesOf(change);
      holds?.noteNode(change);
      if (!isSame) {
        wakeWaiting();
        holds?.look(name);
      }
      if (change.kind === 'deleted') {
        directory.forget(name);
      }
      if (left.noteNode(change)) {
        lookAtAwaiting();
      }
      if (change.kind !== 'updated' || isRetired(change.object) !== isRetired(change.old)) {
        lookAtWorkersOf(name);
      }
    }),
    nodes.subscribe((change) => {
      if (concernsWorkers(change)) {
        const name = namesOf(change);
        directory.noteTaints(name, change.kind === 'deleted' ? undefined : change.object);
        lookAtWorkersOf(name);
        holds?.look(name);
        nodeQueue.add(name);
        wakeWaiting();
      }
    }),
    requests.subscribe((change) => {
      if (change.kind !== 'deleted') {
        requestQueue.add(change.object.metadata.name);
      }
    }),
  ];

  const onLivenessChange = (changed: readonly string[]): void => {
    for (const name of changed) {
      const state = liveness.of(name);
      logger.info({ node: name, liveness: state }, 'node liveness changed');
      const node = lambdaNodes.cache.get({ name });
      if (node !== undefined && state === 'lost') {
        options.events.record({
          regarding: referenceTo(lambdaNodeType, node),
          type: 'Warning',
          reason: 'NodeLost',
          action: 'Watch',
          note: 'its Lease is not renewed; its workers are served elsewhere where they can be',
        });
      }
      lookAtWorkersOf(name);
      holds?.look(name);
      nodeQueue.add(name);
    }
    wakeWaiting();
  };

  const stopped = aborted(signal);
  // First, so that nobody is placed on a node that is being drained.
  holds?.start();
  queue.start();
  nodeQueue.start();
  requestQueue.start();
  tasks.run('leases', (taskSignal) =>
    readLeases(
      {
        client: options.leaseClient,
        systemNamespace,
        liveness,
        nodeNames: () => lambdaNodes.cache.list().map((node) => node.metadata.name),
        onChange: onLivenessChange,
        clock,
        logger,
      },
      taskSignal,
    ),
  );
  if (options.holds === undefined) {
    tasks.run('holds', (taskSignal) =>
      removeHoldPods({ client, systemNamespace, clock, logger }, taskSignal),
    );
  }
  tasks.run('ranges', (taskSignal) =>
    publishRanges({ client, systemNamespace, nodes: nodes.cache, clock, logger }, taskSignal),
  );
  tasks.run('authority', (taskSignal) => keepAuthority(authority, clock, logger, taskSignal));
  try {
    await stopped;
  } finally {
    waking?.cancel();
    for (const end of unsubscribe) {
      end();
    }
    await Promise.all([queue.stop(), nodeQueue.stop(), requestQueue.stop(), holds?.stop(), tasks.stop()]);
  }
}

async function keepAuthority(
  authority: CaController,
  clock: Clock,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    let delayMs = AUTHORITY_EVERY_MS;
    try {
      await authority.refresh({ signal });
    } catch (error) {
      signal.throwIfAborted();
      logger.warn({ error: messageOf(error) }, 'client authority could not be looked after');
      delayMs = AUTHORITY_RETRY_MS;
    }
    await sleep(clock, delayMs, signal);
  }
}
