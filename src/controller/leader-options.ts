import type { EventReason } from '../api/condition.ts';
import type { LambdaFunction } from '../api/lambda-function.ts';
import type { LambdaNode } from '../api/lambda-node.ts';
import type { LambdaQuota } from '../api/lambda-quota.ts';
import type { LambdaVersion } from '../api/lambda-version.ts';
import type { LambdaWorker } from '../api/lambda-worker.ts';
import type { Clock } from '../common/clock.ts';
import type { CallOptions } from '../common/deadline.ts';
import type { Logger } from '../common/logger.ts';
import type { CertificateSigningRequest, Node, Pod } from '../kube/api/resource-types.ts';
import type { Informer, KubeClient, ObjectKey } from '../kube/api/types.ts';
import type { ReconcilerMetrics } from '../kube/controller/reconciler.ts';
import type { EventSink } from '../kube/events/event-recorder.ts';
import type { UrlSource } from './functions/url-source.ts';
import type { LoadAddress, LoadPlace } from './load/serve-load.ts';
import type { ControllerMetrics } from './metrics/controller-metrics.ts';
import type { NodeLiveness } from './nodes/liveness.ts';
import type { HoldSource } from './reservation/hold-controller.ts';
import type { PlacementStrategy } from './scheduling/place.ts';

/** The parts that one term of leadership works with. */
export interface LeaderOptions {
  /** Fenced: refuses to write once another controller leads. Writes through it show in the caches at once. */
  readonly client: KubeClient;
  /** Has the caches show what became of writes without an answer, to an object and to those that are named after it. */
  readonly settle: (key: ObjectKey, call: CallOptions) => Promise<void>;
  /** Reads the agents' Leases, without waiting for other requests. */
  readonly leaseClient: Pick<KubeClient, 'list'>;
  readonly systemNamespace: string;
  /** Synced already; NODE_INDEX, FUNCTION_INDEX, QUEUE_INDEX and OWNER_INDEX are among its indexes. */
  readonly workers: Informer<LambdaWorker>;
  /** Synced; LEAVING_INDEX is among its indexes. */
  readonly lambdaNodes: Informer<LambdaNode>;
  readonly nodes: Informer<Node>;
  /** Synced; QUOTA_INDEX is among its indexes. */
  readonly quotas: Informer<LambdaQuota>;
  /** Synced. */
  readonly functions: Informer<LambdaFunction>;
  /** Synced; OWNER_INDEX and ORPHAN_INDEX are among its indexes. */
  readonly versions: Informer<LambdaVersion>;
  /** The URLs of functions; undefined where gateways serve none. */
  readonly urls: UrlSource | undefined;
  readonly requests: Informer<CertificateSigningRequest>;
  /** Pods of agents; AGENT_NODE_INDEX is among its indexes. Empty where agents run outside of Pods. */
  readonly agentPods: Informer<Pod>;
  readonly strategy: PlacementStrategy;
  /** Where gateways tell their load. */
  readonly loadPlace: LoadPlace;
  readonly loadAddress: LoadAddress;
  /** Undefined where no hold Pods are made. */
  readonly holds: HoldSource | undefined;
  /** Of this term: knows what the leader before has found. */
  readonly liveness: NodeLiveness;
  readonly events: EventSink<EventReason>;
  readonly metrics: ControllerMetrics;
  readonly reconcilerMetrics: ReconcilerMetrics;
  readonly clock: Clock;
  readonly logger: Logger;
}
