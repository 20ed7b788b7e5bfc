import { isTrue, nodeConditions } from '../api/condition.ts';
import { isRetired, type LambdaNode, lambdaNodes as lambdaNodeType } from '../api/lambda-node.ts';
import type { LambdaWorker } from '../api/lambda-worker.ts';
import type { Timer } from '../common/clock.ts';
import { aborted, type CallOptions } from '../common/deadline.ts';
import { messageOf } from '../common/errors.ts';
import { repeat } from '../common/repeat.ts';
import { TaskGroup } from '../common/task-group.ts';
import type { CertifiedKey } from '../common/x509.ts';
import { keyText, objectKey } from '../kube/api/object-key.ts';
import type { Node } from '../kube/api/resource-types.ts';
import type { CacheEvent } from '../kube/api/types.ts';
import {
  createReconciler,
  type ReconcileResult,
  type Reconciler,
  type ReconcilerOptions,
  type Watch,
  watchOf,
} from '../kube/controller/reconciler.ts';
import { referenceTo } from '../kube/events/event-series.ts';
import { CaController } from './certificates/ca-controller.ts';
import { requeueAfter, signRequest } from './certificates/csr-signer.ts';
import { FunctionController } from './functions/function-controller.ts';
import type { LeaderOptions } from './leader-options.ts';
import { LoadBook } from './load/load-book.ts';
import { serveLoad } from './load/serve-load.ts';
import { AGENT_NODE_INDEX, isAgentStarting } from './nodes/agent-pod.ts';
import { type LeaseReaderOptions, readLeases, readLeasesOnce } from './nodes/lease-reader.ts';
import type { ReadNode } from './nodes/liveness.ts';
import { lifeText } from './nodes/node-state.ts';
import { Silence } from './nodes/silence.ts';
import { StateKeeper } from './nodes/state-keeper.ts';
import { QuotaController } from './quota/quota-controller.ts';
import { DemandKeeper } from './reservation/demand-keeper.ts';
import { HoldController } from './reservation/hold-controller.ts';
import { removeHoldPods } from './reservation/removal.ts';
import { AssignmentCache } from './scheduling/assignment-cache.ts';
import { sweepNode } from './scheduling/node-gc.ts';
import { NodeSnapshot } from './scheduling/node-snapshot.ts';
import { nodeFingerprint, placementFingerprint } from './scheduling/node-view.ts';
import { publishRanges } from './scheduling/range-publisher.ts';
import { LeftNodes } from './workers/left-nodes.ts';
import { NODE_INDEX } from './workers/node-index.ts';
import { WorkerReconciler } from './workers/reconciler.ts';
import { ShareKeeper } from './workers/share-keeper.ts';

/** Workers at a time; the same number of requests as the client has under way. */
const CONCURRENCY = 32;
/** Milliseconds of changes of the nodes that lead to one look at the workers that wait for a node. */
const WAKE_AFTER_MS = 200;
/** Milliseconds for each waiting worker: a look takes some 0.05 ms, so looks take at most a quarter of the time. */
const WAKE_EACH_MS = 0.2;
/** Milliseconds that the first reading of all Leases may take; workers are placed without one where it takes longer. */
const FIRST_READING_MS = 5_000;
/** Milliseconds between two looks at the client authority, and after a look that failed. */
const AUTHORITY_EVERY_MS = 60_000;
const AUTHORITY_RETRY_MS = 2_000;

/**
 * Leads for one term: runs everything that writes. Nothing outlives the term; the next one begins with the state in the
 * API server.
 *
 * @returns when `signal` has fired and all work has ended
 */
export async function runLeader(options: LeaderOptions, signal: AbortSignal): Promise<void> {
  const term = new Term(options);
  try {
    await term.start(signal);
    await aborted(signal);
  } finally {
    await term.stop();
  }
}

/** The reconcilers of one term, and the changes that each of them has to look at. */
class Term {
  readonly #options: LeaderOptions;
  readonly #tasks: TaskGroup;
  readonly #assignments = new AssignmentCache();
  readonly #snapshot: NodeSnapshot;
  readonly #left: LeftNodes;
  readonly #silence = new Silence();
  readonly #shares: ShareKeeper;
  readonly #reconciler: WorkerReconciler;
  readonly #authority: CaController;
  readonly #workerQueue: Reconciler;
  readonly #nodeQueue: Reconciler;
  readonly #requestQueue: Reconciler;
  readonly #holds: HoldController | undefined;
  readonly #states: StateKeeper;
  readonly #quotas: QuotaController;
  readonly #functions: FunctionController;
  readonly #load: LoadBook;
  #unsubscribe: readonly (() => void)[] = [];
  #waking: Timer | undefined;

  constructor(options: LeaderOptions) {
    const { client, clock, liveness, logger } = options;
    const lambdaNodes = options.lambdaNodes.cache;
    const assignments = this.#assignments;
    this.#options = options;
    this.#tasks = new TaskGroup((task, error) => logger.error({ err: error, task }, 'task failed'));
    const closures = {
      closureOf: (node: string) => this.#holds?.closureOf(node),
      becauseOf: (node: string) => this.#holds?.becauseOf(node),
      isGrowing: (node: string) => this.#holds?.isGrowing(node) === true,
    };
    const snapshot = new NodeSnapshot({
      client,
      lambdaNodes,
      nodes: options.nodes.cache,
      liveness,
      assignments,
      closures,
      clock,
    });
    this.#states = new StateKeeper({ ...options, lambdaNodes, closures, metrics: options.reconcilerMetrics });
    this.#snapshot = snapshot;
    this.#left = new LeftNodes({ lambdaNodes, snapshot, clock });
    this.#shares = new ShareKeeper({
      workers: options.workers.cache,
      assignments,
      snapshot,
      silence: this.#silence,
      onLapse: (keys) => this.#lookAt(keys),
      clock,
    });
    this.#quotas = new QuotaController({
      ...options,
      assignments,
      metrics: options.reconcilerMetrics,
      onRoom: () => this.#wakeWaiting(),
      onBounds: (namespace) => this.#lookAtWorkersIn(namespace),
    });
    this.#load = new LoadBook(clock, (change) => this.#functions.noteLoad(change));
    this.#functions = new FunctionController({ ...options, load: this.#load, metrics: options.reconcilerMetrics });
    this.#reconciler = new WorkerReconciler({
      ...options,
      shares: this.#shares,
      quotas: this.#quotas.book,
      onRoom: () => this.#wakeWaiting(),
      workers: options.workers.cache,
      snapshot,
      assignments,
      left: this.#left,
    });
    this.#authority = new CaController(options);
    const queue = (
      name: string,
      workers: number,
      reconcile: ReconcilerOptions['reconcile'],
      watches: readonly Watch[] = [],
    ): Reconciler =>
      createReconciler({ name, workers, watches, reconcile, logger, clock, metrics: options.reconcilerMetrics });
    const ofRequests = watchOf(options.requests, ({ kind, object }) =>
      kind === 'deleted' ? [] : [object.metadata.name],
    );
    this.#workerQueue = queue('workers', CONCURRENCY, (key, call) => this.#reconciler.reconcile(key, call));
    this.#nodeQueue = queue('nodes', 1, async (name, call) => {
      await sweepNode(name, { ...options, lambdaNodes, snapshot, assignments }, call);
      return {};
    });
    this.#requestQueue = queue('certificate-requests', 1, (name, call) => this.#sign(name, call), [ofRequests]);
    this.#holds =
      options.holds === undefined
        ? undefined
        : new HoldController({
            ...options,
            ...options.holds,
            metrics: options.reconcilerMetrics,
            lambdaNodes,
            workersOf: (node) => options.workers.cache.byIndex(NODE_INDEX, node),
            snapshot,
            assignments,
            onClosure: (node) => {
              this.#states.look(node);
              this.#lookAtWorkersOf(node);
              this.#wakeWaiting();
            },
          });
  }

  async start(signal: AbortSignal): Promise<void> {
    const { lambdaNodes, logger, nodes, workers } = this.#options;
    try {
      // First, so that no worker is placed on a node that died while no controller led.
      await readLeasesOnce(this.#leaseReading(), { signal, deadlineMs: FIRST_READING_MS });
    } catch (error) {
      signal.throwIfAborted();
      logger.warn({ error: messageOf(error) }, 'leases could not be read at the beginning of the term');
    }
    this.#unsubscribe = [
      workers.subscribe((change) => this.#workerChanged(change)),
      lambdaNodes.subscribe((change) => this.#lambdaNodeChanged(change)),
      nodes.subscribe((change) => this.#nodeChanged(change)),
    ];
    // First, so that no worker is assigned beyond a quota.
    this.#quotas.start();
    // First, so that no worker is placed on a node that is being drained.
    this.#holds?.start();
    this.#workerQueue.start();
    this.#functions.start();
    this.#nodeQueue.start();
    this.#states.start();
    this.#requestQueue.start();
    this.#startTasks();
  }

  async stop(): Promise<void> {
    this.#waking?.cancel();
    for (const end of this.#unsubscribe) {
      end();
    }
    const queues = [this.#workerQueue, this.#nodeQueue, this.#requestQueue];
    await Promise.all([
      ...queues.map((queue) => queue.stop()),
      this.#holds?.stop(),
      this.#states.stop(),
      this.#quotas.stop(),
      this.#functions.stop(),
      this.#tasks.stop(),
    ]);
  }

  #startTasks(): void {
    const { clock, loadAddress: address, loadPlace: place, holds, logger, metrics, nodes } = this.#options;
    this.#tasks.run('leases', (signal) => readLeases(this.#leaseReading(), signal));
    if (holds === undefined) {
      this.#tasks.run('holds', (signal) => removeHoldPods(this.#options, signal));
    } else {
      const keeper = new DemandKeeper({
        ...this.#options,
        ...holds,
        lambdaNodes: this.#options.lambdaNodes.cache,
        nodes: nodes.cache,
        snapshot: this.#snapshot,
        homeless: () => this.#reconciler.homeless(),
        onOffer: (node) => this.#holds?.reopen(node),
      });
      this.#tasks.run('demand', (signal) => keeper.run(signal));
    }
    this.#tasks.run('ranges', (signal) => publishRanges({ ...this.#options, nodes: nodes.cache }, signal));
    const load = { place, address, book: this.#load, authority: this.#authority, clock, logger, metrics };
    this.#tasks.run('load of gateways', (signal) => serveLoad(load, signal));
    const onError = (error: unknown): void =>
      logger.warn({ error: messageOf(error) }, 'client authority could not be refreshed');
    const period = { clock, everyMs: AUTHORITY_EVERY_MS, retryMs: AUTHORITY_RETRY_MS, onError };
    this.#tasks.run('authority', (signal) => repeat(period, signal, () => this.#authority.refresh({ signal })));
  }

  #leaseReading(): LeaseReaderOptions {
    return {
      ...this.#options,
      client: this.#options.leaseClient,
      silence: this.#silence,
      nodes: () => this.#options.lambdaNodes.cache.list().map(({ metadata }) => this.#readNode(metadata.name)),
      onChange: (changed) => this.#livenessChanged(changed),
    };
  }

  #readNode(name: string): ReadNode {
    const { agentPods, nodes } = this.#options;
    const pods = agentPods.cache.byIndex(AGENT_NODE_INDEX, name);
    return { name, ...this.#snapshot.situation(name), agentStarting: isAgentStarting(pods, nodes.cache.get({ name })) };
  }

  async #sign(name: string, call: CallOptions): Promise<ReconcileResult> {
    const { metrics, requests } = this.#options;
    const request = requests.cache.get({ name });
    if (request === undefined) {
      return {};
    }
    const authority = (): CertifiedKey | undefined => this.#authority.current;
    const onSigned = (): void => metrics.signed();
    const standing = await signRequest(request, { ...this.#options, authority, onSigned }, call);
    return requeueAfter(standing);
  }

  #workerChanged(change: CacheEvent<LambdaWorker>): void {
    const key = keyText(objectKey(change.object));
    const uid = change.object.metadata.uid ?? '';
    const before = this.#assignments.usage(change.object.metadata.namespace ?? '');
    let freed: string | undefined;
    this.#left.noteWorker(change);
    this.#lookAt(this.#shares.noteWorker(change));
    if (change.kind === 'deleted') {
      freed = this.#assignments.forget(uid);
      this.#reconciler.forget(key, uid);
    } else {
      freed = this.#assignments.observe(change.object);
      this.#reconciler.note(change.object);
      this.#workerQueue.add(key);
    }
    this.#quotas.noteWorker(change, before);
    this.#holds?.noteWorker(change);
    const node = (change.kind === 'updated' ? change.old : change.object).status?.assignment?.nodeName;
    if (node !== undefined && this.#assignments.load(node).assigned === 0) {
      this.#nodeQueue.add(node);
    }
    if (freed !== undefined) {
      this.#wakeWaiting();
    }
  }

  #lambdaNodeChanged(change: CacheEvent<LambdaNode>): void {
    const isSame =
      change.kind === 'updated' && placementFingerprint(change.object) === placementFingerprint(change.old);
    const { name } = change.object.metadata;
    this.#holds?.noteNode(change);
    this.#states.look(name);
    if (!isSame) {
      this.#wakeWaiting();
      this.#holds?.look(name);
    }
    if (change.kind === 'deleted') {
      this.#snapshot.forget(name);
    }
    if (this.#left.noteNode(change)) {
      this.#lookAtAwaiting();
    }
    if (change.kind !== 'updated' || isRetired(change.object) !== isRetired(change.old)) {
      this.#lookAtWorkersOf(name);
    }
  }

  #nodeChanged(change: CacheEvent<Node>): void {
    if (change.kind === 'updated' && nodeFingerprint(change.object) === nodeFingerprint(change.old)) {
      return;
    }
    const { name } = change.object.metadata;
    this.#snapshot.noteTaints(name, change.kind === 'deleted' ? undefined : change.object);
    this.#nodeMatters(name);
    this.#wakeWaiting();
  }

  #livenessChanged(changed: readonly string[]): void {
    const { events, lambdaNodes, liveness, logger } = this.#options;
    for (const name of changed) {
      const life = liveness.life(name);
      logger.info({ node: name, liveness: life }, 'node liveness changed');
      const node = lambdaNodes.cache.get({ name });
      const note = lifeText(life);
      const isLost = life.kind === 'lost';
      const isTold = isTrue(node?.status?.conditions, isLost ? nodeConditions.lost : nodeConditions.unreachable);
      if (node !== undefined && note !== undefined && !isTold) {
        const reason = isLost ? 'NodeLost' : 'NodeUnreachable';
        const regarding = referenceTo(lambdaNodeType, node);
        events.record({ regarding, type: 'Warning', reason, action: 'Watch', note });
      }
      this.#states.look(name);
      this.#nodeMatters(name);
    }
    this.#wakeWaiting();
  }

  /** Looks at everything that depends on whether a node is fit. */
  #nodeMatters(name: string): void {
    this.#lookAtWorkersOf(name);
    this.#holds?.look(name);
    this.#nodeQueue.add(name);
  }

  #lookAtWorkersOf(node: string): void {
    this.#lookAt(this.#options.workers.cache.byIndex(NODE_INDEX, node).map((worker) => keyText(objectKey(worker))));
    this.#lookAtAwaiting();
  }

  #lookAtWorkersIn(namespace: string): void {
    const workers = this.#options.workers.cache.list().filter(({ metadata }) => metadata.namespace === namespace);
    this.#lookAt(workers.map((worker) => keyText(objectKey(worker))));
  }

  #lookAtAwaiting(): void {
    this.#lookAt(this.#reconciler.awaiting());
  }

  #lookAt(keys: readonly string[]): void {
    for (const key of keys) {
      this.#workerQueue.add(key);
    }
  }

  /** Looks soon at the workers that wait for a node. */
  #wakeWaiting(): void {
    this.#waking ??= this.#options.clock.setTimer(
      () => {
        this.#waking = undefined;
        this.#reconciler.forgetRefusals();
        for (const key of this.#reconciler.waiting()) {
          this.#workerQueue.add(key);
        }
      },
      Math.max(WAKE_AFTER_MS, WAKE_EACH_MS * this.#reconciler.waiting().length),
    );
  }
}
