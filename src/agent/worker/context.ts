import type { Clock } from '../../common/clock.ts';
import type { FairGate } from '../../common/fair-gate.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRuntime, WorkerAddress } from '../../runtime/contract/runtime.ts';
import type { QueueLimits } from '../invoke/call-queue.ts';
import type { WorkerLink } from '../invoke/emulator-client.ts';
import type { StampSource } from '../model/invocation-stamp.ts';
import type { Action } from '../model/plan.ts';
import type { SecretReader } from '../model/secret-reader.ts';
import type { WorkerView } from '../model/worker-state.ts';
import type { Answers } from './answers.ts';
import type { NodeCapacity } from './node-capacity.ts';
import type { PrecreatedContainers } from './precreated-containers.ts';
import type { RecordStore } from './record-store.ts';
import type { RolloutLimiter } from './rollout-limiter.ts';
import type { SetAside } from './set-aside.ts';

/** What bounds how much of one kind is done at once on a node. */
export interface WorkerGates {
  readonly starts: FairGate;
  readonly pauses: FairGate;
  readonly removals: FairGate;
}

/** What the actors of a node share. */
export interface WorkerContext {
  readonly runtime: ContainerRuntime;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly secrets: SecretReader;
  readonly capacity: NodeCapacity;
  readonly records: RecordStore;
  readonly stamps: StampSource;
  readonly gates: WorkerGates;
  readonly replacements: RolloutLimiter;
  readonly prepared: PrecreatedContainers;
  readonly marksFolder: string;
  readonly queueLimits: QueueLimits;
  readonly connect: (address: WorkerAddress, pid: number) => WorkerLink;
  /** Whether the last that was heard of the runtime is that it does not answer. */
  readonly runtimeDown: () => boolean;
  readonly onRuntime: (answers: boolean) => void;
  /** Which containers the runtime tells of. */
  readonly answers: Answers;
  /** Whether the runtime answers has to be looked at. */
  readonly onDoubt: () => void;
  /** A container cannot be removed. From now on it is no worker's, and what it takes stays taken. */
  readonly setAside: (container: Omit<SetAside, 'since'>) => void;
  readonly onAction: (kind: Action['kind'], durationMs: number, outcome: string) => void;
  /**
   * Makes a container this worker's: nobody else removes it, and hints of it go to the worker. Returns false for one that
   * another worker has.
   */
  readonly claim: (containerId: string, uid: string) => boolean;
  readonly unclaim: (containerId: string, uid: string) => void;
  readonly onChanged: (view: WorkerView) => void;
  /** Nothing is left of a worker that was released. */
  readonly onGone: (uid: string) => void;
}
