import type { Clock } from '../../common/clock.ts';
import type { FairGate } from '../../common/fair-gate.ts';
import type { Logger } from '../../common/logger.ts';
import type { WorkerInits } from '../../init/contract.ts';
import type { ContainerRuntime, WorkerAddress, WorkerIdentity } from '../../runtime/contract/runtime.ts';
import type { WorkerLink } from '../invoke/emulator-client.ts';
import type { StampSource } from '../invoke/in-flight-marker.ts';
import type { MarkStore } from '../invoke/mark-store.ts';
import type { InvocationResult } from '../model/invocation.ts';
import type { SecretReader } from '../model/secret-reader.ts';
import type { NodeFacts, QueueLimits } from '../step/state.ts';
import type { Answers } from './answers.ts';
import type { ContainerClaims } from './claims.ts';
import type { ImageResolver } from './image-resolver.ts';
import type { NodeCapacity } from './node-capacity.ts';
import type { ViewFeed } from './publisher.ts';
import type { RolloutLimiter } from './rollout-limiter.ts';
import type { SetAsides } from './set-aside.ts';
import type { Records } from './storage.ts';

/** Gates that bound the actions of one kind on a node. */
export interface WorkerGates {
  readonly starts: FairGate;
  readonly pauses: FairGate;
  readonly removals: FairGate;
}

/** Whether the runtime answers, as all workers of a node hear it. */
export interface RuntimeOutlook {
  /** The last that was heard of it is that it does not answer. */
  readonly isDown: boolean;
  heard(answers: boolean): void;
  /** Whether it answers has to be looked at. */
  doubt(): void;
}

/** Listener of the actions of the fleet, for the metrics. */
export interface FleetMetrics {
  /** @param outcome `ok` or the code of the error */
  action(kind: string, durationMs: number, outcome: string): void;
  /** A container that no resource claims was found, and then removed or not; with the reason why not. */
  orphan(outcome: 'found' | 'removed' | 'failed', containerId: string, why?: string): void;
}

/** Told how each call of a worker ended. On the path of every call. */
export type AnswerListener = (worker: WorkerIdentity, result: InvocationResult) => void;

/** Parts that the workers of a node share. */
export interface WorkerContext {
  readonly runtime: ContainerRuntime;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly secrets: SecretReader;
  readonly records: Records;
  readonly marks: MarkStore;
  readonly stamps: StampSource;
  readonly queueLimits: QueueLimits;
  readonly connect: (address: WorkerAddress, pid: number) => WorkerLink;
  readonly inits: Pick<WorkerInits, 'link' | 'subscribe'>;
  readonly metrics: FleetMetrics | undefined;
  readonly onAnswered: AnswerListener | undefined;
  /** Facts of the node for a worker that decides. */
  readonly facts: NodeFacts;
  readonly capacity: NodeCapacity;
  readonly claims: ContainerClaims;
  readonly gates: WorkerGates;
  readonly limiter: RolloutLimiter;
  readonly resolver: ImageResolver;
  readonly setAsides: SetAsides;
  /** Containers whose state the runtime could tell. */
  readonly answers: Answers;
  readonly outlook: RuntimeOutlook;
  readonly feed: ViewFeed;
}
